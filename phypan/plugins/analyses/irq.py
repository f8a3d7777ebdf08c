"""Interrupts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Dump, hookimpl

if TYPE_CHECKING:
    import drgn

_MOST = 1 << 16


@dataclass(frozen=True)
class IrqRow:
    """One interrupt that has a descriptor."""

    irq: int
    desc: Address  # of struct irq_desc, effective
    action: Address | None  # of the first struct irqaction; None if nobody handles it
    counts: tuple[int, ...]  # how often it came, on each online CPU
    chip: str | None
    hwirq: int
    affinity: str  # CPUs that it may come on
    names: tuple[str, ...]  # of those who handle it


def irq(dump: Dump, *, used: bool = False) -> Iterator[IrqRow]:
    """List interrupts: who handles them, on which CPUs, how often they came.

    used  only those that somebody handles
    """
    from drgn.helpers.linux.irq import for_each_irq_desc

    from phypan.linux import tasks, walk

    cpus = tasks.online_cpus(dump)
    numbers: dict[int, int] = {}

    def descriptors() -> Iterator[drgn.Object]:
        for number, desc in for_each_irq_desc(dump.program):
            numbers[int(desc)] = number
            yield desc

    found = walk.walk(dump.problems, descriptors(), "interrupts", most=_MOST)
    for row in walk.each(
        dump.problems, found, lambda desc: _row(numbers[int(desc)], desc, cpus), "interrupt"
    ):
        if row.action or not used:
            yield row


def _row(number: int, desc: drgn.Object, cpus: list[int]) -> IrqRow:
    from drgn.helpers.linux.cpumask import cpumask_to_cpulist
    from drgn.helpers.linux.irq import (
        irq_desc_action_names,
        irq_desc_affinity_mask,
        irq_desc_chip_name,
        irq_desc_kstat_cpu,
    )

    from phypan.linux.walk import text

    action = int(desc.action)
    chip = irq_desc_chip_name(desc)
    return IrqRow(
        irq=number,
        desc=int(desc),
        action=action or None,
        counts=tuple(int(irq_desc_kstat_cpu(desc, cpu)) for cpu in cpus),
        chip=None if chip is None else text(chip),
        hwirq=int(desc.irq_data.hwirq),
        affinity=cpumask_to_cpulist(irq_desc_affinity_mask(desc)),
        names=tuple(text(name) for name in irq_desc_action_names(desc)),
    )


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The interrupts."""
    return [Analysis(irq, IrqRow, needs=frozenset({"types"}))]
