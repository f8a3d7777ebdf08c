"""Registers of CPUs, decoded; what the firmware saved beside what the kernel did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from phypan import Analysis, Cpu, Dump, Hex, hookimpl


@dataclass(frozen=True)
class CpuRow:
    """One register of one CPU."""

    cpu: int
    state: str  # crashed, online or offline
    register: str  # by LoPAR's name
    kind: str  # general purpose, special purpose, ...
    value: Hex | None  # as the firmware saved it; None where it did not
    kernel: Hex | None  # as the kernel did, where it did
    differs: bool  # both are there and are not the same
    meaning: str  # symbol, bits, processor


def cpus(
    dump: Dump, numbers: tuple[int, ...] = (), *, vectors: bool = False, differing: bool = False
) -> Iterator[CpuRow]:
    """Show the registers of CPUs, decoded: the firmware's beside the kernel's.

    vectors    floating point, vector and checkpointed registers too
    differing  only those that firmware and kernel tell differently
    """
    for cpu in dump.cpus:
        if numbers and cpu.number not in numbers:
            continue
        for row in _rows(dump, cpu):
            if (vectors or row.kind in _PLAIN) and (row.differs or not differing):
                yield row


_PLAIN = ("general purpose", "special purpose")


def _rows(dump: Dump, cpu: Cpu) -> Iterator[CpuRow]:
    from phypan.formats.regsave import LATER_REGISTERS, REGISTERS

    firmware: Mapping[str, int] = cpu.firmware or {}
    kernel = _of_kernel(cpu)
    state = "crashed" if cpu.crashing else "online" if cpu.online else "offline"
    known = {**REGISTERS, **LATER_REGISTERS}
    for name in dict.fromkeys([*firmware, *kernel]):
        value, own = firmware.get(name), kernel.get(name)
        differs = value is not None and own is not None and value != own
        kind = known[name].value if name in known else "unknown"
        shown = own if own is not None else value
        meaning = _meaning(dump, name, shown) if shown is not None and kind in _PLAIN else ""
        yield CpuRow(cpu.number, state, name, kind, value, own, differs, meaning)


def _of_kernel(cpu: Cpu) -> dict[str, int]:
    """pt_regs by LoPAR's names."""
    from phypan.formats.pt_regs import FROM_FIRMWARE

    if cpu.kernel is None:
        return {}
    return {name: cpu.kernel[member] for name, member in FROM_FIRMWARE.items()}


def _meaning(dump: Dump, name: str, value: int) -> str:
    from phypan.formats import registers

    known = registers.meaning(name, value)
    if known or value >> 60 != 0xC:
        return known
    return dump.symbols.describe(value) or ""


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The registers."""
    return [Analysis(cpus, CpuRow, needs=frozenset({"cpus"}))]
