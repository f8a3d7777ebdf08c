"""Locks that are waited for: who waits, who holds them, and who waits for each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Dump, hookimpl

if TYPE_CHECKING:
    from phypan.linux.locks import Wait
    from phypan.linux.tasks import Task


@dataclass(frozen=True)
class LockRow:
    """A task that waits for a lock."""

    lock: Address  # effective
    kind: str  # mutex, rw_semaphore, semaphore, rt_mutex, spinlock
    name: str | None  # of the variable that it is, or is in
    pid: int  # of the task that waits
    comm: str
    task: Address
    state: str  # of the task, as `ps` has it
    mode: str  # what it wants: lock, read, write
    place: str | None  # the function that wants it
    owner: int | None  # pid of the task that holds it; of readers, of the last one that came
    owner_comm: str | None
    owner_task: Address | None  # it may be that of a task which there is no more
    owner_state: str | None
    readers: int | None  # how many hold it to read
    deadlock: int | None  # number of the circle of tasks that wait for each other
    known_by: str  # the member of task_struct that tells of the lock; stack, qnodes, registers


def locks(dump: Dump) -> Iterator[LockRow]:
    """List the locks that tasks wait for, with their owners and deadlocks.

    Mutexes, semaphores and real-time mutexes of tasks that sleep, spinlocks of CPUs. A lock that
    is held by readers notes only the last of them, who may have let it go since.
    """
    from phypan.linux import locks as kernel_locks
    from phypan.linux import spinlocks, tasks
    from phypan.linux.percpu import PerCpu

    known = {int(task.task): task for task in tasks.each(dump)}
    found = [*kernel_locks.waits(dump, known), *spinlocks.waits(dump, known)]
    circles = kernel_locks.cycles({int(wait.task.task): wait.owner for wait in found})
    number = {task: n for n, circle in enumerate(circles, 1) for task in circle}
    per_cpu = PerCpu(dump)
    for wait in sorted(found, key=lambda wait: (wait.lock, wait.task.pid)):
        name = dump.symbols.describe(wait.lock) or per_cpu.describe(wait.lock)
        yield _row(dump, wait, name, known, number.get(int(wait.task.task)))


def _row(
    dump: Dump, wait: Wait, name: str | None, known: dict[int, Task], circle: int | None
) -> LockRow:
    owner = known.get(wait.owner) if wait.owner is not None else None
    place = None if wait.place is None else dump.symbols.caller(wait.place)
    offset = wait.place - place.address if place and wait.place else 0
    module = f" [{place.module}]" if place and place.module else ""
    return LockRow(
        lock=wait.lock,
        kind=wait.kind,
        name=name,
        pid=wait.task.pid,
        comm=wait.task.comm,
        task=int(wait.task.task),
        state=wait.task.state,
        mode=wait.mode,
        place=f"{place.name}+{offset:#x}/{place.size:#x}{module}" if place else None,
        owner=owner.pid if owner else None,
        owner_comm=owner.comm if owner else None,
        owner_task=wait.owner,
        owner_state=owner.state if owner else None,
        readers=wait.readers,
        deadlock=circle,
        known_by=wait.by,
    )


def text(rows: Iterable[LockRow]) -> Iterator[str]:
    """Each lock with those who wait for it, then the deadlocks."""
    circles: dict[int, list[LockRow]] = {}
    for lock, group in groupby(rows, key=lambda row: row.lock):
        waiting = list(group)
        yield f"{waiting[0].kind} {lock:016x} {waiting[0].name or ''}".rstrip()
        yield f"    {_holder(waiting[0])}"
        for row in waiting:
            wants = "waits for it" if row.mode == "lock" else f"waits to {row.mode}"
            yield f'    {row.pid} "{row.comm}" {row.state} {wants} in {row.place or "?"}'
            if row.deadlock is not None:
                circles.setdefault(row.deadlock, []).append(row)
    for number, members in sorted(circles.items()):
        yield f"deadlock {number}: {' -> '.join(_around(members))}"


def _holder(row: LockRow) -> str:
    if row.owner_task is None:
        return "nobody is known to hold it"
    if row.owner is None:
        return f"held by {row.owner_task:016x}, which is no task that is known"
    who = f'{row.owner} "{row.owner_comm}" {row.owner_state}'
    if row.readers is not None:
        return f"held by {row.readers} readers, the last that came is {who}"
    return f"held by {who}"


def _around(members: list[LockRow]) -> list[str]:
    """The members of a circle in the order in which they wait for each other."""
    by_task = {row.task: row for row in members}
    row, names = members[0], []
    for _ in members:
        names.append(f'{row.pid} "{row.comm}"')
        row = by_task.get(row.owner_task or 0, members[0])
    return [*names, names[0]]


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The locks."""
    return [Analysis(locks, LockRow, needs=frozenset({"types"}), text=text)]
