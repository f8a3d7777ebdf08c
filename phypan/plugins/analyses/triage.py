"""What happened? The first answer, out of log, registers, stacks and memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan import Analysis, Cpu, Dump, Hole, PhypanError, Problem, hookimpl

if TYPE_CHECKING:
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
    culprit = _culprit(dump, death, frames)
    yield TriageRow("class", death.kind or "unknown", "kernel log" if death.kind else "nothing")
    yield TriageRow("message", death.message or "none", "kernel log")
    yield TriageRow("signature", suspects.signature(death, culprit), "class, function, module")
    yield from _suspect(culprit)
    yield from _fault(death, frames)
    for section in (_hung, _memory, _taint):
        try:
            yield from section(dump)
        except walk.faults() as error:
            where = f"triage, {section.__name__.strip('_')}"
            dump.problems.append(Problem(walk.reason(error), where, "it is left out"))
    yield from _hardware(death)
    yield from _missing(dump)


def _death(dump: Dump) -> Death:
    from phypan.linux import log, panic

    try:
        return panic.read(log.records(dump))
    except PhypanError as error:
        dump.problems.append(Problem(error.what, "kernel log", "the class is not known"))
        return panic.read(())


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


def _culprit(dump: Dump, death: Death, frames: list[Frame]) -> Culprit:
    """By the stack; where that has no name, by what the kernel printed."""
    from phypan.linux import culprit

    found = culprit.of_stack(dump, frames, death.kind)
    oops = death.oops
    named = found.function is not None and (found.module or not oops or "module" not in oops.fields)
    if oops is None or named:
        return found
    calls = list(oops.calls)
    if "NIP" in oops.fields:
        calls.insert(0, (oops.fields["NIP"], oops.fields.get("module")))
    printed = culprit.of_calls(calls, death.kind)
    return printed if printed.function else found


def _suspect(culprit: Culprit) -> Iterator[TriageRow]:
    if culprit.function is None:
        yield TriageRow("function", "unknown", "no stack names one")
        return
    offset = f"+{culprit.offset}" if culprit.offset else ""
    yield TriageRow("function", f"{culprit.function}{offset}", "stack")
    yield TriageRow("module", culprit.module or "none: the kernel itself", "stack")
    yield TriageRow("called from", " < ".join(culprit.chain[1:6]) or "unknown", "stack")


def _fault(death: Death, frames: list[Frame]) -> Iterator[TriageRow]:
    """The first message of the trouble; the registers of the fault, decoded."""
    from phypan.formats import registers

    if death.first is not None:
        time = "" if death.first.time is None else f"{death.first.time / 1e9:.6f} s after boot"
        yield TriageRow("first fault", death.first.text.split("\n")[0], time)
    regs = next((f.interrupt for f in reversed(frames) if f.interrupt and not f.in_user_mode), None)
    if regs is None:
        return
    trap, source = regs["trap"], "registers on the stack"
    cause = ", ".join(registers.cause(trap, regs["dsisr"], regs["msr"]))
    yield TriageRow("interrupt", registers.trap(trap) + (f": {cause}" if cause else ""), source)
    yield TriageRow("MSR", f"{regs['msr']:016x} {registers.msr(regs['msr'])}", source)
    if trap & ~0xF in (0x300, 0x380):
        yield TriageRow("DAR", f"{regs['dar']:016x}", source)
        yield TriageRow("DSISR", f"{regs['dsisr']:08x}", source)


def _hung(dump: Dump) -> Iterator[TriageRow]:
    """Tasks that sleep without being interruptible."""
    from phypan.linux import culprit, stack, tasks, walk

    if not dump.types:
        return
    waiting = [task for task in tasks.each(dump) if task.state == "UN"]
    for task in waiting[:_MOST]:
        try:
            found = culprit.of_stack(dump, stack.unwind(dump, task.task), None)
        except walk.faults():
            found = culprit.Culprit()
        where = f"waits in {found.function}" if found.function else "waits"
        yield TriageRow("uninterruptible", f"{task.comm} ({task.pid}) {where}", "tasks")
    if len(waiting) > _MOST:
        yield TriageRow("uninterruptible", f"{len(waiting) - _MOST} more", "tasks")


def _memory(dump: Dump) -> Iterator[TriageRow]:
    """Free memory as a share of all."""
    if not dump.types:
        return
    from drgn.helpers.linux.mm import totalram_pages
    from drgn.helpers.linux.vmstat import nr_free_pages

    total, free = int(totalram_pages(dump.program)), int(nr_free_pages(dump.program))
    share = 100 * free / total if total else 0.0
    state = "pressure" if share < 2 else "no pressure"
    size = free * dump.page_size / (1 << 20)
    yield TriageRow("memory", f"{state}: {share:.1f} % free, {size:.0f} MiB", "counters")


_TAINTS = {
    "P": "proprietary module",
    "F": "module forced to load",
    "S": "out of specification",
    "R": "module forced to unload",
    "M": "machine check",
    "B": "bad page",
    "U": "by user space",
    "D": "died before (oops or BUG)",
    "A": "ACPI table replaced",
    "W": "warned before",
    "C": "staging driver",
    "I": "firmware workaround",
    "O": "module from out of tree",
    "E": "unsigned module",
    "L": "soft lockup before",
    "K": "live patched",
    "X": "by the distribution",
    "T": "structures randomised",
    "N": "test module",
}


def _taint(dump: Dump) -> Iterator[TriageRow]:
    if not dump.types:
        return
    from drgn.helpers.linux.panic import tainted

    letters = tainted(dump.program).replace(" ", "").replace("G", "")
    reasons = ", ".join(_TAINTS.get(letter, letter) for letter in letters)
    yield TriageRow("taint", f"{letters}: {reasons}" if letters else "no", "tainted_mask")


def _hardware(death: Death) -> Iterator[TriageRow]:
    for event in death.hardware[:_MOST]:
        time = event.record.time
        when = "" if time is None else f"{time / 1e9:.6f} s after boot"
        yield TriageRow(event.kind, event.record.text.split("\n")[0], when)
    if len(death.hardware) > _MOST:
        yield TriageRow("hardware", f"{len(death.hardware) - _MOST} more events", "kernel log")


def _missing(dump: Dump) -> Iterator[TriageRow]:
    """What the dump does not have, and what that costs."""
    if not dump.types:
        hint = "tasks, memory, locks; -s VMLINUX gives them"
        yield TriageRow("missing", "types: the kernel has no BTF", hint)
    if not dump.symbols:
        yield TriageRow("missing", "symbols: no kallsyms", "names of functions; -s VMLINUX")
    lost = [hole for hole in dump.memory.holes() if hole.state.value == "damaged"]
    if lost:
        size = sum(hole.size for hole in lost)
        yield TriageRow("missing", f"{size:#x} bytes of memory: {lost[0].why}", _place(lost[0]))
    silent = [str(cpu.number) for cpu in dump.cpus if cpu.firmware is None and cpu.kernel is None]
    if silent:
        yield TriageRow("missing", f"registers of CPU {', '.join(silent)}", "their stacks")


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
