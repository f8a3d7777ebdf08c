"""What happened? The first answer, out of log, registers, stacks and memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan import Analysis, Cpu, Dump, Hole, PhypanError, Problem, analyses, hookimpl

if TYPE_CHECKING:
    from phypan.formats.printk import Record
    from phypan.linux.culprit import Culprit
    from phypan.linux.panic import Death
    from phypan.linux.stack import Frame

_MOST = 10  # tasks or events that are listed


@dataclass(frozen=True)
class TriageRow:
    """One finding."""

    item: str
    finding: str
    evidence: str  # where it is from


def triage(dump: Dump) -> Iterator[TriageRow]:
    """Say what happened: class of the crash, culprit, signature, what else was wrong."""
    from phypan.linux import culprit as suspects
    from phypan.linux import walk

    death = _death(dump)
    frames = _frames(dump, death)
    culprit = suspects.find(dump, frames, death)
    yield TriageRow("class", death.kind or "unknown", _source(death))
    yield TriageRow("message", death.message or "none", "kernel log")
    yield TriageRow("signature", suspects.signature(death, culprit), "class, function, module")
    yield from _suspect(death, culprit)
    for section in (_task, _first, _largest, _fault, _hung, _memory, _taint):
        try:
            yield from section(dump, death, culprit)
        except walk.faults() as error:
            where = f"triage, {section.__name__.strip('_')}"
            dump.problems.append(Problem(walk.reason(error), where, "it is left out"))
    yield from _hardware(death)
    yield from _missing(dump, death)


_BY_TRAP = {0x100: "system reset", 0x200: "machine check"}


def _death(dump: Dump) -> Death:
    """What the log tells; a kernel that was stopped from outside may have printed nothing."""
    from phypan.linux import log, oom, panic, walk

    try:
        death = panic.read(log.records(dump))
    except PhypanError as error:
        dump.problems.append(Problem(error.what, "kernel log", "the class is not known"))
        death = panic.read(())
    cpu = dump.crashing_cpu
    if death.kind is None and cpu is not None and cpu.kernel is not None:
        death.kind = _BY_TRAP.get(cpu.kernel["trap"] & ~0xF)
    if death.kind == "out of memory" and death.hog is None and dump.types:
        death.hog = walk.attempt(dump.problems, lambda: oom.of_tasks(dump), "processes", None)
    return death


def _source(death: Death) -> str:
    """Where the class is from."""
    if death.kind is None:
        return "nothing"
    return "kernel log" if death.first is not None else "registers of the crashing CPU"


def _frames(dump: Dump, death: Death) -> list[Frame]:
    """The stack of what crashed: of the blocked task, if the crash is about one."""
    from phypan.linux import stack, tasks, walk

    try:
        if not dump.types:
            cpu = dump.crashing_cpu or _panicking(dump)
            return stack.unwind(dump, cpu.regs()) if cpu else []
        if death.kind == "hung task" and death.blocked is not None:
            return stack.unwind(dump, tasks.find(dump, death.blocked).task)
        return stack.unwind(dump, tasks.crashed(dump).task)
    except walk.faults() as error:
        dump.problems.append(Problem(walk.reason(error), "stack", "the log's own is taken"))
        return []


def _panicking(dump: Dump) -> Cpu | None:
    """The CPU that was in panic(), where the kernel did not say which crashed."""
    from phypan.linux import stack, walk

    for cpu in dump.cpus:
        try:
            names = {s.name for f in stack.unwind(dump, cpu.regs()) if (s := dump.symbols.at(f.pc))}
        except walk.faults():
            continue
        if names & {"panic", "vpanic", "crash_fadump"}:
            return cpu
    return None


def _suspect(death: Death, culprit: Culprit) -> Iterator[TriageRow]:
    if culprit.function is None:
        why = {
            "out of memory": "none: memory ran out, whoever asked for more",
            "system reset": "none: it was stopped from outside",
        }.get(death.kind or "", "unknown")
        yield TriageRow("function", why, "no stack names one")
        return
    offset = f"+{culprit.offset}" if culprit.offset else ""
    yield TriageRow("function", f"{culprit.function}{offset}", "stack")
    yield TriageRow("module", culprit.module or "none: the kernel itself", "stack")
    yield TriageRow("called from", " < ".join(culprit.chain[1:6]) or "unknown", "stack")


def _task(dump: Dump, death: Death, culprit: Culprit) -> Iterator[TriageRow]:
    """Which task it was: the first that was blocked, the one that was printed, or the crashed."""
    from phypan.linux import tasks

    fields = death.oops.fields if death.oops else {}
    if dump.types and death.kind == "hung task" and death.blocked is not None:
        task = tasks.find(dump, death.blocked)
        yield TriageRow("task", f"{task.comm} ({task.pid}), blocked", "kernel log")
    elif "comm" in fields and "pid" in fields:
        cpu = f" on CPU {fields['cpu']}" if "cpu" in fields else ""
        yield TriageRow("task", f"{fields['comm']} ({fields['pid']}){cpu}", "kernel log")
    elif dump.types:
        task = tasks.crashed(dump)
        yield TriageRow("task", f"{task.comm} ({task.pid}) on CPU {task.cpu}", "tasks")


def _first(dump: Dump, death: Death, culprit: Culprit) -> Iterator[TriageRow]:
    """The message that it began with."""
    if death.first is not None:
        yield TriageRow("first fault", death.first.text.split("\n")[0], _when(death.first))
    if death.oopses > 1:
        finding = f"{death.oopses} oopses: it faulted again, perhaps while it told of the first"
        yield TriageRow("more faults", finding, "kernel log")


def _largest(dump: Dump, death: Death, culprit: Culprit) -> Iterator[TriageRow]:
    hog = death.hog
    if hog is not None and death.kind == "out of memory":
        size = hog.resident * dump.page_size / (1 << 20)
        finding = f"{hog.comm} ({hog.pid}): {size:.0f} MiB resident"
        yield TriageRow("largest process", finding, "kernel log or tasks")


def _fault(dump: Dump, death: Death, culprit: Culprit) -> Iterator[TriageRow]:
    """The registers of the fault, decoded."""
    from phypan.linux import fault

    found = fault.of(dump, culprit, death)
    for item, finding in fault.describe(dump, found) if found else ():
        yield TriageRow(item, finding, found.source if found else "")


def _hung(dump: Dump, death: Death, culprit: Culprit) -> Iterator[TriageRow]:
    """Tasks that the kernel found blocked, and those that sleep without being interruptible."""
    from phypan.linux import culprit as suspects
    from phypan.linux import stack, tasks, walk

    told = [event.record for event in death.events if "blocked for more" in event.record.text]
    for record in told[:_MOST]:
        yield TriageRow("hung task", record.text.split("\n")[0], _when(record))
    if not dump.types:
        return
    waiting = [task for task in tasks.each(dump) if task.state == "UN"]
    for task in waiting[:_MOST]:
        try:
            found = suspects.of_stack(dump, stack.unwind(dump, task.task), None)
        except walk.faults():
            found = suspects.Culprit()
        where = f"waits in {found.function}" if found.function else "waits"
        yield TriageRow("uninterruptible", f"{task.comm} ({task.pid}) {where}", "tasks")
    if len(waiting) > _MOST:
        yield TriageRow("uninterruptible", f"{len(waiting) - _MOST} more", "tasks")


def _memory(dump: Dump, death: Death, culprit: Culprit) -> Iterator[TriageRow]:
    """Free memory as a share of all; how often it ran out before."""
    told = [event.record for event in death.events if event.kind == "out of memory"]
    if told:
        finding = f"it ran out: {told[0].text.split(chr(10))[0]}"
        yield TriageRow("memory", finding, _when(told[0]))
    if not dump.types:
        return
    from drgn.helpers.linux.mm import totalram_pages
    from drgn.helpers.linux.vmstat import nr_free_pages

    total, free = int(totalram_pages(dump.program)), int(nr_free_pages(dump.program))
    share = 100 * free / total if total else 0.0
    state = "pressure" if share < 2 or death.kind == "out of memory" else "no pressure"
    size = free * dump.page_size / (1 << 20)
    yield TriageRow("memory", f"{state}: {share:.1f} % free, {size:.0f} MiB", "counters")


def _taint(dump: Dump, death: Death, culprit: Culprit) -> Iterator[TriageRow]:
    from phypan.linux import taint

    fields = death.oops.fields if death.oops else {}
    if dump.types:
        from drgn.helpers.linux.panic import tainted

        letters, source = tainted(dump.program), "tainted_mask"
    elif "taint" in fields:
        letters, source = fields["taint"], "kernel log"
    else:
        return
    letters = letters.replace(" ", "").replace("G", "")
    reasons = ", ".join(taint.REASONS.get(letter, letter) for letter in letters)
    yield TriageRow("taint", f"{letters}: {reasons}" if letters else "no", source)


def _hardware(death: Death) -> Iterator[TriageRow]:
    for event in death.hardware[:_MOST]:
        yield TriageRow(event.kind, event.record.text.split("\n")[0], _when(event.record))
    if len(death.hardware) > _MOST:
        yield TriageRow("hardware", f"{len(death.hardware) - _MOST} more events", "kernel log")


def _when(record: Record) -> str:
    return "" if record.time is None else f"{record.time / 1e9:.6f} s after boot"


def _missing(dump: Dump, death: Death) -> Iterator[TriageRow]:
    """What the dump does not have, and what that costs."""
    if dump.vmcoreinfo is None:
        yield TriageRow("missing", "VMCOREINFO", "release, layouts, where the log is")
    if not dump.types:
        what = "types: the kernel has no BTF; -s VMLINUX gives them"
        yield TriageRow("missing", what, f"analyses: {_lost('types')}")
    if not dump.symbols:
        what = "symbols: no kallsyms; -s VMLINUX gives them"
        yield TriageRow("missing", what, f"names of functions; analyses: {_lost('symbols')}")
    if dump.dump_level:
        what = f"pages: those of dump level {dump.dump_level} were left out"
        yield TriageRow("missing", what, "`phypan explain` says so of a page")
    lost = [hole for hole in dump.memory.holes() if hole.state.value == "damaged"]
    if lost:
        size = sum(hole.size for hole in lost)
        yield TriageRow("missing", f"{size:#x} bytes of memory: {lost[0].why}", _place(lost[0]))
    silent = [str(cpu.number) for cpu in dump.cpus if cpu.firmware is None and cpu.kernel is None]
    if silent or not dump.cpus:
        which = f"CPU {', '.join(silent)}" if silent else "all CPUs"
        yield TriageRow("missing", f"registers of {which}", "their stacks")


def _lost(need: str) -> str:
    """The analyses that cannot be run without it."""
    found = analyses().values()
    return ", ".join(analysis.name for analysis in found if need in analysis.needs) or "none"


def _place(hole: Hole) -> str:
    return f"physical {hole.start:#x} and on"


def text(rows: Iterable[TriageRow]) -> Iterator[str]:
    """One finding a line, its item before it."""
    for row in rows:
        yield f"{row.item.upper():>15}: {row.finding}"


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The first answer."""
    return [Analysis(triage, TriageRow, text=text)]
