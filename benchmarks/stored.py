"""Pages as they are stored: phypan next to the least that has to be done with their bytes.

    verify  of a compressed dump, next to the CRC-32 of the whole file by the same C function
    repair  of one that is whole, next to copying the file and making that durable

The pages are those of benchmarks.compressed. Files go to PHYPAN_BENCH, else to /dev/shm.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import phypan
from benchmarks import compressed
from benchmarks._measure import alternate, seconds
from phypan.pages import zlib_codec

COMPRESSIONS = ("none", "lzo", "zstd")
WANTED = 0.5  # of the rate of the least


def _summed(path: Path) -> None:
    crc32, found = zlib_codec.crc32(), 0
    with path.open("rb") as file:
        while data := file.read(4 << 20):
            found = crc32(data, found)


def _verified(path: Path) -> None:
    with phypan.open(path) as dump:
        assert not list(phypan.verify(dump))


def _copied(path: Path, target: Path) -> None:
    with path.open("rb") as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 4 << 20)
        file.flush()
        os.fsync(file.fileno())


def _repaired(path: Path, target: Path) -> None:
    phypan.repair([path], target, force=True)


def main() -> None:
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    size = min(compressed.SIZE, 1 << 30)
    data = compressed.real()
    data = compressed.synthetic(size, zeros=True) if data is None else data[:size]
    with tempfile.TemporaryDirectory(dir=os.environ.get("PHYPAN_BENCH") or shared) as name:
        path, target = Path(name) / "dump", Path(name) / "other"
        for page_size in compressed.SIZES:
            for how in COMPRESSIONS:
                dump = compressed.dump_of(data, page_size)
                phypan.convert(dump, path, format="kdump", compress=how, force=True)
                of = f"{page_size // 1024}K pages, {how}, {path.stat().st_size >> 20} MiB"
                print(f"verify, {of}: wanted {WANTED} of the checksum's rate")
                ratio = alternate(partial(seconds, partial(_summed, path)),
                                  partial(seconds, partial(_verified, path)))  # fmt: skip
                print(f"   {ratio:.2f} of that")
                print(f"repair, {of}: wanted {WANTED} of a copy's rate")
                ratio = alternate(partial(seconds, partial(_copied, path, target)),
                                  partial(seconds, partial(_repaired, path, target)))  # fmt: skip
                print(f"   {ratio:.2f} of that")


if __name__ == "__main__":
    main()
