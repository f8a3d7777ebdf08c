"""Register Save Area: every CPU's registers, as the hypervisor left them (section type 0x0001).

LoPAR 2.9, "Firmware Assisted Dump Data Format", Register Save Area and its table of identifiers,
version 0; read as Linux does, rtas_fadump_build_cpu_notes() (arch/powerpc/platforms/pseries/
rtas-fadump.c). Integers are big-endian, whatever the byte order of the partition.

LoPAR puts the CPU count at byte 0x1c. QEMU 10.2 (hw/ppc/spapr_fadump.c) puts it at 0x10 and leaves
12 bytes of garbage at the end. Both say where it is, so that is where it is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from construct import Const, Int32ub
from construct import Struct as Record

from phypan.errors import BadRecord, Problem
from phypan.formats._records import Bytes, parse

MAGIC = b"REGSAVE\0"
HEADER = Record(
    "magic" / Const(MAGIC),
    "version" / Int32ub,
    "num_cpus_offset" / Int32ub,  # of NUM_CPUS, from the start of the area
)
NUM_CPUS = Int32ub  # the first entry follows at once, aligned or not
ENTRY = struct.Struct(">8sQ")  # identifier, ASCII padded with NUL; value
WHERE = "register save area"
# More than any machine has, that a damaged area may not become objects without end.
MAX_CPUS = 1 << 16
MAX_REGISTERS = 2048
_MAX_PROBLEMS = 32

Layout = Literal["lopar", "qemu"]
_COUNT_AT: Mapping[Layout, int] = {"lopar": 0x1C, "qemu": 0x10}


class Kind(Enum):
    """What kind of register an identifier names."""

    GPR = "general purpose"
    FPR = "floating point"
    VR = "vector"
    VSR = "vector-scalar"
    SPR = "special purpose"
    CHECKPOINTED = "checkpointed"  # of a transaction that had begun


def _identifiers() -> Iterator[tuple[str, Kind]]:
    special = """
        ACOP AMR CFAR CR CTR CTRL DABR DABRX DAR DEC DSCR DSISR FPSCR LR MMCR0 MMCR1 MMCRA MSR NIA
        PID PIR PMC1 PMC2 PMC3 PMC4 PMC5 PMC6 PURR PVR SDAR SIAR SPRG0 SPRG1 SPRG2 SPRG3 SPURR SRR0
        SRR1 TB TSR UAMOR VRSAVE VSCR XER FSCR VTB IC DAWR0 DAWRX0 CIABR TAR BESCR EBBHR EBBRR IAMR
        PSPB RPR MMCR2 SIER DPDES TIR TID SPMC1 SPMC2 MMCRS WORC WORT TFHAR TFIAR TEXASR"""
    checkpointed = "X-CR X-VSCR X-XER X-LR X-CTR X-FPSCR X-AMR X-TSR X-VRSAVE X-DSCR X-TAR"
    for name in (f"GPR{n:02}" for n in range(32)):
        yield name, Kind.GPR
    for name in (f"FPR{n:02}" for n in range(32)):
        yield name, Kind.FPR
    for name in (f"VR{n:02}_{half}" for n in range(32) for half in ("HI", "LO")):
        yield name, Kind.VR
    for name in (f"VSR{n:02}_{half}" for n in range(64) for half in ("HI", "LO")):
        yield name, Kind.VSR
    for name in special.split():
        yield name, Kind.SPR
    for name in (f"X-GPR{n:02}" for n in range(32)):
        yield name, Kind.CHECKPOINTED
    for name in (f"X-VS{n:02}{half}" for n in range(64) for half in ("HI", "LO")):
        yield name, Kind.CHECKPOINTED
    for name in checkpointed.split():
        yield name, Kind.CHECKPOINTED
    for name in ("LMRR", "LMSER", "PSSCR"):
        yield name, Kind.SPR


CPU_START, CPU_END = "CPUSTRT", "CPUEND"
REGISTERS: Mapping[str, Kind] = dict(_identifiers())  # with the two markers: LoPAR's 502
# Written by QEMU, not listed by LoPAR 2.9: the second debug address watch of POWER10.
LATER_REGISTERS: Mapping[str, Kind] = {"DAWR1": Kind.SPR, "DAWRX1": Kind.SPR}
# LoPAR prints these three in two ways, so a firmware may follow either.
MISPRINTS: Mapping[str, str] = {"MMCR@": "MMCRA", "PIMC6": "PMC6", "X-VSU1LO": "X-VS51LO"}
# Registers of 32 bits: the upper four bytes of their entry are reserved.
FOUR_BYTES = frozenset("CR DSISR VRSAVE VSCR PVR CTRL PIR X-CR X-VSCR X-VRSAVE".split())
_NAME_OF: Mapping[bytes, str] = {
    name.encode().ljust(8, b"\0"): name
    for name in (CPU_START, CPU_END, *REGISTERS, *LATER_REGISTERS)
} | {misprint.encode().ljust(8, b"\0"): name for misprint, name in MISPRINTS.items()}


@dataclass(frozen=True)
class CpuState:
    """One CPU: its logical number and its registers by LoPAR's name, in stored order."""

    number: int
    registers: Mapping[str, int]

    def vector(self, hi: str, lo: str) -> bytes | None:
        """A 128-bit register, most significant byte first; None unless both halves were saved."""
        if hi not in self.registers or lo not in self.registers:
            return None
        return struct.pack(">QQ", self.registers[hi], self.registers[lo])


@dataclass(frozen=True)
class RegisterSaveArea:
    """The CPUs in stored order: those that were online when the dump began."""

    cpus: tuple[CpuState, ...]
    version: int = 0
    num_cpus_offset: int = 0x1C
    problems: tuple[Problem, ...] = field(default=(), compare=False)


def read(area: Bytes) -> RegisterSaveArea:
    """The register save area; what is behind the last CPU is padding.

    A CPU that the area ends in is kept with the registers it has; every oddity is in `problems`.
    Raises BadRecord when the header is not there.
    """
    header = parse(HEADER, area, WHERE)
    at = header.num_cpus_offset
    if not HEADER.sizeof() <= at <= len(area) - NUM_CPUS.sizeof():
        raise BadRecord(f"the CPU count is said to be at byte {at:#x}", where=WHERE)
    announced = parse(NUM_CPUS, area[at : at + 4], f"{WHERE}, byte {at:#x}")
    reader = _Reader(announced)
    if header.version != 0:
        reader.problem(f"version {header.version}, not 0", WHERE, "read as version 0")
    if not announced:
        reader.problem("0 CPUs announced", WHERE, "what the area holds is taken for padding")
    reader.read(memoryview(area)[at + 4 :], at + 4)
    return RegisterSaveArea(tuple(reader.cpus), header.version, at, tuple(reader.said()))


class _Reader:
    """Entries in, CPUs out: what is open, and what was odd on the way."""

    def __init__(self, announced: int) -> None:
        self.cpus: list[CpuState] = []
        self._announced = announced
        self._number = 0
        self._open: dict[str, int] | None = None  # registers of the CPU that is being read
        self._unknown: set[str] = set()
        self._problems: list[Problem] = []
        self._unsaid = 0  # problems beyond those that are kept

    def problem(self, what: str, where: str, meaning: str) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(Problem(what, where, meaning))
        else:
            self._unsaid += 1

    def said(self) -> Iterator[Problem]:
        """What was odd, after all was read."""
        yield from self._problems
        if self._unsaid:
            yield Problem(f"{self._unsaid} more of this kind", WHERE, "the area is damaged")
        if self._unknown:
            names = ", ".join(sorted(self._unknown)[:8])
            yield Problem(f"unknown identifiers: {names}", WHERE, "kept under these names")
        if len(self.cpus) != self._announced:
            what = f"{self._announced} CPUs announced, {len(self.cpus)} found"
            yield Problem(what, WHERE, "the registers of the others are lost")

    def read(self, entries: memoryview, first: int) -> None:
        """All CPUs that were announced, from `entries`, which begin at byte `first`."""
        wanted = min(self._announced, MAX_CPUS)
        for position in range(0, len(entries) - ENTRY.size + 1, ENTRY.size):
            if len(self.cpus) >= wanted:
                break
            identifier, value = ENTRY.unpack_from(entries, position)
            name = _NAME_OF.get(identifier) or _printable(identifier)
            where = f"{WHERE}, byte {first + position:#x}"
            if name == CPU_START:
                self._start(value & 0xFFFFFFFF, where)
            elif name == CPU_END:
                self._end(value & 0xFFFFFFFF, where)
            elif self._open is None:
                self.problem(f"{name} stands outside a CPU", where, "reading ended here")
                break
            elif len(self._open) == MAX_REGISTERS:
                self.problem(f"CPU {self._number} has no end", where, "reading ended here")
                break
            else:
                self._register(name, value, where)
        if self._open is not None and len(self.cpus) < wanted:
            what = f"the area ends inside CPU {self._number}"
            self.problem(what, WHERE, "it lacks the registers after that")
            self._close()

    def _close(self) -> None:
        if self._open is not None:
            self.cpus.append(CpuState(self._number, self._open))
        self._open = None

    def _start(self, number: int, where: str) -> None:
        if self._open is not None:
            self.problem(f"CPU {self._number} has no end", where, "its registers are kept")
            self._close()
        self._number, self._open = number, {}

    def _end(self, number: int, where: str) -> None:
        if self._open is None:
            self.problem("the end of a CPU that did not begin", where, "skipped")
        elif number != self._number:
            what = f"CPU {self._number} ends as CPU {number}"
            self.problem(what, where, "it is taken for the former")
        self._close()

    def _register(self, name: str, value: int, where: str) -> None:
        assert self._open is not None
        if name not in REGISTERS and name not in LATER_REGISTERS:
            self._unknown.add(name)
        if name in self._open:
            what = f"CPU {self._number} has {name} twice"
            self.problem(what, where, "the first was used")
            return
        self._open[name] = value & 0xFFFFFFFF if name in FOUR_BYTES else value


def _printable(identifier: bytes) -> str:
    """An unknown identifier as text that can be printed and stored."""
    text = identifier.rstrip(b"\0").decode("ascii", "backslashreplace")
    return text if text.isprintable() and text else identifier.hex()


def write(cpus: Iterable[CpuState], *, layout: Layout = "lopar", tail: bytes = b"") -> bytes:
    """The bytes of an area that holds `cpus`; `tail` is put behind the last one."""
    cpus = list(cpus)
    at = _COUNT_AT[layout]
    area = bytearray(HEADER.build({"version": 0, "num_cpus_offset": at}))
    area += bytes(at - len(area)) + NUM_CPUS.build(len(cpus))
    for cpu in cpus:
        area += _entry(CPU_START, cpu.number)
        for name, value in cpu.registers.items():
            area += _entry(name, value)
        area += _entry(CPU_END, cpu.number)
    return bytes(area) + tail


def _entry(name: str, value: int) -> bytes:
    bits = 32 if name in (CPU_START, CPU_END) else 64
    if not name.isascii() or not 0 < len(name) <= 8 or not 0 <= value < 1 << bits:
        raise BadRecord(f"{name!r} = {value:#x} is not a register entry", where=WHERE)
    return ENTRY.pack(name.encode("ascii"), value)
