"""Stacks of tasks and CPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phypan import Address, Analysis, Dump, Hex, PhypanError, Problem, hookimpl

if TYPE_CHECKING:
    from phypan.linux.stack import Frame
    from phypan.linux.tasks import Task

_USER = 1 << 14  # MSR[PR]


@dataclass(frozen=True)
class BtRow:
    """One frame, the innermost of a stack first."""

    pid: int | None
    task: Address | None  # of struct task_struct, effective
    cpu: int | None
    comm: str | None
    frame: int  # 0 for the innermost
    sp: Address | None  # GPR1, effective
    pc: Address  # effective
    function: str | None
    offset: Hex | None  # of pc in the function
    size: Hex | None  # of the function
    module: str | None
    interrupt: str | None  # what made the frame, if an interrupt did
    nip: Address | None  # of what was interrupted, as the rest
    lr: Address | None
    msr: Hex | None
    dar: Address | None
    dsisr: Hex | None
    source: str | None  # file and line, with lines=True and debuginfo
    inlined: tuple[str, ...]  # functions inlined at pc, likewise
    registers: tuple[str, ...]  # with registers=True, as far as they are known


def bt(
    dump: Dump,
    pids: tuple[int, ...] = (),
    *,
    all: bool = False,
    cpus: bool = False,
    registers: bool = False,
    lines: bool = False,
) -> Iterator[BtRow]:
    """Show stacks: of the task that crashed, of those named, or of more.

    all        of all tasks
    cpus       of what ran on each CPU (crash's bt -a)
    registers  with the registers of each frame
    lines      with source lines and inlined functions, by debuginfo
    """
    for task, cpu, frames in _stacks(dump, pids, all, cpus):
        for number, frame in enumerate(frames):
            yield _row(dump, task, cpu, number, frame, registers=registers, lines=lines)


def _stacks(
    dump: Dump, pids: tuple[int, ...], every: bool, cpus: bool
) -> Iterator[tuple[Task | None, int | None, list[Frame]]]:
    if dump.types is None:
        yield from _of_cpus(dump, every or cpus)
        return
    for task in _tasks(dump, pids, every, cpus):
        yield task, task.cpu, _unwound(dump, task.task, f"task {task.pid}")


def _tasks(dump: Dump, pids: tuple[int, ...], every: bool, cpus: bool) -> Iterator[Task]:
    from phypan.linux import tasks

    if pids:
        yield from (tasks.find(dump, pid) for pid in pids)
    elif every or cpus:
        found = (task for task in tasks.each(dump) if every or task.active)
        yield from found if every else sorted(found, key=lambda task: task.cpu)
    else:
        yield tasks.crashed(dump)


def _of_cpus(dump: Dump, every: bool) -> Iterator[tuple[None, int, list[Frame]]]:
    """What can be had without types: stacks by the registers of CPUs."""
    what, meaning = "without types tasks are not known", "only what ran on CPUs is shown"
    dump.problems.append(Problem(what, "kernel", meaning))
    for cpu in dump.cpus:
        if every or cpu.crashing or len(dump.cpus) == 1 or dump.crashing_cpu is None:
            yield None, cpu.number, _unwound(dump, cpu.regs(), f"CPU {cpu.number}")


def _unwound(dump: Dump, start: Any, where: str) -> list[Frame]:
    from phypan.linux import stack

    try:
        return stack.unwind(dump, start)
    except PhypanError as error:
        dump.problems.append(Problem(error.what, f"stack of {where}", "it is not shown"))
        return []


def _row(
    dump: Dump,
    task: Task | None,
    cpu: int | None,
    number: int,
    frame: Frame,
    *,
    registers: bool,
    lines: bool,
) -> BtRow:
    from phypan.formats import registers as decode

    symbol = dump.symbols.caller(frame.pc) if number else dump.symbols.at(frame.pc)
    regs = frame.interrupt
    return BtRow(
        pid=task.pid if task else None,
        task=int(task.task) if task else None,
        cpu=cpu,
        comm=task.comm if task else None,
        frame=number,
        sp=frame.sp,
        pc=frame.pc,
        function=symbol.name if symbol else None,
        offset=frame.pc - symbol.address if symbol else None,
        size=symbol.size if symbol else None,
        module=symbol.module if symbol else None,
        interrupt=decode.trap(regs["trap"]) if regs else None,
        nip=regs["nip"] if regs else None,
        lr=regs["link"] if regs else None,
        msr=regs["msr"] if regs else None,
        dar=regs["dar"] if regs else None,
        dsisr=regs["dsisr"] if regs else None,
        source=frame.source if lines else None,
        inlined=frame.inlined if lines else (),
        registers=_registers(frame) if registers else (),
    )


def _registers(frame: Frame) -> tuple[str, ...]:
    """name=value of what was interrupted, else of what is known in the frame."""
    from phypan.formats.pt_regs import NAMES

    if frame.interrupt is not None:
        pairs = [(name, frame.interrupt[name]) for name in NAMES]
    else:
        pairs = list((frame.registers or {}).items())
    return tuple(f"{name}={value:016x}" for name, value in pairs)


def text(rows: Iterable[BtRow]) -> Iterator[str]:
    """crash's layout, with offsets as an oops has them."""
    for row in rows:
        if row.frame == 0:
            yield _heading(row)
        place = "(user)" if row.function is None and row.pc >> 60 == 0 else "?"
        if row.function is not None:
            module = f" [{row.module}]" if row.module else ""
            place = f"{row.function}+{row.offset:#x}/{row.size:#x}{module}"
        for name in row.inlined:
            yield f"{'':23}{name} (inlined)"
        sp = f"{row.sp:016x}" if row.sp is not None else "?"
        source = f" ({row.source})" if row.source else ""
        yield f"{f'#{row.frame}':>3} [{sp}] {place} at {row.pc:016x}{source}"
        if row.interrupt is not None:
            yield from _interrupt(row)
        for start in range(0, len(row.registers), 3):
            yield "      " + "  ".join(f"{r:25}" for r in row.registers[start : start + 3])


def _heading(row: BtRow) -> str:
    if row.task is None:
        return f"CPU: {row.cpu}"
    return f'PID: {row.pid}  TASK: {row.task:016x}  CPU: {row.cpu}  COMMAND: "{row.comm}"'


def _interrupt(row: BtRow) -> Iterator[str]:
    from phypan.formats import registers as decode

    msr, trap = row.msr or 0, int((row.interrupt or "0").split()[0], 16)
    mode = "user" if msr & _USER else "kernel"
    yield f"    --- interrupt {row.interrupt}, in {mode} mode ---"
    line = f"    NIP {row.nip:016x}  LR {row.lr:016x}  MSR {msr:016x} <{decode.msr(msr)}>"
    yield line
    if trap in (0x300, 0x380):
        cause = ", ".join(decode.cause(trap, row.dsisr or 0))
        yield f"    DAR {row.dar:016x}  DSISR {row.dsisr:08x} <{cause}>"


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The stacks."""
    return [Analysis(bt, BtRow, needs=frozenset({"symbols"}), text=text)]
