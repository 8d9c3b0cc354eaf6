"""``python -m cxrgaze_ray``: the same as `cxrgaze`."""

from cxrgaze_ray.cli import main

main()
