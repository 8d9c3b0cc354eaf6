"""The process of a command line, as `cxrgaze` or ``python -m cxrgaze_ray``."""

from cxrgaze_ray.cli import main
from cxrgaze_ray.cli.leaving import leaves_at_once


def run() -> None:
    """Run the command line as this process's whole work."""
    with leaves_at_once():
        main()


if __name__ == "__main__":
    run()
