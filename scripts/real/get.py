"""Get or build what `make real` needs, from Debian's packages alone.

    python scripts/real/get.py            everything that is not there yet
    python scripts/real/get.py NAME...    these, and what they need
    python scripts/real/get.py --list     what there is, and what it took

It all goes to .cache/real-kernels, or to real-kernels in PHYPAN_CACHE. It can be stopped and
started again at any time.
"""

from __future__ import annotations

import argparse
import sys
import time

import kernels
import tools
from debian import ArchiveError
from workshop import Workshop, size

PIECES = (*tools.PIECES, *kernels.PIECES)


def main() -> int:
    """Get what is asked for; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    shop = Workshop(PIECES)
    if arguments.list:
        for piece in PIECES:
            print(f"{piece.name:22}{piece.help}: {shop.described(piece.name)}")
        return 0
    unknown = [name for name in arguments.names if name not in shop.pieces]
    if unknown:
        parser.error(f"no piece {', '.join(unknown)}: see --list")
    began, failed = time.monotonic(), []
    for name in arguments.names or [piece.name for piece in PIECES if piece.default]:
        try:
            shop.get(name)
        except ArchiveError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
    seconds = time.monotonic() - began
    print(f"{size(shop.folder) >> 20} MiB in {shop.folder}, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
