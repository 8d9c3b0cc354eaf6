"""The demos: the line from archive to report, and the loop that closes it."""

from cxrgaze_ray.demo.line import DemoResult, run_demo
from cxrgaze_ray.demo.loop import LoopResult, run_loop_demo
from cxrgaze_ray.demo.steps import DemoHooks

__all__ = ["DemoHooks", "DemoResult", "LoopResult", "run_demo", "run_loop_demo"]
