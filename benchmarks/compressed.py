"""Compressed dumps: phypan next to the codec libraries alone, memcpy and libkdumpfile.

    convert   to a compressed dump that goes nowhere, start to end, next to a loop that does
              nothing but call the codec's C function for each of the same pages, in as many
              threads: neither has a file to write. Beside it the rate to a file that is durable in
              the end. `none` is next to writing the same pages to a file
    zeros     looking for pages of zeros in memory that has no others, next to copying it
    types     what each page of 1 TiB is used for, out of made-up struct pages, and what -d 31
              leaves out
    reads     of single pages in random order, next to libkdumpfile's
    memory    at its peak, of `phypan convert` on the image with zeros

The pages are those of the real dumps that hold data, where the dumps are here, and a synthetic
image: of every 8 pages 2 of records of a few bytes that change, 1 of words, 1 of noise, 4 of zeros.
Files go to PHYPAN_BENCH, else to memory (/dev/shm) where there is such a place.

    python -m benchmarks compressed                   4 GiB
    PHYPAN_BENCH_MIB=128 python -m benchmarks compressed
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np

import phypan
from benchmarks._measure import alternate, seconds
from phypan import BytesStore, Dump, Extent, Memory, PageTypes
from phypan.filtering import levels
from phypan.filtering.memmap import MapPart
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.kernels import pack
from phypan.pages import codecs
from phypan.plugins.writers import kdump
from phypan.sinks import no_progress
from tests import made_kernel, real_dumps

MIB = 1 << 20
SIZE = int(os.environ.get("PHYPAN_BENCH_MIB", "4096")) * MIB
SIZES = {4096: 0.7, 65536: 0.85}  # bytes in a page: the share of the library's rate that is wanted
COMPRESSIONS = ("none", "zlib", "lzo", "snappy", "zstd")
# Of makedumpfile, one thread, MB/s, on 2 virtual CPUs of an EPYC: to beat. Raw is without zeros.
MAKEDUMPFILE = {"zlib": 171, "lzo": 649, "snappy": 788, "zstd": 671, "none": 4000}
READS = 2000


def synthetic(size: int, *, zeros: bool) -> np.ndarray:
    """uint8[size]: half of the pages are of zeros, if they are wanted at all."""
    numbers, block = np.random.default_rng(1), 65536
    records = np.zeros((2 * block // 64, 16), np.uint32)
    records[:, 0] = np.arange(len(records))
    records[:, 3:6] = numbers.integers(0, 1 << 12, (len(records), 3))
    words = numbers.choice([b"schedule", b"vmalloc ", b"kthread ", b"return  "], block // 8)
    parts = [records.tobytes(), words.tobytes(), numbers.bytes(block)]
    unit = b"".join(parts) + bytes(4 * block if zeros else 0)
    whole = np.resize(np.frombuffer(unit, np.uint8), size)
    if not zeros:
        whole[::block] ^= np.arange(len(whole[::block]), dtype=np.uint8)
    return whole


def real() -> np.ndarray | None:
    """uint8[SIZE]: the pages of the real dumps that hold data, again and again."""
    found: list[np.ndarray] = []
    for name in real_dumps.NAMES:
        try:
            path = real_dumps.get(name).path
        except FileNotFoundError:
            return None
        with phypan.open(path) as dump:
            for extent in dump.memory.extents:
                data = np.frombuffer(extent.store.view(extent.offset, extent.size), np.uint8)
                pages = data[: len(data) // 65536 * 65536].reshape(-1, 65536)
                found.append(pages[pages.any(axis=1)].copy())
    return np.resize(np.concatenate(found), SIZE)


def dump_of(data: np.ndarray, page_size: int) -> Dump:
    info = Vmcoreinfo(f"OSRELEASE=6.12\nPAGESIZE={page_size}\n".encode())
    memory = Memory([Extent(0, data.size, BytesStore(data.data), 0)])
    return Dump("made", memory, byte_order="little", page_size=page_size, vmcoreinfo=info)


@numba.njit(nogil=True)
def _library(flag, function, work, pages, size, out, scratch) -> int:  # type: ignore[no-untyped-def]
    """Compress each page into the same place, and nothing else."""
    start, room, total = pages.ctypes.data, out.ctypes.data, 0
    for page in range(start, start + pages.size, size):
        total += pack._compress(flag, function, work, page, size, room, out.size, scratch)
    return total


def library(name: str, data: np.ndarray, page_size: int, threads: int, copy: Path) -> float:
    """Seconds that the codec's library takes for the pages of `data`; for none, to write them."""
    native = codecs.named(name).native
    assert native is not None, f"numba cannot call {name}"
    each = data.size // threads // page_size * page_size
    copy.write_bytes(b"")

    def work(share: np.ndarray) -> None:
        if name == "none":
            with copy.open("r+b") as file:
                start = share.ctypes.data - data.ctypes.data
                for at in range(0, share.size, 2 * MIB):
                    os.pwrite(file.fileno(), share[at : at + 2 * MIB].data, start + at)
            return
        address, owner = native.workspace()
        out, scratch = np.empty(2 * page_size + 4096, np.uint8), np.empty(16, np.uint8)
        _library(native.kind, native.function, address, share, page_size, out, scratch.ctypes.data)
        assert owner is not out

    shares = [data[n * each : (n + 1) * each] for n in range(threads)]
    workers = [threading.Thread(target=work, args=(share,)) for share in shares]
    return seconds(lambda: ([w.start() for w in workers], [w.join() for w in workers]))


def converted(dump: Dump, target: Path, name: str, threads: int) -> float:
    target.unlink(missing_ok=True)  # which takes its time too
    return seconds(
        lambda: phypan.convert(
            dump, target, format="kdump", compress=name, num_threads=threads, force=True
        )
    )


class Nowhere:
    """An output that keeps nothing."""

    def write_at(self, offset: int, data: object) -> None: ...

    def copy(self, store: object, offset: int, size: int, at: int) -> None: ...

    def truncate(self, size: int) -> None: ...


def packed(dump: Dump, name: str, threads: int) -> float:
    return seconds(
        lambda: kdump.write(dump, Nowhere(), no_progress, compress=name, num_threads=threads)
    )


def throughput(title: str, data: np.ndarray, folder: Path) -> None:
    for page_size, wanted in SIZES.items():
        dump = dump_of(data, page_size)
        for name in COMPRESSIONS:
            for threads in (1, 2):
                limit = f"wanted {wanted} of the library" if name != "none" else "of writing them"
                print(f"{title}, {page_size // 1024}K pages, {name}, {threads} thread(s), {limit}")
                to_file = partial(converted, dump, folder / "out", name, threads)
                ratio = alternate(
                    partial(library, name, data, page_size, threads, folder / "copy"),
                    partial(packed, dump, name, threads) if name != "none" else to_file,
                    rounds=3,
                )
                rate = data.size / min(to_file() for _ in range(2)) / 1e6
                print(f"   {ratio:.2f} of that, and {rate:.0f} MB/s to a file "
                      f"(makedumpfile, one thread: {MAKEDUMPFILE[name]})")  # fmt: skip


def zero_scan() -> None:
    data = np.zeros(min(SIZE, 1024 * MIB), np.uint8)
    data[:] = 0  # touched
    target = np.ones_like(data)
    for page_size in SIZES:
        out = np.empty(data.size // page_size, np.uint8)
        scan = partial(pack.zeros, data, page_size, out)
        print(f"zero scan, {page_size // 1024}K pages, against memcpy: wanted 0.8 of its rate")
        ratio = alternate(partial(seconds, partial(np.copyto, target, data)),
                          partial(seconds, scan))  # fmt: skip
        print(f"   {ratio:.2f} of memcpy's rate")


class Repeated:
    """Struct pages without end: those of a small kernel again and again."""

    def __init__(self, unit: bytes) -> None:
        self.unit = unit * 2

    def read(self, address: int, size: int) -> bytes:
        start = (address - made_kernel.VMEMMAP) % (len(self.unit) // 2)
        return self.unit[start : start + size]


def types(memory: int = 1 << 40) -> None:
    """In the seconds of this thread: it is one core that counts."""
    for era in ("6.12", "6.6"):
        kernel = made_kernel.MadeKernel(made_kernel.ERAS[era], "little", 4096)
        for frame in range(0, 4096, 64):
            kernel.free(frame, 4)
            kernel.put(frame + 20, flags=made_kernel.LRU, mapping=made_kernel.FILE)
            kernel.put(frame + 21, flags=made_kernel.LRU | made_kernel.SWAPBACKED,
                       mapping=made_kernel.ANON)  # fmt: skip
            kernel.compound(frame + 32, 4, flags=made_kernel.LRU | made_kernel.SWAPBACKED,
                            mapping=made_kernel.ANON)  # fmt: skip
        dump = kernel.dump()
        start = kernel.place(0)
        unit = bytes(kernel.data[start : start + 4096 * kernel.era.size])
        dump._spaces = {"kernel": Repeated(unit)}
        size = kernel.era.page_size
        frames = memory // size
        found = SimpleNamespace(started=0.0, planes={})
        for count in (8192, frames):  # once for numba's compiler
            known = PageTypes(kernel.dump())
            known._dump = dump
            known._parts = [MapPart(0, count, made_kernel.VMEMMAP)]
            found.started = time.thread_time()
            found.planes = levels._planes(known, 31, count)
        took = time.thread_time() - found.started
        left = sum(int.from_bytes(plane, "little").bit_count() for plane in found.planes.values())
        assert 0 < left < frames
        print(
            f"types of 1 TiB of {size // 1024}K pages: {took:.2f} s on one core (wanted: under 20)"
        )


LIBKDUMPFILE = """
import random, sys, time, kdumpfile
file = kdumpfile.kdumpfile(sys.argv[1])
size, pages, count = map(int, sys.argv[2:])
draw = random.Random(1)
places = [draw.randrange(pages) * size for _ in range(count)]
file.read(kdumpfile.KDUMP_MACHPHYSADDR, 0, size)
begin = time.perf_counter()
for place in places:
    file.read(kdumpfile.KDUMP_MACHPHYSADDR, place, size)
print((time.perf_counter() - begin) / count * 1e6)
"""


def random_reads(data: np.ndarray, folder: Path) -> None:
    import random

    for page_size in SIZES:
        pages = data.size // page_size
        for name in COMPRESSIONS:
            path = folder / "reads"
            phypan.convert(dump_of(data, page_size), path, format="kdump", compress=name,
                           force=True)  # fmt: skip
            theirs = None
            arguments = ["/usr/bin/python3", "-c", LIBKDUMPFILE, path, page_size, pages, READS]
            rounds = [
                subprocess.run([str(word) for word in arguments], capture_output=True, check=False)
                for _ in range(3)
            ]
            if all(done.returncode == 0 for done in rounds):
                theirs = statistics.median(float(done.stdout) for done in rounds)
            draw = random.Random(1)
            places = [draw.randrange(pages) * page_size for _ in range(READS)]
            times = []
            for _ in range(3):
                with phypan.open(path) as dump:
                    dump.memory.read(0, page_size)
                    times.append(seconds(partial(_read, dump, places, page_size)))
            ours = statistics.median(times) / READS * 1e6
            said = f"libkdumpfile {theirs:.1f}" if theirs else "libkdumpfile is not here"
            print(f"random reads, {page_size // 1024}K pages, {name}: {ours:.1f} us, {said}")


def _read(dump: Dump, places: list[int], size: int) -> None:
    for place in places:
        dump.memory.view(place, size)


# Linux counts what a process had before it became another: a small one starts the command.
PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(image: np.ndarray, folder: Path) -> None:
    phypan.convert(dump_of(image, 65536), folder / "vmcore", force=True)
    for letter in ("-c", "-z"):
        words = ["-m", "phypan", "convert", "-f", letter, folder / "vmcore", folder / "out"]
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *(str(word) for word in words)],
            capture_output=True, check=True,
        )  # fmt: skip
        print(f"peak memory, {image.size >> 20} MiB, {letter}: {int(done.stdout) / 1024:.0f} MiB "
              f"(wanted: under 400)")  # fmt: skip


def main() -> None:
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=os.environ.get("PHYPAN_BENCH") or shared) as name:
        folder = Path(name)
        zero_scan()
        types()
        pages = real()
        if pages is not None:
            throughput("real pages", pages, folder)
            random_reads(pages, folder)
        throughput("synthetic, no zeros", synthetic(SIZE // 4, zeros=False), folder)
        image = synthetic(SIZE, zeros=True)
        print("synthetic, half of it zeros")
        for how in COMPRESSIONS:
            dump = dump_of(image, 65536)
            rates = [
                image.size / took() / 1e6
                for took in (partial(packed, dump, how, 1),
                             partial(converted, dump, folder / "out", how, 1))
            ]  # fmt: skip
            print(f"   {how}, 1 thread: {rates[0]:.0f} MB/s, {rates[1]:.0f} MB/s to a file "
                  f"(makedumpfile: {MAKEDUMPFILE[how]})")  # fmt: skip
        peak(image, folder)


if __name__ == "__main__":
    main()
