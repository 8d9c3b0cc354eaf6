"""The demos: the line from archive to report, and the loop that closes it.

`run_demo` and `run_loop_demo` take every step that a user would, on phantoms, through the functions that the commands
call. They know nothing of the terminal: `DemoHooks` carries what they say.
"""

from cxrgaze_ray.demo.line import DemoResult, run_demo
from cxrgaze_ray.demo.loop import LoopResult, run_loop_demo
from cxrgaze_ray.demo.steps import DemoHooks

__all__ = ["DemoHooks", "DemoResult", "LoopResult", "run_demo", "run_loop_demo"]
