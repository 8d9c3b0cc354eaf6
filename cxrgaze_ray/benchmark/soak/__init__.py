"""A service under load while things fail: what it promises, and whether it kept it.

`requests` is what clients send, `traffic` sends it, `cluster` is what the service runs on and who is killed there,
`faults` is the order of events, `promises` judges what was noted, `soak` puts it together.
"""

from cxrgaze_ray.benchmark.soak.soak import SoakFigures, bench_soak

__all__ = ["SoakFigures", "bench_soak"]
