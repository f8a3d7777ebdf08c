"""Tasks, with crash's columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from phypan import Address, Analysis, Dump, Show, hookimpl

if TYPE_CHECKING:
    from phypan.linux.tasks import Task

KiB = Annotated[int, Show(unit="KiB")]


@dataclass(frozen=True)
class PsRow:
    """One task."""

    active: bool  # on a CPU at the crash
    pid: int
    ppid: int
    cpu: int  # that it was on last
    task: Address  # of its struct task_struct, effective
    st: str  # RU running, IN interruptible, UN uninterruptible, ID idle, ZO zombie, ST stopped, ...
    mem: Annotated[float, Show(unit="%")]  # RSS as a share of memory
    vsz: KiB
    rss: KiB
    kernel: bool  # a kernel thread
    depth: int  # in the tree, with tree=True
    comm: str


def ps(dump: Dump, *, tree: bool = False) -> Iterator[PsRow]:
    """List the tasks.

    tree  children below their parents
    """
    from phypan.linux import tasks

    found = list(tasks.each(dump))
    parents = {int(task.task): _parent(task) for task in found}
    total = _total_pages(dump)
    for task, depth in _tree(found, parents) if tree else ((task, 0) for task in found):
        yield _row(dump, task, parents[int(task.task)], total, depth)


def _parent(task: Task) -> int:
    """pid of the process that it came from; 0 for idle tasks, whatever they say."""
    from phypan.linux.walk import faults

    if task.pid == 0:
        return 0
    try:
        return int(task.task.real_parent.tgid)
    except faults():
        return 0


def _total_pages(dump: Dump) -> int:
    from drgn.helpers.linux.mm import totalram_pages

    from phypan.linux.walk import faults

    try:
        return int(totalram_pages(dump.program))
    except faults():
        return dump.memory.size // dump.page_size


def _row(dump: Dump, task: Task, parent: int, total: int, depth: int) -> PsRow:
    rss, vsz, kernel = _memory(dump, task)
    return PsRow(
        active=task.active,
        pid=task.pid,
        ppid=parent,
        cpu=task.cpu,
        task=int(task.task),
        st=task.state,
        mem=round(100 * rss / total, 1) if total else 0.0,
        vsz=vsz * dump.page_size // 1024,
        rss=rss * dump.page_size // 1024,
        kernel=kernel,
        depth=depth,
        comm=task.comm,
    )


def _memory(dump: Dump, task: Task) -> tuple[int, int, bool]:
    """(pages in memory, pages of addresses, whether it has no memory of its own)."""
    from drgn.helpers.linux.mm import task_rss

    from phypan.linux.walk import faults

    try:
        mm = task.task.mm.read_()
        if not mm:
            return 0, 0, True
        return int(task_rss(task.task).total), int(mm.total_vm), False
    except faults():
        return 0, 0, False


def _tree(found: list[Task], parents: dict[int, int]) -> Iterator[tuple[Task, int]]:
    """Tasks with their depth, each below its parent; a circle of parents is cut."""
    children: dict[int, list[Task]] = {}
    for task in found:
        if task.pid:
            children.setdefault(parents[int(task.task)], []).append(task)
    known, done = {task.pid for task in found}, set()
    idle = [task for task in found if task.pid == 0]
    orphans = [task for task in found if parents[int(task.task)] not in known]
    for root in [*idle[1:], *idle[:1], *orphans, *found]:
        pending = [(root, 0)]
        while pending:
            task, depth = pending.pop()
            if int(task.task) in done:
                continue
            done.add(int(task.task))
            yield task, depth
            if task is not root or task not in idle[1:]:  # all are children of the first
                below = children.get(task.pid, [])
                pending += [(child, depth + 1) for child in reversed(below)]


def text(rows: Iterable[PsRow]) -> Iterator[str]:
    """crash's layout: ">" marks what was on a CPU, kernel threads are in brackets."""
    yield "      PID    PPID  CPU       TASK        ST  %MEM      VSZ      RSS  COMM"
    for row in rows:
        mark = ">" if row.active else " "
        comm = f"[{row.comm}]" if row.kernel else row.comm
        yield (
            f"{mark} {row.pid:7} {row.ppid:7} {row.cpu:3}  {row.task:016x}  {row.st:2}"
            f" {row.mem:5.1f} {row.vsz:8} {row.rss:8}  {'  ' * row.depth}{comm}"
        )


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The tasks."""
    return [Analysis(ps, PsRow, needs=frozenset({"types"}), text=text)]
