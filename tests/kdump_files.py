"""KDUMP files and flattened streams written by hand, byte by byte, without phypan's own writers.

The layout is that of makedumpfile's diskdump_mod.h and IMPLEMENTATION for 64-bit machines. What a
test describes here is what libkdumpfile's tests describe to its generator (tests/mkdiskdump.c):
pages with their addresses and how each is stored.
"""

from __future__ import annotations

import ctypes
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

RAW, ZLIB, LZO, SNAPPY, ZSTD = 0, 1, 2, 4, 0x20
EXCLUDED, MISSING = "excluded", "missing"
Page = bytes | str  # content, or EXCLUDED, or MISSING: no data, as in an unfinished file


def lzo(page: bytes) -> bytes:
    """`page` compressed by liblzo2."""
    library = ctypes.CDLL("liblzo2.so.2")
    out, size = ctypes.create_string_buffer(2 * len(page) + 64), ctypes.c_size_t()
    work = ctypes.create_string_buffer(1 << 18)
    library.lzo1x_1_compress(page, ctypes.c_size_t(len(page)), out, ctypes.byref(size), work)
    return out.raw[: size.value]


def compressed(page: bytes, flags: int) -> bytes:
    """`page` as the library of each format stores it, not through phypan."""
    if flags == ZLIB:
        return zlib.compress(page, 1)
    if flags == LZO:
        return lzo(page)
    if flags == SNAPPY:
        import cramjam

        return bytes(cramjam.snappy.compress_raw(page))
    if flags == ZSTD:
        import zstandard

        return zstandard.ZstdCompressor().compress(page)
    return page


def bitmap(frames: set[int], size: int) -> bytes:
    """A bit for each page frame, the lowest first."""
    data = bytearray(size)
    for frame in frames:
        data[frame // 8] |= 1 << frame % 8
    return bytes(data)


@dataclass
class KdumpFile:
    """A file to be made.

    pages        page frame number -> content and how it is stored
    fields       any field of either header by name, in the place of what would be right
    split        (start_pfn, end_pfn), None for a whole dump
    one_bitmap   only the bitmap of stored pages
    descriptors  page frame number -> a descriptor in the place of the right one
    """

    pages: Mapping[int, tuple[Page, int]]
    order: str = "big"
    page_size: int = 65536
    max_mapnr: int = 0x100
    version: int = 6
    machine: bytes = b"ppc64"
    notes: bytes = b""
    vmcoreinfo: bytes = b""
    split: tuple[int, int] | None = None
    one_bitmap: bool = False
    status: int = 0
    dump_level: int = 0
    fields: Mapping[str, int] = field(default_factory=dict)
    descriptors: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)

    def write(self) -> bytes:
        """The file."""
        mark, size = ">" if self.order == "big" else "<", self.page_size
        blocks = (self.max_mapnr + 8 * size - 1) // (8 * size)
        sub_blocks = -(-(104 + len(self.notes) + len(self.vmcoreinfo)) // size)
        count = 1 if self.one_bitmap else 2
        frames = {n for n, (page, _) in self.pages.items() if page != EXCLUDED}
        stored = bitmap(frames, blocks * size)
        known = b"" if self.one_bitmap else bitmap(set(self.pages), blocks * size)
        head = self._head(mark, sub_blocks, count * blocks)
        descriptors, data = self._data(
            mark, (1 + sub_blocks + count * blocks) * size, sorted(frames)
        )
        return head + known + stored + descriptors + data

    def _head(self, mark: str, sub_blocks: int, bitmap_blocks: int) -> bytes:
        size = self.page_size
        values = {
            "header_version": self.version, "tv_sec": 1453471962, "tv_usec": 0,
            "status": self.status, "block_size": size, "sub_hdr_size": sub_blocks,
            "bitmap_blocks": bitmap_blocks, "max_mapnr": min(self.max_mapnr, 0xFFFFFFFF),
            "nr_cpus": 1, **self.fields,
        }  # fmt: skip
        names = (b"Linux", b"test-node", b"3.4.5-test", b"#1 SMP", self.machine, b"(none)")
        head = b"KDUMP   " + struct.pack(mark + "i", values["header_version"])
        head += b"".join(name.ljust(65, b"\0") for name in names) + bytes(6)
        head += struct.pack(
            mark + "qqIiiIIIIIIi", values["tv_sec"], values["tv_usec"], values["status"],
            values["block_size"], values["sub_hdr_size"], values["bitmap_blocks"],
            values["max_mapnr"], 0, 0, 0, 0, values["nr_cpus"],
        )  # fmt: skip
        return head.ljust(size, b"\0") + self._sub_header(mark).ljust(sub_blocks * size, b"\0")

    def _sub_header(self, mark: str) -> bytes:
        at = self.page_size + 104
        notes = (at, len(self.notes)) if self.notes and self.version >= 4 else (0, 0)
        at += len(self.notes)
        info = (at, len(self.vmcoreinfo)) if self.vmcoreinfo and self.version >= 3 else (0, 0)
        first, last = self.split or (0, 0)
        wide = (first, last, self.max_mapnr) if self.version >= 6 else (0, 0, 0)
        values = {
            "phys_base": 0, "dump_level": self.dump_level, "split": int(self.split is not None),
            "offset_note": notes[0], "max_mapnr_64": wide[2], **self.fields,
        }  # fmt: skip
        return (
            struct.pack(
                mark + "QiiQQqQqQqQQQQ", values["phys_base"], values["dump_level"],
                values["split"], first, last, *info, values["offset_note"], notes[1], 0, 0,
                *wide[:2], values["max_mapnr_64"],
            )
            + self.notes
            + self.vmcoreinfo
        )  # fmt: skip

    def _data(self, mark: str, at: int, frames: list[int]) -> tuple[bytes, bytes]:
        first, last = self.split or (0, self.max_mapnr)
        mine = [frame for frame in frames if first <= frame < last]
        position = at + 24 * len(mine)
        descriptors, data = b"", b""
        for frame in mine:
            page, flags = self.pages[frame]
            made = (0, 0, 0, 0)
            if isinstance(page, bytes):
                packed = compressed(page, flags)
                made = (position + len(data), len(packed), flags, 0)
                data += packed
            descriptors += struct.pack(mark + "qIIQ", *self.descriptors.get(frame, made))
        return descriptors, data


def note(name: bytes, kind: int, data: bytes, order: str = "big") -> bytes:
    """An ELF note."""
    mark = ">" if order == "big" else "<"
    name += b"\0"
    head = struct.pack(mark + "III", len(name), len(data), kind)
    return (
        head + name.ljust(-(-len(name) // 4) * 4, b"\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")
    )


def flattened(records: list[tuple[int, bytes]], *, end: bool = True) -> bytes:
    """A flattened stream of records (file offset, bytes)."""
    head = struct.pack(">16sqq", b"makedumpfile", 1, 1).ljust(4096, b"\0")
    body = b"".join(struct.pack(">qq", at, len(data)) + data for at, data in records)
    return head + body + (struct.pack(">qq", -1, -1) if end else b"")
