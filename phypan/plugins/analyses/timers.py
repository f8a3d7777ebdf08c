"""Timers that had not expired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Dump, hookimpl

if TYPE_CHECKING:
    import drgn


@dataclass(frozen=True)
class TimerRow:
    """One timer."""

    cpu: int
    base: str  # BASE_DEF, ... of the timer wheel; the clock of a high resolution timer
    timer: Address  # of struct timer_list or struct hrtimer, effective
    expires: int  # jiffies, or nanoseconds of the clock
    left: int | None  # jiffies until then, less than 0 if it was late; None for nanoseconds
    unit: str  # jiffies, ns
    function: str
    address: Address  # of the function, or of its descriptor


def timers(dump: Dump) -> Iterator[TimerRow]:
    """List pending timers by CPU and base, the next one first."""
    from phypan.linux import tasks, walk

    for cpu in tasks.online_cpus(dump):
        for bases, row in ((_wheel, _wheel_row), (_high_resolution, _high_row)):
            made = partial(_listed, bases, dump.program, cpu)
            found = walk.attempt(dump.problems, made, f"timers of CPU {cpu}", [])
            for name, base, pending in found:
                yield from sorted(
                    _rows(dump, cpu, name, base, pending, row), key=lambda row: row.expires
                )


Base = tuple[str, "drgn.Object", Iterable["drgn.Object"]]
Bases = Iterator[Base]
Make = Callable[[Dump, int, str, "drgn.Object", "drgn.Object"], TimerRow]


def _listed(
    bases: Callable[[drgn.Program, int], Bases], program: drgn.Program, cpu: int
) -> list[Base]:
    return list(bases(program, cpu))


def _rows(
    dump: Dump, cpu: int, name: str, base: drgn.Object, pending: Iterable[drgn.Object], make: Make
) -> Iterator[TimerRow]:
    from phypan.linux import walk

    found = walk.walk(dump.problems, pending, f"{name} of CPU {cpu}", most=1 << 18)
    yield from walk.each(
        dump.problems, found, lambda timer: make(dump, cpu, name, base, timer), "timer"
    )


def _wheel(program: drgn.Program, cpu: int) -> Bases:
    from drgn.helpers.linux.percpu import per_cpu
    from drgn.helpers.linux.timer import timer_base_for_each, timer_base_names

    bases = per_cpu(program["timer_bases"], cpu)
    for name, base in zip(timer_base_names(program), bases, strict=False):
        yield name, base, timer_base_for_each(base.address_of_())


def _wheel_row(dump: Dump, cpu: int, name: str, base: drgn.Object, timer: drgn.Object) -> TimerRow:
    expires = int(timer.expires)
    left = (expires - int(dump.program["jiffies"]) + (1 << 63)) % (1 << 64) - (1 << 63)
    function = int(timer.function)
    return TimerRow(
        cpu=cpu,
        base=name,
        timer=int(timer),
        expires=expires,
        left=left,
        unit="jiffies",
        function=_name(dump, function),
        address=function,
    )


def _high_resolution(program: drgn.Program, cpu: int) -> Bases:
    from drgn.helpers.linux.percpu import per_cpu
    from drgn.helpers.linux.timer import hrtimer_clock_base_for_each

    for base in per_cpu(program["hrtimer_bases"], cpu).clock_base:
        pointer = base.address_of_()
        yield _clock(program, base), base, hrtimer_clock_base_for_each(pointer)


def _clock(program: drgn.Program, base: drgn.Object) -> str:
    names = program.type("enum hrtimer_base_type").enumerators or ()
    index = int(base.index)
    found = next((name for name, value in names if value == index), f"clock {index}")
    return found.removeprefix("HRTIMER_BASE_")


def _high_row(dump: Dump, cpu: int, name: str, base: drgn.Object, timer: drgn.Object) -> TimerRow:
    from drgn.helpers.linux.timekeeping import ktime_to_ns

    function = int(timer.function)
    return TimerRow(
        cpu=cpu,
        base=name,
        timer=int(timer),
        expires=int(ktime_to_ns(timer.node.expires)),
        left=None,
        unit="ns",
        function=_name(dump, function),
        address=function,
    )


def _name(dump: Dump, function: int) -> str:
    symbol = dump.symbols.at(function)
    return f"{function:#x}" if symbol is None else symbol.name


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The timers."""
    return [Analysis(timers, TimerRow, needs=frozenset({"types"}))]
