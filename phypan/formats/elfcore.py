"""ELF64 core files: header, program headers, notes.

System V ABI, chapters 4 and 5; 64-bit PowerPC ELF ABI for e_flags; Linux fs/proc/vmcore.c for what
a vmcore looks like. The byte order of the file is in EI_DATA and is that of the header, program
headers and note headers; QEMU 7 and older wrote little-endian guests into big-endian files, so it
is not always that of the memory inside. Section headers are not read, but for the one that counts
program headers (PN_XNUM).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from construct import Bytes as RawBytes
from construct import Const, Int8ub, Int16ub, Int16ul, Int32ub, Int32ul, Int64ub, Int64ul
from construct import Struct as Record

from phypan.errors import BadRecord, Problem
from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes, align, build, pack, parse

MAGIC = b"\x7fELF"
CLASS64 = 2
ET_CORE = 4
EM_PPC64 = 21
EFLAGS_INCOMPLETE = 1  # makedumpfile and crash; the ELF ABI has the same bit for "ELFv1"
EFLAGS_ELFV2 = 2
PT_LOAD, PT_NOTE = 1, 4
PN_XNUM = 0xFFFF  # the number of program headers is in sh_info of section header 0
READ, WRITE, EXECUTE = 4, 2, 1
NO_PHYSICAL = 0xFFFFFFFFFFFFFFFF  # p_paddr of a segment that only has an effective address
MAX_SEGMENTS = 1 << 20
MAX_NOTES_SIZE = 1 << 30  # bytes
MAX_NOTES = 1 << 20  # a machine of 8192 CPUs has some 20 for each
WHERE = "ELF header"

_PHDR = "IIQQQQQQ"
PHDR_SIZE, EHDR_SIZE, SHDR_SIZE = 56, 64, 64


@cache
def _ehdr(order: ByteOrder) -> Record:
    half, word, long = (
        (Int16ub, Int32ub, Int64ub) if order == "big" else (Int16ul, Int32ul, Int64ul)
    )
    return Record(
        "magic" / Const(MAGIC),
        "ei_class" / Int8ub,
        "ei_data" / Int8ub,
        "ei_version" / Int8ub,
        "ei_osabi" / Int8ub,
        "padding" / RawBytes(8),
        "e_type" / half,
        "e_machine" / half,
        "e_version" / word,
        "e_entry" / long,
        "e_phoff" / long,
        "e_shoff" / long,
        "e_flags" / word,
        "e_ehsize" / half,
        "e_phentsize" / half,
        "e_phnum" / half,
        "e_shentsize" / half,
        "e_shnum" / half,
        "e_shstrndx" / half,
    )


@dataclass(frozen=True, slots=True)
class Segment:
    """One program header. `paddr` is physical, `vaddr` effective, `offset` in the file."""

    type: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    flags: int = READ | WRITE | EXECUTE
    align: int = 0


@dataclass(frozen=True)
class ElfCore:
    """A core file's program headers in stored order."""

    order: ByteOrder
    flags: int
    machine: int
    segments: tuple[Segment, ...]

    @property
    def loads(self) -> tuple[Segment, ...]:
        """The PT_LOAD segments."""
        return tuple(segment for segment in self.segments if segment.type == PT_LOAD)


@dataclass(frozen=True, slots=True)
class Note:
    """One note; its name without the terminating NUL."""

    name: bytes
    type: int
    data: bytes


ReadAt = Callable[[int, int], Bytes]  # (file offset, size) -> that many bytes


def byte_order(head: Bytes) -> ByteOrder | None:
    """The byte order of the 64-bit ELF file that begins with `head`; None if it is none."""
    if bytes(head[:4]) != MAGIC or len(head) < 6 or head[4] != CLASS64:
        return None
    return {1: "little", 2: "big"}.get(head[5])  # type: ignore[return-value]


def read(read_at: ReadAt, size: int) -> ElfCore:
    """The core file of `size` bytes behind `read_at`; BadRecord when it is none."""
    head = read_at(0, min(size, EHDR_SIZE))
    order = byte_order(head)
    if order is None:
        raise BadRecord("not a 64-bit ELF file", where=WHERE)
    ehdr = parse(_ehdr(order), head, WHERE)
    if ehdr.e_type != ET_CORE:
        raise BadRecord(
            f"type {ehdr.e_type}, not a core file",
            where=WHERE,
            hint="a kernel (vmlinux) is given with another option, beside the dump",
        )
    count = _count(read_at, size, ehdr, order)
    if count and (ehdr.e_phentsize != PHDR_SIZE or ehdr.e_phoff + count * PHDR_SIZE > size):
        raise BadRecord(
            f"{count} program headers of {ehdr.e_phentsize} bytes at {ehdr.e_phoff:#x} "
            f"in a file of {size:#x}",
            where=WHERE,
            hint="was the file cut short when it was copied?",
        )
    table = read_at(ehdr.e_phoff, count * PHDR_SIZE) if count else b""
    segments = tuple(
        Segment(kind, offset, vaddr, paddr, filesz, memsz, flags, alignment)
        for kind, flags, offset, vaddr, paddr, filesz, memsz, alignment in struct.iter_unpack(
            STRUCT_ORDER[order] + _PHDR, table
        )
    )
    return ElfCore(order, ehdr.e_flags, ehdr.e_machine, segments)


def _count(read_at: ReadAt, size: int, ehdr: Record, order: ByteOrder) -> int:
    count = int(ehdr.e_phnum)
    if count == PN_XNUM:
        if ehdr.e_shoff < EHDR_SIZE or ehdr.e_shoff + SHDR_SIZE > size:
            raise BadRecord("PN_XNUM, but no section header", where=WHERE)
        section = bytes(read_at(ehdr.e_shoff, SHDR_SIZE))
        count = int.from_bytes(section[44:48], order)
    if count > MAX_SEGMENTS:
        raise BadRecord(f"{count} program headers, more than {MAX_SEGMENTS}", where=WHERE)
    return count


def head_size(count: int) -> int:
    """Bytes of ELF header, `count` program headers and what PN_XNUM needs."""
    return EHDR_SIZE + count * PHDR_SIZE + (SHDR_SIZE if count >= PN_XNUM else 0)


def write_head(core: ElfCore) -> bytes:
    """ELF header and program headers, which follow it at once: some readers expect that."""
    count, order = len(core.segments), core.order
    extended = count >= PN_XNUM
    table_end = EHDR_SIZE + count * PHDR_SIZE
    ehdr = {
        "magic": MAGIC, "ei_class": CLASS64, "ei_data": 2 if order == "big" else 1,
        "ei_version": 1, "ei_osabi": 0, "padding": bytes(8),
        "e_type": ET_CORE, "e_machine": core.machine, "e_version": 1, "e_entry": 0,
        "e_phoff": EHDR_SIZE, "e_shoff": table_end if extended else 0, "e_flags": core.flags,
        "e_ehsize": EHDR_SIZE, "e_phentsize": PHDR_SIZE, "e_phnum": min(count, PN_XNUM),
        "e_shentsize": SHDR_SIZE if extended else 0, "e_shnum": int(extended), "e_shstrndx": 0,
    }  # fmt: skip
    record = struct.Struct(STRUCT_ORDER[order] + _PHDR)
    head = bytearray(build(_ehdr(order), ehdr))
    for s in core.segments:
        fields = (s.type, s.flags, s.offset, s.vaddr, s.paddr, s.filesz, s.memsz, s.align)
        head += pack(record, *fields, where="a program header to be written")
    if extended:
        section = bytearray(SHDR_SIZE)
        section[44:48] = count.to_bytes(4, order)  # sh_info
        head += section
    return bytes(head)


def read_notes(
    data: Bytes, order: ByteOrder, problems: list[Problem] | None = None
) -> Iterator[Note]:
    """The notes in a PT_NOTE segment, up to an all-zero header or the end.

    Descriptors are padded to four bytes, as Linux and makedumpfile do on every architecture. What
    cannot be read of the segment is added to `problems`.
    """
    header = struct.Struct(STRUCT_ORDER[order] + "III")
    position = count = 0
    while position + header.size <= len(data):
        name_size, desc_size, kind = header.unpack_from(data, position)
        if not (name_size or desc_size or kind):
            return
        name_at = position + header.size
        desc_at = name_at + align(name_size, 4)
        if desc_at + desc_size > len(data) or count == MAX_NOTES:
            break
        name = bytes(data[name_at : name_at + name_size]).rstrip(b"\0")
        yield Note(name, kind, bytes(data[desc_at : desc_at + desc_size]))
        position, count = desc_at + align(desc_size, 4), count + 1
    if any(data[position : position + header.size]) and problems is not None:
        what = f"note {count}, at byte {position:#x} of {len(data):#x}, does not fit"
        if count == MAX_NOTES:
            what = f"more than {MAX_NOTES} notes"
        problems.append(Problem(what, "PT_NOTE", "it and what follows it is lost"))


def write_notes(notes: Iterable[Note], order: ByteOrder) -> bytes:
    """The bytes of a PT_NOTE segment."""
    header = struct.Struct(STRUCT_ORDER[order] + "III")
    data = bytearray()
    for note in notes:
        name = note.name + b"\0"
        if len(note.data) >= 1 << 32 or not 0 <= note.type < 1 << 32:
            raise BadRecord(f"{len(note.data):#x} bytes of type {note.type:#x}", where="a note")
        data += header.pack(len(name), len(note.data), note.type)
        data += name.ljust(align(len(name), 4), b"\0")
        data += note.data.ljust(align(len(note.data), 4), b"\0")
    return bytes(data)
