"""Register notes of a ppc64 core file, and phypan's own notes.

struct elf_prstatus (include/linux/elfcore.h), NT_PPC_* (include/uapi/linux/elf.h) and the regsets
behind them (arch/powerpc/kernel/ptrace/). All values are in the byte order of the kernel.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from phypan.errors import BadRecord
from phypan.formats import pt_regs
from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes
from phypan.formats.elfcore import Note
from phypan.formats.regsave import CpuState

CORE, LINUX, PHYPAN, VMCOREINFO = b"CORE", b"LINUX", b"PHYPAN", b"VMCOREINFO"
NT_PRSTATUS, NT_PRFPREG = 1, 2
NT_PPC_VMX, NT_PPC_VSX = 0x100, 0x102
# Regsets of doublewords: note type -> LoPAR's names of the registers, in the kernel's order
# (ptrace-vsx.c, ptrace-view.c, ptrace-tm.c). A note is written if all of its registers were saved.
DOUBLEWORD_NOTES: Mapping[int, tuple[str, ...]] = {
    NT_PRFPREG: (*(f"FPR{n:02}" for n in range(32)), "FPSCR"),
    NT_PPC_VSX: tuple(f"VSR{n:02}_LO" for n in range(32)),
    0x103: ("TAR",),
    0x105: ("DSCR",),
    0x106: ("EBBRR", "EBBHR", "BESCR"),
    0x107: ("SIAR", "SDAR", "SIER", "MMCR2", "MMCR0"),
    0x109: (*(f"X-VS{n:02}HI" for n in range(32)), "X-FPSCR"),
    0x10B: tuple(f"X-VS{n:02}LO" for n in range(32)),
    0x10C: ("TFHAR", "TEXASR", "TFIAR"),
    0x10D: ("X-TAR",),
    0x10F: ("X-DSCR",),
    0x110: ("AMR", "IAMR", "UAMOR"),
}
NT_PPC_TM_CGPR, NT_PPC_TM_CVMX = 0x108, 0x10A
# "X-" registers of a checkpoint -> member of pt_regs
_CHECKPOINT = {
    **{f"X-GPR{n:02}": f"gpr{n}" for n in range(32)},
    "TFHAR": "nip", "X-LR": "link", "X-CTR": "ctr", "X-XER": "xer", "X-CR": "ccr",
}  # fmt: skip

# Types of the notes named "PHYPAN": raw areas as they were preserved, so that converting loses
# nothing, and a JSON text that says what has no other place. Not 1, 2, ...: gdb goes by the type
# alone, whatever the name.
NT_KERNEL_DUMP = 0x50485001
NT_REGSAVE = 0x50485002
NT_HPTESAVE = 0x50485003
NT_DESCRIPTION = 0x50485004
NT_CRASH_INFO = 0x50485005
NT_DEVICE_TREE = 0x50485006

PRSTATUS_SIZE, _PID_AT, _REGS_AT, _FPVALID_AT = 504, 32, 112, 496


@dataclass(frozen=True)
class Prstatus:
    """NT_PRSTATUS: the registers of one CPU, and the thread id that tells CPUs apart."""

    pid: int
    regs: pt_regs.PtRegs


def read_prstatus(data: Bytes, order: ByteOrder) -> Prstatus:
    """The note's content; BadRecord when it is too short to hold 44 registers."""
    if len(data) < _REGS_AT + 44 * 8:
        raise BadRecord(f"{len(data)} bytes, {PRSTATUS_SIZE} expected", where="NT_PRSTATUS")
    pid = int.from_bytes(bytes(data[_PID_AT : _PID_AT + 4]), order, signed=True)
    return Prstatus(pid, pt_regs.read(data[_REGS_AT:_FPVALID_AT], order))


def write_prstatus(status: Prstatus, order: ByteOrder, *, fpvalid: bool = False) -> Note:
    """The note. Signals and times are zero, as the kernel leaves them in a vmcore."""
    if not -(1 << 31) <= status.pid < 1 << 31:
        raise BadRecord(f"pr_pid {status.pid}", where="NT_PRSTATUS")
    data = bytearray(PRSTATUS_SIZE)
    data[_PID_AT : _PID_AT + 4] = status.pid.to_bytes(4, order, signed=True)
    data[_REGS_AT:_FPVALID_AT] = pt_regs.write(status.regs, order)
    data[_FPVALID_AT : _FPVALID_AT + 4] = int(fpvalid).to_bytes(4, order)
    return Note(CORE, NT_PRSTATUS, bytes(data))


def register_notes(cpu: CpuState, order: ByteOrder) -> Iterator[Note]:
    """All that standard notes can hold of a CPU's saved registers, but for NT_PRSTATUS."""
    registers = _with_overlaps(cpu.registers)
    for kind, names in sorted({**DOUBLEWORD_NOTES, NT_PPC_VMX: ()}.items()):
        if kind == NT_PPC_VMX:
            data = _vector_registers(
                registers, "VR{:02}_HI", "VR{:02}_LO", 0, "VSCR", "VRSAVE", order
            )
        else:
            data = _doublewords(registers, names, order)
        if data is not None:
            yield Note(CORE if kind == NT_PRFPREG else LINUX, kind, data)
    yield from _checkpoint_notes(registers, order)


def _checkpoint_notes(registers: Mapping[str, int], order: ByteOrder) -> Iterator[Note]:
    if all(name in registers for name in _CHECKPOINT):
        values = {member: registers[name] for name, member in _CHECKPOINT.items()}
        yield Note(LINUX, NT_PPC_TM_CGPR, pt_regs.write(pt_regs.of(()).replace(**values), order))
    names = ("X-VS{:02}HI", "X-VS{:02}LO", 32, "X-VSCR", "X-VRSAVE")
    data = _vector_registers(registers, *names, order)
    if data is not None:
        yield Note(LINUX, NT_PPC_TM_CVMX, data)


def _with_overlaps(registers: Mapping[str, int]) -> dict[str, int]:
    """The registers, and those that are the same by architecture (Power ISA, VSX).

    VSR 0 to 31 hold the FPRs in their high doubleword, VSR 32 to 63 are the VRs.
    """
    filled = dict(registers)
    for n in range(32):
        pairs = (
            (f"FPR{n:02}", f"VSR{n:02}_HI"),
            (f"VR{n:02}_HI", f"VSR{n + 32}_HI"),
            (f"VR{n:02}_LO", f"VSR{n + 32}_LO"),
        )
        for old, new in pairs:
            if old not in filled and new in filled:
                filled[old] = filled[new]
    return filled


def _doublewords(
    registers: Mapping[str, int], names: tuple[str, ...], order: ByteOrder
) -> bytes | None:
    if any(name not in registers for name in names):
        return None
    values = (registers[name] for name in names)
    return struct.pack(f"{STRUCT_ORDER[order]}{len(names)}Q", *values)


def _vector_registers(
    registers: Mapping[str, int],
    hi: str,
    lo: str,
    first: int,
    vscr: str,
    vrsave: str,
    order: ByteOrder,
) -> bytes | None:
    """32 vector registers, VSCR as another one, VRSAVE as a word in the place of one."""
    pairs = [(hi.format(n), lo.format(n)) for n in range(first, first + 32)]
    if any(name not in registers for name in (vscr, vrsave, *itertools.chain(*pairs))):
        return None
    values = (registers[high] << 64 | registers[low] for high, low in pairs)
    data = b"".join(value.to_bytes(16, order) for value in values)
    data += registers[vscr].to_bytes(16, order)  # as stvx stores it: in the lowest word
    return data + registers[vrsave].to_bytes(4, order) + bytes(12)
