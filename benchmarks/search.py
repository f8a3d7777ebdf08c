"""How fast is a search? Next to a copy of the same memory, by one thread, and by all.

    python -m benchmarks search

The memory is what a real dump has stored, again and again until it is half a GiB; made, where there
is no real dump (see tests/README.md). The copy goes to 64 MiB of other memory, piece by piece.
Ratios are of rates: 0.5 is half as fast as copying.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import phypan
from benchmarks._measure import alternate, seconds

_SIZE = 512 << 20
_PIECE = 64 << 20
_GOAL = 0.5


def pages() -> Iterator[memoryview]:
    """What a real dump has stored; else noise, zeros and text."""
    for name in ("le-radix10", "le-hash8", "be-radix9"):
        path = Path(os.environ.get("PHYPAN_CACHE", ".cache")) / "real" / name
        if (path / "ram").exists():
            with phypan.open(path) as dump:
                yield from (data for _, data in dump.memory.stretches())
            return
    page = random.Random(1).randbytes(1 << 15) + b"some text \0\0\0\0\0\0" * (1 << 11)
    yield memoryview((page + bytes(1 << 16)) * 512)


def made() -> phypan.Dump:
    """A dump of nothing but them."""
    some = b"".join(pages())
    data = (some * (_SIZE // len(some) + 1))[:_SIZE]
    print(f"   {len(some) >> 20} MiB, repeated to {_SIZE >> 20} MiB; {os.cpu_count()} CPUs")
    return phypan.Dump("made", phypan.Memory([phypan.Extent(0, _SIZE, phypan.BytesStore(data), 0)]))


def copy(dump: phypan.Dump, target: np.ndarray) -> None:
    """Copy all of the memory."""
    for at in range(0, _SIZE, _PIECE):
        np.copyto(target, np.frombuffer(dump.memory.view(at, _PIECE), np.uint8))


CALLS: dict[str, Callable[[phypan.Scan], object]] = {
    "a pattern": lambda scan: list(scan.pattern(b"phypan_charlie\0")),
    "a frequent pattern": lambda scan: sum(1 for _ in scan.pattern(b"kernel")),
    "a pointer": lambda scan: list(
        scan.numbers(8, 0xC000000000012458, 0xC000000000012458, "little")
    ),
    "u64 in a range, of the other byte order": lambda scan: list(
        scan.numbers(8, 1 << 62, (1 << 62) + 99, "big")
    ),
}


def main() -> None:
    """Print ratios; fail where a pattern is found more slowly than promised."""
    target = np.ones(_PIECE, np.uint8)
    dump = made()
    space = dump.spaces["physical"]
    found = {}
    for name, call in CALLS.items():
        for threads in (1, os.cpu_count() or 1):
            print(f"   a copy against searching for {name}, {threads} thread(s)")
            scan = phypan.Scan(space, threads=threads)
            found[name, threads] = alternate(
                lambda: seconds(lambda: copy(dump, target)),
                lambda scan=scan, call=call: seconds(lambda: call(scan)),  # type: ignore[misc]
            )
    print("   a copy against bytes.find, which Memory.find calls")
    alternate(
        lambda: seconds(lambda: copy(dump, target)),
        lambda: seconds(lambda: list(dump.memory.find(b"phypan_charlie\0"))),
        rounds=3,
    )
    print("   a copy against a list of strings of 8 characters")
    alternate(
        lambda: seconds(lambda: copy(dump, target)),
        lambda: seconds(lambda: sum(1 for _ in phypan.Scan(space).texts(8, "ascii"))),
        rounds=1,
    )
    assert found["a pattern", 1] >= _GOAL, "slower than half a memory copy"
