from cxrgaze_ray.cli import main

main()
