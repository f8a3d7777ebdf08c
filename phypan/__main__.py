"""python -m phypan, and the command phypan."""

from __future__ import annotations

import io
import os
import sys


def main() -> int:
    """Run the command line; the exit code: 0 ok, 1 error, 2 usage or unsupported."""
    from phypan.cli import main as run

    _prepare_output()
    try:
        code = run()
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        _discard_output()
        return 1
    except OSError as error:  # of our own output: those of files have become phypan's errors
        _discard_output()
        print(f"phypan: standard output: {error.strerror or error}", file=sys.stderr)
        return 1


def _prepare_output() -> None:
    if sys.stdout is None:  # closed: without this, 1 would be the descriptor of the next file
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a dump may hold what the locale cannot show
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Have the interpreter find no more fault with standard output when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
