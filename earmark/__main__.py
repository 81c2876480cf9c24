"""``python -m earmark`` and the command ``earmark``."""

import sys

from earmark.cli import main as run


def main() -> None:
    """Runs the command line and exits with its code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
