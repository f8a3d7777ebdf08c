"""The registers of the fault that a crash began with, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan.errors import PhypanError
from phypan.formats import registers
from phypan.formats.pt_regs import PtRegs

if TYPE_CHECKING:
    from phypan.dump import Dump
    from phypan.linux.culprit import Culprit
    from phypan.linux.panic import Death

_WITH_DAR = frozenset({0x200, 0x300, 0x380, 0x600})
_WITH_DSISR = frozenset({0x200, 0x300, 0x600})
_NO_FAULTS = frozenset({0, 0xC00, 0x3000})  # not known, and system calls
_FIRST_PAGE = 0x10000


@dataclass(frozen=True)
class Fault:
    """An interrupt: its number (trap), and MSR, DAR and DSISR as it found them.

    Linux keeps SRR1 as the MSR of what was interrupted: in an instruction storage, machine check or
    program interrupt some of its bits say why (Power ISA 3.1B, Book III, 7.5).

    source  where the registers are from, in words
    """

    trap: int
    msr: int
    dar: int
    dsisr: int
    source: str


def of(dump: Dump, culprit: Culprit, death: Death) -> Fault | None:
    """The fault: by the stack, else by the crashing CPU's registers, else by the oops."""
    if culprit.regs is not None:
        return _of_regs(culprit.regs, "registers on the stack")
    cpu = dump.crashing_cpu
    if cpu is not None and cpu.kernel is not None and cpu.kernel["trap"] not in _NO_FAULTS:
        return _of_regs(cpu.kernel, f"registers of CPU {cpu.number}")
    return _of_oops(death)


def _of_regs(regs: PtRegs, source: str) -> Fault:
    trap, msr, dar, dsisr = (regs[name] for name in ("trap", "msr", "dar", "dsisr"))
    return Fault(trap & ~0xF, msr, dar, dsisr, source)


def _of_oops(death: Death) -> Fault | None:
    fields = death.oops.fields if death.oops else {}
    if fields.get("NIP", "0x").startswith("0x"):  # of a process
        return None
    names = ("trap", "MSR", "DAR", "DSISR")
    trap, msr, dar, dsisr = (int(fields.get(name, "0"), 16) for name in names)
    return None if trap in _NO_FAULTS else Fault(trap & ~0xF, msr, dar, dsisr, "kernel log")


def describe(dump: Dump, fault: Fault) -> Iterator[tuple[str, str]]:
    """(register, value and meaning) of those that the interrupt sets."""
    yield "interrupt", registers.trap(fault.trap)
    yield "MSR", f"{fault.msr:016x} {registers.msr(fault.msr)}"
    why = registers.cause(fault.trap, fault.dsisr, fault.msr)
    if fault.trap in (0x400, 0x700) and why:
        yield "SRR1", f"{fault.msr:016x} {', '.join(why)}"
    if fault.trap in _WITH_DAR:
        yield "DAR", f"{fault.dar:016x} {_place(dump, fault.dar)}"
    if fault.trap in _WITH_DSISR:
        yield "DSISR", f"{fault.dsisr:08x} {', '.join(why)}".rstrip()


def _place(dump: Dump, address: int) -> str:
    """What an effective address is."""
    if address < _FIRST_PAGE:
        return f"NULL plus {address:#x}"
    if address >> 60 != 0xC:
        return "an address of a process" if address >> 52 == 0 else "no address of the kernel's"
    try:
        found = dump.spaces["kernel"].translate(address)
    except PhypanError as error:
        return error.what
    return found.fault or f"mapped to physical {found.physical:#x}"
