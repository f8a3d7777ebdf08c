"""makedumpfile's compressed dump, "KDUMP   ": headers, bitmaps, page descriptors.

makedumpfile diskdump_mod.h, makedumpfile.h and IMPLEMENTATION; crash diskdump.h; the layout of a
64-bit machine, in the byte order of the dumped kernel.

    block 0      disk_dump_header
    block 1      kdump_sub_header, and the ELF notes behind it: sub_hdr_size blocks
    bitmaps      1st: page frames that are memory; 2nd: pages that are stored
    descriptors  one for each bit of the 2nd bitmap, in order of page frames
    data         stored pages, anywhere behind that

Of a split set each file has all headers and bitmaps, and the descriptors and data of the page
frames from start_pfn to end_pfn.

phypan puts checksums where other tools leave zeros: of a page into its descriptor
(kdump_descriptors), and of all that is before the descriptors into a note (kdump_seal).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from construct import Padded
from construct import Struct as Record

from phypan.errors import BadRecord, Problem
from phypan.formats._kdump_records import HEADER, MAGIC, SUB_HEADER
from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes, align, build, parse

VERSION = 6
HEADER_SIZE, SUB_HEADER_SIZE = 464, 104
PAGE_SIZES = (4096, 16384, 65536, 262144)
MAX_NOTES_SIZE = 1 << 30  # bytes
WHERE, SUB_WHERE = "KDUMP header", "KDUMP sub-header"

RAW, ZLIB, LZO, SNAPPY, ZSTD = 0, 1, 2, 4, 0x20  # flags of a descriptor, and of `status`
INCOMPLETE = 8  # of `status`
EXCLUDED_VMEMMAP = 0x10
COMPRESSIONS = {RAW: "none", ZLIB: "zlib", LZO: "lzo", SNAPPY: "snappy", ZSTD: "zstd"}

DESCRIPTOR_SIZE = 24
_UTSNAME = ("sysname", "nodename", "release", "version", "machine", "domainname")
ReadAt = Callable[[int, int], Bytes]  # (file offset, size) -> that many bytes


@dataclass(frozen=True)
class Part:
    """(file offset, bytes) of something in the file; a size of 0 where it is not there."""

    offset: int = 0
    size: int = 0


@dataclass(frozen=True)
class Kdump:
    """Both headers of a file.

    max_mapnr     page frame numbers are below this
    split         (first, first behind) page frame number that this file of a set stores, or None
    notes         ELF notes; without them `vmcoreinfo` may still be there
    problems      what the headers contradict themselves in, and what was believed
    """

    order: ByteOrder
    block_size: int
    max_mapnr: int
    sub_hdr_size: int = 1
    bitmap_blocks: int = 0
    header_version: int = VERSION
    utsname: tuple[bytes, ...] = (b"",) * 6
    time: int = 0
    status: int = 0
    nr_cpus: int = 1
    phys_base: int = 0
    dump_level: int = 0
    split: tuple[int, int] | None = None
    vmcoreinfo: Part = Part()
    notes: Part = Part()
    eraseinfo: Part = Part()
    problems: tuple[Problem, ...] = field(default=(), compare=False)

    @cached_property
    def bitmaps_at(self) -> int:
        """File offset of the bitmaps."""
        return (1 + self.sub_hdr_size) * self.block_size

    @cached_property
    def has_both_bitmaps(self) -> bool:
        """Whether there are two; a single one says which pages are stored."""
        return self.bitmap_blocks >= 2 * bitmap_blocks(self.max_mapnr, self.block_size)

    @cached_property
    def bitmap_size(self) -> int:
        """Bytes of one bitmap: whole blocks, which begin and end on bytes of page frames."""
        blocks = self.bitmap_blocks // 2 if self.has_both_bitmaps else self.bitmap_blocks
        return blocks * self.block_size

    @cached_property
    def descriptors_at(self) -> int:
        """File offset of the page descriptors."""
        return self.bitmaps_at + self.bitmap_blocks * self.block_size

    @property
    def incomplete(self) -> bool:
        """Whether the file says of itself that pages are missing."""
        return bool(self.status & INCOMPLETE)


def bitmap_blocks(max_mapnr: int, block_size: int) -> int:
    """Blocks that a bitmap of `max_mapnr` page frames takes."""
    return align(align(max_mapnr, 8) // 8, block_size) // block_size


def byte_order(head: Bytes) -> ByteOrder | None:
    """The byte order of the file that begins with `head`; None if it is no KDUMP file."""
    if len(head) < HEADER_SIZE or bytes(head[:8]) != MAGIC:
        return None
    for order in STRUCT_ORDER:
        if int.from_bytes(head[428:432], order) in PAGE_SIZES:
            return order
    for order in STRUCT_ORDER:  # the block size is damaged; the version may not be
        if 0 < int.from_bytes(head[8:12], order) < 256:
            return order
    return None


def read(read_at: ReadAt, size: int) -> Kdump:
    """The headers of the file of `size` bytes behind `read_at`; BadRecord when they are none.

    All offsets that are told lie within 63 bits; whether they lie in the file is not looked at.
    """
    head = bytes(read_at(0, min(size, HEADER_SIZE)))
    order = byte_order(head)
    if order is None:
        raise BadRecord("not a KDUMP file of a 64-bit machine", where=WHERE)
    header = parse(HEADER[order], head, WHERE)
    block = header.block_size
    if block not in PAGE_SIZES:
        raise BadRecord(f"a block size of {block}, which no kernel for POWER has", where=WHERE)
    if not 0 <= header.sub_hdr_size < 1 << 20:
        raise BadRecord(f"{header.sub_hdr_size} blocks of sub-header", where=WHERE)
    base = Kdump(
        order=order,
        block_size=block,
        max_mapnr=header.max_mapnr,
        sub_hdr_size=header.sub_hdr_size,
        bitmap_blocks=header.bitmap_blocks,
        header_version=header.header_version,
        utsname=tuple(bytes(header[name]).split(b"\0", 1)[0] for name in _UTSNAME),
        time=header.tv_sec,
        status=header.status,
        nr_cpus=header.nr_cpus,
    )
    if header.sub_hdr_size == 0:
        return base
    sub = parse(
        Padded(SUB_HEADER_SIZE, SUB_HEADER[order]), read_at(block, SUB_HEADER_SIZE), SUB_WHERE
    )
    return _checked(_with_sub_header(base, sub), size)


def _with_sub_header(base: Kdump, sub: Record) -> Kdump:
    """`base` with the fields of the sub-header that its version knows."""
    version = base.header_version
    split = None
    if version >= 2 and sub.split:
        wide = version >= 6
        split = (sub.start_pfn_64, sub.end_pfn_64) if wide else (sub.start_pfn, sub.end_pfn)
    mapnr = sub.max_mapnr_64 if version >= 6 else 0
    return replace(
        base,
        max_mapnr=mapnr or base.max_mapnr,
        phys_base=sub.phys_base,
        dump_level=sub.dump_level if version >= 1 else 0,
        split=split,
        vmcoreinfo=Part(sub.offset_vmcoreinfo, sub.size_vmcoreinfo) if version >= 3 else Part(),
        notes=Part(sub.offset_note, sub.size_note) if version >= 4 else Part(),
        eraseinfo=Part(sub.offset_eraseinfo, sub.size_eraseinfo) if version >= 5 else Part(),
    )


def _checked(kdump: Kdump, size: int) -> Kdump:
    """`kdump`, mended where its fields contradict each other or the size of the file."""
    problems: list[Problem] = []
    needed = bitmap_blocks(kdump.max_mapnr, kdump.block_size)
    most = size // kdump.block_size + 1  # blocks of the file: no bitmap has more
    if needed > most or kdump.bitmap_blocks > most:
        blocks = kdump.bitmap_blocks
        if needed <= most:
            told, kdump = "bitmap_blocks", replace(kdump, bitmap_blocks=2 * needed)
        elif 0 < blocks <= most:
            frames = (blocks // 2 or 1) * kdump.block_size * 8
            told, kdump = "max_mapnr", replace(kdump, max_mapnr=frames)
        else:
            raise BadRecord(
                f"bitmaps of {max(needed, blocks):#x} blocks in a file of {size:#x} bytes",
                where=WHERE,
                hint="was the file cut short when it was copied?",
            )
        problems.append(
            Problem(f"{told} is more than the file can hold", WHERE, "it was taken from the other")
        )
    elif kdump.bitmap_blocks < needed:
        what = f"{kdump.bitmap_blocks} blocks of bitmaps for {kdump.max_mapnr:#x} page frames"
        problems.append(Problem(what, WHERE, "two bitmaps are assumed"))
        kdump = replace(kdump, bitmap_blocks=2 * needed)
    if kdump.header_version > VERSION:
        what = f"header version {kdump.header_version}, {VERSION} is the latest that is known"
        problems.append(Problem(what, WHERE, "it is read like that one"))
    parts = {"vmcoreinfo": kdump.vmcoreinfo, "notes": kdump.notes, "eraseinfo": kdump.eraseinfo}
    for name, part in parts.items():
        if part.size and not (0 < part.offset <= size and part.size <= MAX_NOTES_SIZE):
            what = f"{name}: {part.size:#x} bytes at {part.offset:#x} in a file of {size:#x}"
            problems.append(Problem(what, SUB_WHERE, "left out"))
            parts[name] = Part()
    kdump = replace(
        kdump,
        vmcoreinfo=parts["vmcoreinfo"],
        notes=parts["notes"],
        eraseinfo=parts["eraseinfo"],
    )
    if kdump.split and not kdump.split[0] <= kdump.split[1]:
        raise BadRecord(f"the split set's page frames {kdump.split}", where=SUB_WHERE)
    return replace(kdump, problems=tuple(problems))


def write_head(kdump: Kdump) -> tuple[bytes, bytes]:
    """(disk_dump_header, kdump_sub_header): the first bytes of block 0 and of block 1."""
    first, behind = kdump.split or (0, 0)
    cut = 0xFFFFFFFF
    header = {
        "signature": MAGIC,
        "header_version": kdump.header_version,
        **{
            name: value[:64].ljust(65, b"\0")
            for name, value in zip(_UTSNAME, kdump.utsname, strict=True)
        },
        "padding": bytes(6),
        "tv_sec": kdump.time,
        "tv_usec": 0,  # libkdumpfile tries the 32-bit layout first, whose block_size lies here
        "status": kdump.status,
        "block_size": kdump.block_size,
        "sub_hdr_size": kdump.sub_hdr_size,
        "bitmap_blocks": kdump.bitmap_blocks,
        "max_mapnr": min(kdump.max_mapnr, cut),
        "total_ram_blocks": 0, "device_blocks": 0, "written_blocks": 0, "current_cpu": 0,
        "nr_cpus": kdump.nr_cpus,
    }  # fmt: skip
    sub = {
        "phys_base": kdump.phys_base,
        "dump_level": kdump.dump_level,
        "split": int(kdump.split is not None),
        "start_pfn": first & cut, "end_pfn": behind & cut,
        "offset_vmcoreinfo": kdump.vmcoreinfo.offset, "size_vmcoreinfo": kdump.vmcoreinfo.size,
        "offset_note": kdump.notes.offset, "size_note": kdump.notes.size,
        "offset_eraseinfo": kdump.eraseinfo.offset, "size_eraseinfo": kdump.eraseinfo.size,
        "start_pfn_64": first, "end_pfn_64": behind, "max_mapnr_64": kdump.max_mapnr,
    }  # fmt: skip
    return build(HEADER[kdump.order], header), build(SUB_HEADER[kdump.order], sub)
