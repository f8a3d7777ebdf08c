"""python -m phypan, and the command phypan."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line; the exit code: 0 ok, 1 error, 2 usage or unsupported."""
    from phypan.cli import main as run

    try:
        return run()
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
