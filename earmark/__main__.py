"""``python -m earmark`` and the command ``earmark``."""

import os
import sys
from contextlib import nullcontext, redirect_stdout

from earmark.cli import main as run


def main() -> None:
    """Runs the command line and exits with its code."""
    # Of several processes, as torchrun starts them, the first one speaks.
    first = os.environ.get("RANK", "0") == "0"
    try:
        with nullcontext() if first else redirect_stdout(None):
            code = run()
    except ChildProcessError as error:
        print(f"earmark: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
