"""How long does a translation take? In nanoseconds, next to a random read of the same memory.

    python benchmarks/translate.py [--pages N] [--check]

Tables for N pages are made in memory: a radix tree, the tables of hashed kernels, a hashed page
table. Addresses are translated in random and in sequential order, by numba, by the twin over
numpy, and by the scalar source in plain Python. `--check` fails where it is slower than promised:
random at most 1.5 x levels x a random read of 8 bytes, numba at least 50 x the plain source.
Times are those of the thread, the best of seven.
libkdumpfile, where its Python module is installed, is given the same tables in a core file; it can
translate those of 64K hashed kernels before 3.7. Its time is what reading 8 bytes at an effective
address takes more than at the physical one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numba
import numpy as np

import phypan
from phypan.dump import Dump
from phypan.formats import vmcoreinfo
from phypan.kernels import modes
from phypan.memory import Extent, Memory
from phypan.spaces.eras import ERAS, PAGE_OFFSET
from phypan.spaces.facts import kernel_facts
from phypan.spaces.hash import HashSpace
from phypan.spaces.hashtable import HashTable
from phypan.spaces.linux import TreeSpace, era_levels, protection
from phypan.spaces.resident import Resident
from phypan.spaces.space import Space
from phypan.spaces.vsid import SCHEMES
from phypan.stores import BytesStore

PAGE = 12  # shift, of most tables here
OLD = "64K hash, Linux 2.6.21 to 3.6"
LEGEND = """read     a random read of 8 bytes of the same memory that waits for the one before it
at once  the same, when none waits for another
limit    1.5 x levels x read, and what of it a random translation by numba has used"""
COUNT = {"numba": 1 << 20, "numpy": 1 << 16, "plain": 1 << 12}


@dataclass
class Case:
    """Tables, the addresses that they map, and the reads that a translation needs at the least."""

    name: str
    space: Space
    first: int
    levels: int
    memory: np.ndarray
    page_shift: int = PAGE


def tables(name: str, era_name: str, pages: int) -> Case:
    """Tables of an era with `pages` pages in a row, as kernels lay them out: level by level."""
    era = next(era for era in ERAS if era.name == era_name)
    first, page_shift, old = era.region("vmalloc").first, era.page_shift, era.name == OLD
    last = first + (pages << page_shift) - 1
    mask = (1 << era.address_bits) - 1
    spans = [  # for each level: index of the first and of the last entry, counted over all tables
        ((first & mask) >> shift, (last & mask) >> shift) for _, shift, _ in era.levels
    ]
    widths = [bits for _, _, bits in era.levels]
    starts, at = [], 0
    for (a, b), bits in zip(spans, widths, strict=True):
        at = -(-at // (8 << bits)) * (8 << bits)  # tables are aligned to their size
        starts.append(at)
        at += 8 * (((b >> bits) - (a >> bits) + 1) << bits)
    data = np.zeros(at // 8, ">u8")
    for depth, ((a, b), bits) in enumerate(zip(spans, widths, strict=True)):
        base = starts[depth] // 8 + a - (a >> bits << bits)
        index = np.arange(b - a + 1, dtype=np.uint64)
        if depth + 1 == len(spans):
            rng = np.random.default_rng(1)
            frames = rng.integers(0, 1 << 24, index.size, dtype=np.uint64)
            value = frames << np.uint64(PAGE) | np.uint64(3 << 62 | 0x18E)
            if old:
                # libkdumpfile is to read what is mapped: all of it is in the memory there is
                frames %= np.uint64(data.size * 8 >> page_shift)
                value = frames << np.uint64(30) | np.uint64(0x181)
        else:
            below = np.uint64(8 << widths[depth + 1])
            nls = np.uint64(widths[depth + 1] if era.mmu == "radix" else 0)
            top = np.uint64(PAGE_OFFSET if old else 1 << 63)
            value = np.uint64(starts[depth + 1]) + index * below | top | nls
        data[base : base + index.size] = value
    octets = data.view(np.uint8)
    memory = Memory([Extent(0, octets.size, BytesStore(memoryview(octets)), 0)])
    space = TreeSpace(
        name, Resident(memory), kernel_facts(era, 0, native_big=True), era_levels(era),
        partial(protection, era.entries),
    )  # fmt: skip
    return Case(name, space, first, len(widths), octets, page_shift)


def hash_table(pages: int) -> Case:
    """A hashed page table with one entry for each page, two groups for each eight pages."""
    scheme = next(s for s in SCHEMES if s.name == "since 5.2, 4K pages")
    first = scheme.virtual_start
    groups = 1 << (pages // 4 - 1).bit_length()
    data = np.zeros((groups, 8, 2), ">u8")
    fill = np.zeros(groups, np.int64)
    number = np.uint64(scheme.vsid(first, 40) or 0)
    offset = np.uint64(first & (1 << 40) - 1) + (
        np.arange(pages, dtype=np.uint64) << np.uint64(PAGE)
    )
    hashed = (number ^ number << np.uint64(25) ^ offset >> np.uint64(PAGE)) % np.uint64(groups)
    order = np.argsort(hashed, kind="stable")
    hashed, offset = hashed[order].astype(np.int64), offset[order]
    head = np.flatnonzero(np.diff(hashed, prepend=-1))
    slot = np.arange(pages) - np.repeat(head, np.diff(np.append(head, pages)))
    assert slot.max() < 8
    fill[hashed] += 1
    virtual = number << np.uint64(17) | offset >> np.uint64(23)
    data[hashed, slot, 0] = virtual << np.uint64(7) | np.uint64(1 << 62 | 1)
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 1 << 24, pages, dtype=np.uint64)
    data[hashed, slot, 1] = frames << np.uint64(PAGE) | np.uint64(0x190)
    octets = data.reshape(-1).view(np.uint8)
    memory = Memory([Extent(0, octets.size, BytesStore(memoryview(octets)), 0)])
    table = HashTable(memory, 0, octets.size, {(12, 12): 0})
    # primary and secondary group are one read each, at the most
    return Case("hashed page table", HashSpace("hpt", Memory([]), table, scheme), first, 2, octets)


@numba.njit(cache=True)
def _reads(words: np.ndarray, places: np.ndarray) -> int:
    """Read 8 bytes at each place; where to read depends on what was read before, as in a walk."""
    last = np.uint64(0)
    for n in range(places.size):
        last = words[places[n] ^ last & np.uint64(1)]
    return last


@numba.njit(cache=True)
def _reads_at_once(words: np.ndarray, places: np.ndarray) -> int:
    """The same, but none waits for the one before: a processor does many at a time."""
    total = np.uint64(0)
    for n in range(places.size):
        total ^= words[places[n]]
    return total


def seconds(function: Callable[[], object]) -> float:
    """The best of seven, in time of this thread: others may be busy on the machine."""
    best = float("inf")
    for _ in range(7):
        started = time.thread_time()
        function()
        best = min(best, time.thread_time() - started)
    return best


def measure(case: Case, pages: int) -> dict[str, float]:
    """Nanoseconds of a read, and of a translation by mode and order of the addresses."""
    rng = np.random.default_rng(2)
    words = case.memory.view(np.uint64)
    places = rng.integers(0, words.size, COUNT["numba"], dtype=np.uint64)
    found = {}
    for name, read in (("read", _reads), ("at once", _reads_at_once)):
        read(words, places[:1])  # compiles
        found[name] = seconds(partial(read, words, places)) / places.size * 1e9
    for how, count in COUNT.items():
        os.environ[modes.VARIABLE] = how
        frames = {
            "random": rng.integers(0, pages, count),
            "sequential": np.arange(count) % pages,
        }
        for order, which in frames.items():
            addresses = np.uint64(case.first) + (
                which.astype(np.uint64) << np.uint64(case.page_shift)
            )
            given = addresses.tolist() if how == "plain" else addresses
            result = case.space.translate_many(given)  # compiles, and touches the pages
            assert not any(result.faults)
            found[f"{how} {order}"] = (
                seconds(lambda g=given: case.space.translate_many(g)) / count * 1e9
            )
    return found


THEIRS = """
import json, sys, time
import kdumpfile
dump = kdumpfile.kdumpfile(sys.argv[1])
dump.attr["addrxlat.ostype"] = "linux"
found = []
for space, addresses in json.load(sys.stdin):
    space, best = getattr(kdumpfile, space), 1e9
    for _ in range(5):
        started = time.thread_time()
        for address in addresses:
            dump.read(space, address, 8)
        best = min(best, time.thread_time() - started)
    data = [dump.read(space, address, 8).hex() for address in addresses[:99]]
    found.append((best / len(addresses) * 1e9, data))
print(json.dumps(found))
"""


def libkdumpfile(case: Case, pages: int) -> list[float] | None:
    """Nanoseconds of its translation, random and sequential; None where it is not installed.

    That is what it takes to read 8 bytes at an effective address more than at the physical one.
    What it reads must be the same.
    """
    python = "/usr/bin/python3"
    check = [python, "-c", "import kdumpfile"]
    if (
        not Path(python).exists()
        or subprocess.run(check, capture_output=True, check=False).returncode
    ):
        return None
    rng, count = np.random.default_rng(3), 1 << 14
    questions = []
    for order in (rng.integers(0, pages, count), np.arange(count) % pages):
        asked = np.uint64(case.first) + (order.astype(np.uint64) << np.uint64(case.page_shift))
        physical = case.space.translate_many(asked).physical
        questions += [("KDUMP_KVADDR", asked.tolist()), ("KDUMP_KPHYSADDR", physical.tolist())]
    info = vmcoreinfo.read(
        b"OSRELEASE=2.6.32\nPAGESIZE=65536\nSYMBOL(swapper_pg_dir)=c000000000000000\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        dump = Dump(
            "benchmark", case.space.memory, byte_order="big", page_size=65536, vmcoreinfo=info
        )
        phypan.convert(dump, Path(folder) / "vmcore")
        done = subprocess.run(
            [python, "-c", THEIRS, f"{folder}/vmcore"],
            input=json.dumps(questions), capture_output=True, text=True, check=True,
        )  # fmt: skip
    (one, data), (two, same), (three, more), (four, alike) = json.loads(done.stdout)
    assert (data, more) == (same, alike), "it translates as phypan does"
    return [one - two, three - four]


def main() -> int:
    """Print the table; 1 if it is slower than promised."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pages", type=int, default=1 << 24)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    cases = [
        tables("radix", "4K radix, Linux since 5.2", options.pages),
        tables("kernel tables, hash", "4K hash, Linux since 5.2", options.pages),
        tables("kernel tables, 2.6.32", OLD, options.pages),
        hash_table(options.pages),
    ]
    print(f"{options.pages} pages; nanoseconds for each translation, random / sequential")
    print(f"{'':21}{'tables':>8}{'levels':>7}{'read':>6}{'at once':>8}{'numba':>13}{'numpy':>13}"
          f"{'plain':>15}{'limit':>7}{'used':>6}{'plain/numba':>12}")  # fmt: skip
    slow = False
    for case in cases:
        got = measure(case, options.pages)
        limit = 1.5 * case.levels * got["read"]
        used, faster = got["numba random"] / limit, got["plain random"] / got["numba random"]
        slow |= used > 1 or faster < 50
        times = "".join(
            f"{got[f'{how} random']:>{width}.0f} /{got[f'{how} sequential']:>5.0f}"
            for how, width in (("numba", 6), ("numpy", 6), ("plain", 8))
        )
        print(
            f"{case.name:21}{case.memory.size >> 20:>5} MB{case.levels:>7}{got['read']:>6.0f}"
            f"{got['at once']:>8.1f}{times}{limit:>7.0f}{used:>6.2f}{faster:>12.0f}"
        )
        theirs = libkdumpfile(case, options.pages) if case.page_shift == 16 else None
        if theirs is not None:
            print(f"{'  by libkdumpfile':21}{theirs[0]:>40.0f} /{theirs[1]:>5.0f}")  # fmt: skip
    print(LEGEND)
    return int(slow and options.check)


if __name__ == "__main__":
    sys.exit(main())
