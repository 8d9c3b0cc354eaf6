from cxrgaze_ray.__main__ import run

run()
