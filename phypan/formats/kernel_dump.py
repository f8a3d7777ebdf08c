"""Kernel Dump Memory Structure: what to preserve at a crash, and where it was preserved.

LoPAR 2.9, "ibm,configure-kernel-dump RTAS Call", Kernel Dump Memory Structure and Dump Section
tables. The operating system registers it; after a crash the firmware presents it, filled in, as
the property /rtas/ibm,kernel-dump. Linux: struct rtas_fadump_mem_struct (arch/powerpc/platforms/
pseries/rtas-fadump.h), before that struct phyp_dump_header (arch/powerpc/include/asm/phyp_dump.h
of 3.0).
Integers are big-endian, whatever the byte order of the partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any

from construct import Int16ub, Int32ub, Int64ub, Struct

from phypan.errors import BadRecord, Problem
from phypan.formats._records import Bytes, build, parse

HEADER = Struct(
    "version" / Int32ub,
    "num_sections" / Int16ub,
    "status" / Int16ub,
    "first_section_offset" / Int32ub,  # from the start of this structure
    "block_size" / Int32ub,  # bytes per block of the dump disk; 0: no disk
    "first_block" / Int64ub,
    "num_blocks" / Int64ub,
    "disk_path_offset" / Int32ub,
    "max_time_auto" / Int32ub,  # milliseconds after an NMI until the automatic dump; 0: never
)
SECTION = Struct(
    "request_flags" / Int32ub,
    "type" / Int16ub,
    "error_flags" / Int16ub,
    "source" / Int64ub,  # physical address; for platform data an offset in bytes
    "length" / Int64ub,  # bytes requested
    "dumped" / Int64ub,  # bytes the platform copied
    "destination" / Int64ub,  # physical address
)
VERSION = 1
MAX_SECTIONS = 10  # of version 1
_READ_SECTIONS = (
    256  # at the most: more are damage, and each is a piece of memory to be looked after
)
WHERE = "ibm,kernel-dump"


class Status(IntFlag):
    """Dump status flags."""

    PERFORMED = 0x8000
    TRIGGERED = 0x4000  # by the previous boot
    ERROR = 0x2000


class SectionType(IntEnum):
    """Source data types; 0x0100 to 0xffff are the operating system's own."""

    CPU_STATE = 0x0001
    HPTE = 0x0002  # hardware page table for the real mode region
    REAL_MODE_REGION = 0x0011
    OS_IDENTIFICATION = 0x0012
    PARAMETER_AREA = 0x0100  # Linux: further kernel arguments


class ErrorFlag(IntFlag):
    """Dump error flags of a section, set by the platform."""

    INVALID_TYPE = 0x8000
    INVALID_SOURCE = 0x4000
    LENGTH_EXCEEDS_SOURCE = 0x2000
    INVALID_DESTINATION = 0x1000
    DESTINATION_TOO_SMALL = 0x0800


OS_TYPES = 0x0100  # from here on the operating system's own, copied as memory is
COPY_TO_MEMORY = 0x00000001  # request flag: copy into partition memory, not to a disk


@dataclass(frozen=True)
class Section:
    """One dump section. Addresses are physical, lengths in bytes."""

    type: int
    source: int
    length: int
    destination: int
    dumped: int = 0
    error_flags: int = 0
    request_flags: int = COPY_TO_MEMORY

    @property
    def name(self) -> str:
        """The type in words: "CPU_STATE", "0x0234" for a type that nobody named."""
        try:
            return SectionType(self.type).name
        except ValueError:
            return f"{self.type:#06x}"


@dataclass(frozen=True)
class KernelDump:
    """The structure with its sections, in stored order."""

    sections: tuple[Section, ...]
    status: int = 0
    version: int = VERSION
    max_time_auto: int = 0
    problems: tuple[Problem, ...] = field(default=(), compare=False)

    def of_type(self, kind: SectionType) -> tuple[Section, ...]:
        """The sections of one type, in stored order."""
        return tuple(section for section in self.sections if section.type == kind)


def read(data: Bytes) -> KernelDump:
    """The structure in `data`; its `problems` name all that is odd but readable.

    Raises BadRecord when there is no header or not one whole section.
    """
    header = parse(HEADER, data, WHERE)
    first, size = header.first_section_offset, SECTION.sizeof()
    if first < HEADER.sizeof():
        raise BadRecord(
            f"the first section is said to be at byte {first:#x}, inside the header",
            where=WHERE,
            hint="is this file the raw property, with nothing before it?",
        )
    fitting = max(0, (len(data) - first) // size)
    count = min(header.num_sections, fitting, _READ_SECTIONS)
    if not count:
        raise BadRecord(
            f"no section: {header.num_sections} announced, {fitting} fit in {len(data)} bytes",
            where=WHERE,
        )
    sections = []
    for index in range(count):
        record = parse(SECTION, data[first + index * size :], f"{WHERE}, section {index}")
        record.pop("_io", None)
        sections.append(Section(**record))
    return KernelDump(
        sections=tuple(sections),
        status=header.status,
        version=header.version,
        max_time_auto=header.max_time_auto,
        problems=tuple(_header_problems(header, fitting, len(data))),
    )


def _header_problems(header: Any, fitting: int, size: int) -> Iterator[Problem]:
    count, version = header.num_sections, header.version
    if version != VERSION:
        yield Problem(f"version {version}, not {VERSION}", WHERE, "read as version 1")
    if count > fitting:
        yield Problem(
            f"{count} sections announced, {fitting} fit in {size} bytes",
            WHERE,
            "the sections that are missing are lost",
        )
    if count > MAX_SECTIONS:
        read = "all" if count <= _READ_SECTIONS else f"the first {_READ_SECTIONS}"
        yield Problem(f"{count} sections, {MAX_SECTIONS} allowed", WHERE, f"{read} were read")
    if header.status & Status.ERROR:
        yield Problem(
            "the platform reports a dump error",
            f"{WHERE}, status {header.status:#06x}",
            "Linux would refuse this dump; see the sections for what is there",
        )
    if header.block_size:
        yield Problem("names a dump disk", WHERE, "only what is in memory was read")


def section_problems(dump: KernelDump) -> Iterator[Problem]:
    """What the platform itself says went wrong while it preserved each section."""
    if not dump.status & (Status.PERFORMED | Status.TRIGGERED | Status.ERROR):
        yield Problem(
            "no dump was performed",
            f"{WHERE}, status {dump.status:#06x}",
            "this is what was registered; what it names may never have been preserved",
        )
    for index, section in enumerate(dump.sections):
        where = f"{WHERE}, section {index} ({section.name})"
        if section.error_flags:
            names = [flag.name for flag in ErrorFlag if section.error_flags & flag and flag.name]
            yield Problem(
                f"error flags {section.error_flags:#06x} ({' '.join(names) or 'reserved'})",
                where,
                "what the section holds was used as far as it makes sense",
            )
        if section.dumped != section.length:
            more = section.dumped > section.length
            yield Problem(
                f"{section.dumped:#x} bytes dumped, {section.length:#x} requested",
                where,
                "only the requested bytes were used" if more else "the rest is missing",
            )


def write(dump: KernelDump) -> bytes:
    """The bytes of the structure: header, then the sections."""
    header = {
        "version": dump.version,
        "num_sections": len(dump.sections),
        "status": dump.status,
        "first_section_offset": HEADER.sizeof(),
        "block_size": 0,
        "first_block": 0,
        "num_blocks": 0,
        "disk_path_offset": 0,
        "max_time_auto": dump.max_time_auto,
    }
    return build(HEADER, header) + b"".join(
        build(SECTION, vars(section)) for section in dump.sections
    )
