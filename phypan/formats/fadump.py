"""Linux's own record of a firmware-assisted dump: the crash info header, and debugfs's text.

struct fadump_crash_info_header (arch/powerpc/include/asm/fadump-internal.h): the dying kernel puts
it right behind the copies of boot memory. Version 0 ("FADMPINF", 3.4 to 6.9) and version 1
("FADMPSIG", since 6.10). The magic is a number in the byte order of the kernel, so it tells it.
debugfs: fadump_region_show() and rtas_fadump_region_show(), in three spellings over the years.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from construct import Int32ub, Int32ul, Int64ub, Int64ul, Struct

from phypan.errors import BadRecord
from phypan.formats import pt_regs
from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes, build, parse

MAGIC_V0 = 0x4641444D50494E46  # "FADMPINF"
MAGIC_V1 = 0x4641444D50534947  # "FADMPSIG"
UNKNOWN_CPU = 0xFFFFFFFF
WHERE = "fadump crash info header"
_PT_REGS_SIZES = (352, 368, 384, 400)  # seen: 44 words; with ppr; with kuap and amr; room for more


def _v0(order: ByteOrder) -> Struct:
    word, long = (Int32ub, Int64ub) if order == "big" else (Int32ul, Int64ul)
    return Struct(
        "magic" / long,
        "elfcorehdr" / long,  # physical address, of the header behind this structure
        "crashing_cpu" / word,
        "padding" / word,
    )


def _v1(order: ByteOrder) -> Struct:
    word, long = (Int32ub, Int64ub) if order == "big" else (Int32ul, Int64ul)
    return Struct(
        "magic" / long,
        "version" / word,
        "crashing_cpu" / word,
        "vmcoreinfo_address" / long,  # physical, in the copy if it was below the boot memory size
        "vmcoreinfo_size" / long,
        "pt_regs_size" / word,
        "cpu_mask_size" / word,
    )


@dataclass(frozen=True)
class CrashInfo:
    """The header. Addresses are physical, as memory lies in the second boot.

    crashing_cpu  Linux's CPU number, None if the kernel did not get so far
    regs          that CPU's registers as the dying kernel saved them
    online        CPU numbers in the mask; None where version 0 does not let it be told
    size          of the header in bytes
    """

    version: int
    order: ByteOrder
    crashing_cpu: int | None
    regs: pt_regs.PtRegs
    online: frozenset[int] | None
    size: int
    elfcorehdr: int | None = None
    vmcoreinfo: tuple[int, int] | None = None


def byte_order(data: Bytes) -> tuple[ByteOrder, int] | None:
    """(byte order, version) if `data` begins with the magic number."""
    head = bytes(data[:8])
    orders: tuple[ByteOrder, ...] = ("big", "little")
    for order in orders:
        number = int.from_bytes(head, order)
        if number in (MAGIC_V0, MAGIC_V1):
            return order, int(number == MAGIC_V1)
    return None


def read(data: Bytes, address: int | None = None) -> CrashInfo:
    """The header that `data` begins with.

    address  physical, where it was found; None if `data` is the header and nothing else

    Raises BadRecord when it is not one or is cut short.
    """
    found = byte_order(data)
    if found is None:
        raise BadRecord(f"no magic number but {bytes(data[:8]).hex()}", where=WHERE)
    order, version = found
    return _read_v1(data, order) if version else _read_v0(data, order, address)


def _read_v0(data: Bytes, order: ByteOrder, address: int | None) -> CrashInfo:
    record = _v0(order)
    head = parse(record, data, WHERE)
    start = record.sizeof()
    total = len(data) if address is None else head.elfcorehdr - address
    regs_size, mask_size = _v0_sizes(total - start)
    regs = pt_regs.read(_cut(data, start, regs_size), order)
    online = None
    if mask_size:
        online = _mask(_cut(data, start + regs_size, mask_size), order)
    size = total if mask_size else start + regs_size
    return CrashInfo(
        0, order, _cpu(head.crashing_cpu), regs, online, size, elfcorehdr=head.elfcorehdr
    )


def _v0_sizes(both: int) -> tuple[int, int]:
    """(size of pt_regs, size of the mask) in bytes: NR_CPUS is nearly always a power of two.

    Where two sizes of pt_regs would do (384 + 32 is 352 + 64) the mask cannot be told: 0.
    """
    masks = {size: both - size for size in _PT_REGS_SIZES}
    fitting = {
        size: mask for size, mask in masks.items() if 8 <= mask <= 1024 and mask & (mask - 1) == 0
    }
    return next(iter(fitting.items())) if len(fitting) == 1 else (_PT_REGS_SIZES[0], 0)


def _read_v1(data: Bytes, order: ByteOrder) -> CrashInfo:
    record = _v1(order)
    head = parse(record, data, WHERE)
    start = record.sizeof()
    if not 352 <= head.pt_regs_size <= 4096 or not head.cpu_mask_size <= 8192:
        raise BadRecord(
            f"registers of {head.pt_regs_size} and a mask of {head.cpu_mask_size} bytes",
            where=WHERE,
        )
    regs = pt_regs.read(_cut(data, start, head.pt_regs_size), order)
    online = _mask(_cut(data, start + head.pt_regs_size, head.cpu_mask_size), order)
    return CrashInfo(
        version=head.version,
        order=order,
        crashing_cpu=_cpu(head.crashing_cpu),
        regs=regs,
        online=online,
        size=start + head.pt_regs_size + head.cpu_mask_size,
        vmcoreinfo=(head.vmcoreinfo_address, head.vmcoreinfo_size),
    )


def _cut(data: Bytes, start: int, size: int) -> bytes:
    if len(data) < start + size:
        raise BadRecord(f"{len(data)} bytes where {start + size} are needed", where=WHERE)
    return bytes(data[start : start + size])


def _cpu(number: int) -> int | None:
    return None if number == UNKNOWN_CPU else int(number)


def _mask(data: bytes, order: ByteOrder) -> frozenset[int]:
    """CPU numbers whose bit is set; the mask is an array of 64-bit words."""
    words = struct.unpack_from(f"{STRUCT_ORDER[order]}{len(data) // 8}Q", data)
    return frozenset(
        64 * index + bit for index, word in enumerate(words) for bit in range(64) if word >> bit & 1
    )


def write(info: CrashInfo, *, pt_regs_size: int = 384, cpu_mask_size: int = 256) -> bytes:
    """The header's bytes; for version 0 `elfcorehdr` must be its own address plus its size."""
    order = info.order
    regs = pt_regs.write(info.regs, order)[:pt_regs_size].ljust(pt_regs_size, b"\0")
    cpu = UNKNOWN_CPU if info.crashing_cpu is None else info.crashing_cpu
    mask = _write_mask(info.online or (), cpu_mask_size, order)
    if info.version == 0:
        head = build(
            _v0(order),
            {
                "magic": MAGIC_V0,
                "elfcorehdr": info.elfcorehdr or 0,
                "crashing_cpu": cpu,
                "padding": 0,
            },
        )
        return head + regs + mask
    address, size = info.vmcoreinfo or (0, 0)
    fields = {
        "magic": MAGIC_V1, "version": info.version, "crashing_cpu": cpu,
        "vmcoreinfo_address": address, "vmcoreinfo_size": size,
        "pt_regs_size": pt_regs_size, "cpu_mask_size": cpu_mask_size,
    }  # fmt: skip
    return build(_v1(order), fields) + regs + mask


def _write_mask(numbers: Iterable[int], size: int, order: ByteOrder) -> bytes:
    bits = sum(1 << number for number in set(numbers))
    if size % 8 or bits >= 1 << 8 * size:
        raise BadRecord(f"CPU {bits.bit_length() - 1} in a mask of {size} bytes", where=WHERE)
    words = bits.to_bytes(size, "little")
    return b"".join(words[at : at + 8][:: -1 if order == "big" else 1] for at in range(0, size, 8))


@dataclass(frozen=True)
class DebugRegion:
    """One line of fadump_region; bytes. `source` is None where the line does not say."""

    name: str  # "CPU", "HPTE" or "DUMP"
    destination: int
    size: int
    dumped: int
    source: int | None = None


def _number(name: str) -> str:
    return rf"(?P<{name}>0x[0-9a-f]{{1,16}})"


_LINES = re.compile(
    r"(?P<name>CPU|HPTE|DUMP)\s*+:\s*+(?:"
    rf"\[{_number('start')}-{_number('last')}\]\s*+{_number('size')} bytes,"
    rf"|Src: {_number('src')}, Dest: {_number('dest')}, Size: {_number('length')},"
    rf")\s*+Dumped: {_number('dumped')}\b"
)


def read_debug_regions(text: str) -> list[DebugRegion]:
    """The regions in debugfs's fadump_region; there the second address is the last byte's."""
    return list(_debug_regions(text))


def _debug_regions(text: str) -> Iterator[DebugRegion]:
    for match in _LINES.finditer(text):
        name, dumped = match["name"], int(match["dumped"], 16)
        if match["src"]:
            source, destination, size = (int(match[key], 16) for key in ("src", "dest", "length"))
            yield DebugRegion(name, destination, size, dumped, source)
        else:
            yield DebugRegion(name, int(match["start"], 16), int(match["size"], 16), dumped)


def write_debug_regions(regions: list[DebugRegion], *, above: int | None = None) -> str:
    """The text as today's kernel prints it."""
    lines = []
    for region in regions:
        if region.source is not None:
            lines.append(
                f"{region.name}: Src: {region.source:#016x}, Dest: {region.destination:#016x}, "
                f"Size: {region.size:#x}, Dumped: {region.dumped:#x} bytes"
            )
        else:
            last = region.destination + region.size - 1
            lines.append(
                f"{region.name:<4}:[{region.destination:#016x}-{last:#016x}] "
                f"{region.size:#x} bytes, Dumped: {region.dumped:#x}"
            )
    if above is not None:
        lines.append(f"Memory above {above:#016x} is reserved for saving crash dump")
    return "\n".join(lines) + "\n"
