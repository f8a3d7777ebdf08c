"""OPAL's Memory Preserving IPL: what skiboot tells Linux about a bare-metal dump.

skiboot include/opal-dump.h, core/opal-dump.c, doc/opal-api/opal-mpipl-173-174.rst; Linux
arch/powerpc/platforms/powernv/opal-fadump.h. Integers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from construct import Int8ub, Int16ub, Int32ub, Int64ub, Padding
from construct import Struct as Record

from phypan.errors import BadRecord, Problem
from phypan.formats import pt_regs
from phypan.formats._records import Bytes, build, pack, parse

MPIPL = Record(
    "version" / Int8ub,  # 1
    Padding(7),
    "crashing_pir" / Int32ub,  # processor identification register of the CPU that crashed
    "cpu_data_version" / Int32ub,  # 1: HDAT of POWER9
    "cpu_data_size" / Int32ub,  # bytes for each thread
    "region_count" / Int32ub,
)
KERNEL = Record(
    "version" / Int8ub,  # 1
    Padding(3),
    "region_count" / Int16ub,
    "registered_regions" / Int16ub,
    "fadumphdr_address" / Int64ub,  # physical, of the crash info header
)
REGION = struct.Struct(">QQQ")  # source, destination, size; physical addresses, bytes
MAX_KERNEL_REGIONS = 128
THREAD = Record(
    "pir" / Int32ub,
    "core_state" / Int8ub,
    Padding(3),
    "offset" / Int32ub,  # of the register array, from this field
    "count" / Int32ub,
    "entry_size" / Int32ub,  # bytes from one entry to the next
    "entry_used" / Int32ub,  # bytes of an entry that mean something
)
_OFFSET_FIELD = 8
REGISTER = struct.Struct(">IIQ")  # type, number, value
INACTIVE = 0x0F  # core state of a thread with no registers
WHERE = "OPAL dump"


class Tag(IntEnum):
    """OPAL_MPIPL_REGISTER_TAG: under which number an address is kept over the reboot."""

    CPU = 0
    OPAL = 1
    KERNEL = 2
    BOOT_MEM = 3


class RegisterType(IntEnum):
    """What the number of a register entry counts."""

    GPR = 1
    SPR = 2


SPR_NAMES = {
    1: "XER", 8: "LR", 9: "CTR", 0x12: "DSISR", 0x13: "DAR",
    0x7D0: "NIA", 0x7D1: "MSR", 0x7D2: "CR",
}  # fmt: skip
_SPR_NUMBERS = {name: number for number, name in SPR_NAMES.items()}


@dataclass(frozen=True)
class Region:
    """A stretch of memory that was copied. Physical addresses, bytes."""

    source: int
    destination: int
    size: int


@dataclass(frozen=True)
class Mpipl:
    """struct opal_mpipl_fadump: where tags CPU and OPAL point."""

    crashing_pir: int
    cpu_data_version: int
    cpu_data_size: int
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Kernel:
    """struct opal_fadump_mem_struct: Linux's own list, under tag KERNEL."""

    registered_regions: int
    fadumphdr_address: int
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Thread:
    """One hardware thread and its registers under LoPAR's names, unknown ones as "SPR 813"."""

    pir: int
    core_state: int
    registers: dict[str, int]

    @property
    def regs(self) -> pt_regs.PtRegs:
        """The same as pt_regs."""
        return pt_regs.from_firmware(self.registers)


def _regions(data: Bytes, first: int, count: int, where: str) -> tuple[Region, ...]:
    fitting = max(0, (len(data) - first) // REGION.size)
    if count > fitting:
        raise BadRecord(f"{count} regions announced, {fitting} fit", where=where)
    return tuple(Region(*REGION.unpack_from(data, first + n * REGION.size)) for n in range(count))


def read_mpipl(data: Bytes) -> Mpipl:
    """The structure that tags CPU and OPAL point to."""
    head = parse(MPIPL, data, f"{WHERE}, opal_mpipl_fadump")
    regions = _regions(data, MPIPL.sizeof(), head.region_count, WHERE)
    return Mpipl(head.crashing_pir, head.cpu_data_version, head.cpu_data_size, regions)


def write_mpipl(mpipl: Mpipl) -> bytes:
    """Its bytes."""
    head = {
        "version": 1,
        "crashing_pir": mpipl.crashing_pir,
        "cpu_data_version": mpipl.cpu_data_version,
        "cpu_data_size": mpipl.cpu_data_size,
        "region_count": len(mpipl.regions),
    }
    return build(MPIPL, head) + _write_regions(mpipl.regions)


def _write_regions(regions: tuple[Region, ...]) -> bytes:
    return b"".join(pack(REGION, r.source, r.destination, r.size) for r in regions)


def read_kernel(data: Bytes) -> Kernel:
    """The structure that tag KERNEL points to."""
    where = f"{WHERE}, opal_fadump_mem_struct"
    head = parse(KERNEL, data, where)
    if head.region_count > MAX_KERNEL_REGIONS:
        raise BadRecord(f"{head.region_count} regions, {MAX_KERNEL_REGIONS} fit", where=where)
    regions = _regions(data, KERNEL.sizeof(), head.region_count, where)
    return Kernel(head.registered_regions, head.fadumphdr_address, regions)


def write_kernel(kernel: Kernel) -> bytes:
    """Its bytes."""
    head = {
        "version": 1,
        "region_count": len(kernel.regions),
        "registered_regions": kernel.registered_regions,
        "fadumphdr_address": kernel.fadumphdr_address,
    }
    return build(KERNEL, head) + _write_regions(kernel.regions)


def read_threads(data: Bytes, size: int, problems: list[Problem] | None = None) -> list[Thread]:
    """The threads in a CPU data region of entries of `size` bytes; inactive ones are left out.

    Linux takes the layout of the register array from the first thread, and so is it done here.
    """
    if not THREAD.sizeof() <= size <= len(data):
        raise BadRecord(f"{size} bytes for a thread in {len(data)}", where=f"{WHERE}, CPU data")
    head = parse(THREAD, data, f"{WHERE}, CPU data")
    at = _OFFSET_FIELD + head.offset
    if head.entry_size < REGISTER.size or at + head.count * head.entry_size > size:
        raise BadRecord(
            f"{head.count} registers of {head.entry_size} bytes at {at:#x} do not fit in {size}",
            where=f"{WHERE}, CPU data",
        )
    threads = []
    for start in range(0, len(data) - size + 1, size):
        thread = parse(THREAD, data[start:], f"{WHERE}, CPU data, byte {start:#x}")
        if thread.core_state == INACTIVE:
            continue
        entries = _entries(data, start + at, head.count, head.entry_size)
        threads.append(Thread(thread.pir, thread.core_state, dict(entries)))
    if len(data) % size and problems is not None:
        rest = len(data) % size
        problems.append(Problem(f"{rest} bytes behind the last thread", WHERE, "left unread"))
    return threads


def _entries(data: Bytes, at: int, count: int, stride: int) -> Iterator[tuple[str, int]]:
    for position in range(at, at + count * stride, stride):
        kind, number, value = REGISTER.unpack_from(data, position)
        if kind == RegisterType.GPR and number < 32:
            yield f"GPR{number:02}", value
        elif kind == RegisterType.SPR:
            yield SPR_NAMES.get(number, f"SPR {number}"), value


def write_threads(threads: list[Thread]) -> tuple[bytes, int]:
    """(CPU data region, bytes for each thread); registers without a number are left out."""
    rows = [_numbered(thread.registers) for thread in threads]
    count = max((len(row) for row in rows), default=0)
    size = THREAD.sizeof() + count * REGISTER.size
    data = bytearray()
    for thread, row in zip(threads, rows, strict=True):
        head = {
            "pir": thread.pir, "core_state": thread.core_state,
            "offset": THREAD.sizeof() - _OFFSET_FIELD,
            "count": count, "entry_size": REGISTER.size, "entry_used": REGISTER.size,
        }  # fmt: skip
        data += build(THREAD, head) + b"".join(pack(REGISTER, *entry) for entry in row)
        data += bytes(size - len(data) % size if len(data) % size else 0)
    return bytes(data), size


def _numbered(registers: dict[str, int]) -> list[tuple[int, int, int]]:
    row = []
    for name, value in registers.items():
        if name.startswith("GPR"):
            row.append((int(RegisterType.GPR), int(name[3:]), value))
        elif name in _SPR_NUMBERS:
            row.append((int(RegisterType.SPR), _SPR_NUMBERS[name], value))
        elif name.startswith("SPR "):
            row.append((int(RegisterType.SPR), int(name[4:]), value))
    return row
