"""Capturing 2 GiB of memory to a local disk, next to `dd bs=1M conv=fsync` of the same bytes.

Whole processes, in turn. capture reads back from the disk what it wrote, keeps its journal and
gives memory back behind itself, as a second boot runs it. dd reads nothing back: there is a second
measure with one that does, and a third of a capture that does not. The kernel's files are plain
ones, so that both read from the page cache. dd has no zeros to write either: memory is full.

Compressed captures are next to `phypan convert` of the same memory, which neither reads anything
back nor notes how far it came; of words and noise, as random bytes do not compress.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import phypan
from benchmarks._measure import alternate, command

SIZE = 2 << 30
MEMORY = "2G"
FIRST = """
import sys, time
begin = time.time()
import phypan
started = time.time() - begin
done = phypan.capture(sys.argv[2], root=sys.argv[1], force=True)
print(started + done.first)
"""


def make(root: Path, block: bytes) -> Path:
    """The files of a second boot, with all memory above the save area in use."""
    boot = phypan.simulate(kernel="2.6.32", memory=MEMORY, cpus=2, without_quirk=("offsets",)).boot
    for name, file in boot.files().items():
        if name == "proc/kpageflags" or file.read is None:
            continue  # a plain file cannot tell what was given back
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name != "proc/vmcore":
            path.write_bytes(file.read(0, 1 << 20))
    shown = boot.files()["proc/vmcore"].read
    with (root / "proc/vmcore").open("wb") as out:
        for start in range(0, SIZE, 1 << 20):
            data = shown(start, 1 << 20)
            out.write(data if data.strip(b"\0") else block)
    return root


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("PHYPAN_BENCH", None)) as scratch:
        root = make(Path(scratch) / "root", random.Random(1).randbytes(1 << 20))
        target = Path(scratch) / "vmcore"
        size = saved_size(root, target)
        print(f"capture {size >> 20} MiB to a local disk, against dd bs=1M conv=fsync")
        alternate(partial(capture, root, target), partial(copy, root, target, size))
        print("the same, against dd that reads back with iflag=direct what it wrote")
        alternate(partial(capture, root, target), partial(copy_and_read, root, target, size), 3)
        print("the same without reading it back, against dd as at first")
        alternate(partial(capture, root, target, "--no-verify"), partial(copy, root, target, size))
        _, used = command([*words(root, target)])
        print(f"peak memory: {used / 1024:.0f} MiB")
        words(root, target)
        told = subprocess.run(
            [sys.executable, "-c", FIRST, root, target], capture_output=True, check=True, text=True
        )
        print(f"from the start of the process to the first release: {float(told.stdout):.2f} s")
        target.unlink()
        make(root, words_and_noise())
        for letter in ("-z", "-c"):
            print(f"capture {letter} of {SIZE >> 20} MiB, against convert {letter} of the same")
            alternate(
                partial(capture, root, target, letter), partial(convert, root, target, letter), 3
            )
            _, used = command(words(root, target, letter))
            print(f"peak memory: {used / 1024:.0f} MiB")


def words_and_noise() -> bytes:
    """A MiB in which each page is half of words."""
    numbers = random.Random(1)
    known = [b"schedule", b"vmalloc ", b"kthread ", b"return  "]
    pages = (b"".join(numbers.choices(known, k=256)) + numbers.randbytes(2048) for _ in range(256))
    return b"".join(pages)


def words(root: Path, target: Path, *more: str) -> list[str | os.PathLike[str]]:
    region = root / "sys/kernel/release_region"
    keep = region.with_name("kept")
    if not keep.exists():
        keep.write_bytes(region.read_bytes())
    region.write_bytes(keep.read_bytes())  # a plain file keeps what was written to it
    command_ = [sys.executable, "-m", "phypan", "capture", "-f", "--root", root, target, *more]
    return command_


def saved_size(root: Path, target: Path) -> int:
    command(words(root, target))
    return target.stat().st_size


def capture(root: Path, target: Path, *more: str) -> float:
    target.unlink(missing_ok=True)
    return command(words(root, target, *more))[0]


def convert(root: Path, target: Path, letter: str) -> float:
    target.unlink(missing_ok=True)
    words(root, target)  # the region as it was
    live = ["--source", "live", root, target, letter]
    return command([sys.executable, "-m", "phypan", "convert", *live])[0]


def copy(root: Path, target: Path, size: int) -> float:
    """The memory that is held back: what the dump has."""
    target.unlink(missing_ok=True)
    blocks = [f"skip={(SIZE - size) >> 20}", f"count={size >> 20}"]
    vmcore = root / "proc/vmcore"
    return command(
        ["dd", f"if={vmcore}", f"of={target}", "bs=1M", *blocks, "conv=fsync", "status=none"]
    )[0]


def copy_and_read(root: Path, target: Path, size: int) -> float:
    """The same, and all of it read from the disk again."""
    written = copy(root, target, size)
    read = ["dd", f"if={target}", "of=/dev/null", "bs=1M", "iflag=direct", "status=none"]
    return written + command(read)[0]


if __name__ == "__main__":
    main()
