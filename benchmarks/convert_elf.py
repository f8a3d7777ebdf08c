"""Converting a RAM image of 1.25 GiB to ELF, next to `cp --sparse=always` of the same file.

Whole processes, start-up included, in turn; phypan makes its file durable before it names it, and
cp is followed by `sync FILE` for that. Three fillings: a tenth in use as in a real one, half of it,
and all. Then peak memory, for that size and for a sparse image of 64 GiB.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

import phypan
from benchmarks._measure import alternate, command

SIZE = 1280 << 20
PHYPAN = [sys.executable, "-m", "phypan"]


def make(folder: Path, share: float, memory: str = "1280M") -> Path:
    """A crashed partition whose memory above the save area is in use for `share` of its pages."""
    phypan.simulate(folder, memory=memory, boot_memory="320M", cpus=2)
    numbers = random.Random(1)
    block = numbers.randbytes(1 << 20)
    with (folder / "ram").open("r+b") as ram:
        for start in range(0x2C000000, SIZE - (1 << 20), 1 << 20):
            if numbers.random() < share:
                ram.seek(start)
                ram.write(block)
    return folder


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("PHYPAN_BENCH", None)) as scratch:
        for share in (0.1, 0.5, 1.0):
            folder = make(Path(scratch) / f"crashed-{share}", share)
            print(f"convert to ELF, {share:.0%} in use, against cp --sparse=always and sync")
            alternate(partial(convert, folder), partial(copy, folder))
            print("the same against cp alone, which leaves it to the kernel to write later")
            alternate(partial(convert, folder), partial(copy, folder, durable=False))
        _, used = command([*PHYPAN, "convert", "-f", folder, folder / "vmcore"])
        print(f"peak memory, 1.25 GiB in use: {used / 1024:.0f} MiB")
        folder = make(Path(scratch) / "large", 0.1, memory="64G")
        _, used = command([*PHYPAN, "convert", "-f", folder, folder / "vmcore"])
        print(f"peak memory, 64 GiB sparse: {used / 1024:.0f} MiB")


def convert(folder: Path) -> float:
    time, _ = command([*PHYPAN, "convert", "-f", folder, folder / "vmcore"])
    return time


def copy(folder: Path, *, durable: bool = True) -> float:
    time, _ = command(["cp", "--sparse=always", folder / "ram", folder / "copy"])
    if durable:
        time += command(["sync", folder / "copy"])[0]
    return time


if __name__ == "__main__":
    main()
