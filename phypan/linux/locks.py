"""Who waits for which lock, and who holds it.

Where the kernel notes for which lock a task waits, that is believed: task->blocked_on (of a struct
mutex), task->blocker (with CONFIG_DETECT_HUNG_TASK_BLOCKER, since 6.16), task->pi_blocked_on.
Else it is found by what the task has put on its stack (phypan.linux.lock_waiters).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan.errors import Problem
from phypan.linux.lock_waiters import LockWaiters, kind_of
from phypan.linux.stack import Frame
from phypan.linux.tasks import Task
from phypan.linux.walk import attempt, faults, reason

if TYPE_CHECKING:
    import drgn

    from phypan.dump import Dump

_BLOCKERS = (  # include/linux/hung_task.h: kind and mode by the lowest bits
    *(
        ("mutex", "lock"),
        ("semaphore", "lock"),
        ("rw_semaphore", "read"),
        ("rw_semaphore", "write"),
    ),
)
_FLAGS = {"mutex": 7, "rw_semaphore": 3, "rt_mutex": 1, "semaphore": 0}  # in the owner's address
_READERS_SHIFT = 8  # in rw_semaphore.count, since 5.3
_READER_OWNED = 1


@dataclass(frozen=True)
class Wait:
    """A task that waits for a lock.

    kind    mutex, rw_semaphore, semaphore, rt_mutex or spinlock
    lock    effective address
    by      how that is known: the member of task_struct, "stack", "qnodes" or "registers"
    mode    "read" or "write" for a rw_semaphore, else "lock"
    place   the return address into the function that wanted the lock; None if not known
    owner   effective address of the task that holds it; of one that readers hold, the last of them
    readers how many hold it to read; None where the kernel does not count, or none does
    """

    task: Task
    kind: str
    lock: int
    by: str
    mode: str
    place: int | None
    owner: int | None
    readers: int | None


def waits(dump: Dump, tasks: Mapping[int, Task]) -> Iterator[Wait]:
    """What tasks wait for. `tasks`: all of them, by the address of their struct task_struct."""
    finder = _Finder(dump, tasks)
    for task in tasks.values():
        if task.active:
            continue
        where = f"task {task.pid}"
        found = attempt(dump.problems, lambda task=task: finder.lock_of(task), where, None)  # type: ignore[misc]
        if found is not None:
            yield found


class _Finder:
    """Finds the locks of one dump."""

    def __init__(self, dump: Dump, tasks: Mapping[int, Task]) -> None:
        self._dump, self._stacks = dump, LockWaiters(dump, tasks)

    def lock_of(self, task: Task) -> Wait | None:
        """What a task waits for; None if it is no lock."""
        kind, lock, mode, by = self._noted(task) or self._stacks.lock_of(task) or (None, 0, "", "")
        if kind is None:
            return None
        owner, readers = self._owner(kind, lock)
        wanted_in = place(self._dump, self._stacks.frames(task))
        return Wait(task, kind, lock, by, mode, wanted_in, owner, readers)

    # --- what the kernel has noted ---

    def _noted(self, task: Task) -> tuple[str, int, str, str] | None:
        """(kind, lock, mode, member of task_struct)."""
        of = task.task
        if getattr(of, "pi_blocked_on", None):
            return "rt_mutex", int(of.pi_blocked_on.lock), "lock", "pi_blocked_on"
        blocked = getattr(of, "blocked_on", None)  # with DEBUG_MUTEXES, a struct mutex_waiter once
        if blocked and blocked.type_.type.type_name() == "struct mutex":
            return "mutex", int(blocked), "lock", "blocked_on"
        noted = int(of.blocker) if hasattr(of, "blocker") else 0
        if not noted:
            return None
        kind, mode = _BLOCKERS[noted & 3]
        return kind, noted & ~3, mode, "blocker"

    # --- the lock ---

    def _owner(self, kind: str, lock: int) -> tuple[int | None, int | None]:
        """(who holds it, how many readers do)."""
        from drgn import Object

        program = self._dump.program
        try:
            names = ("rt_mutex_base", "rt_mutex") if kind == "rt_mutex" else (kind,)
            of = next(t for t in map(self._type, names) if t is not None)
            there = Object(program, of, address=lock)
            member = "last_holder" if kind == "semaphore" else "owner"
            if not hasattr(there, member):
                return None, None
            value = _number(there.member_(member))
            owner = value & ~_FLAGS[kind] or None
            readers = None
            if kind == "rw_semaphore" and value & _READER_OWNED:
                count = _number(there.count)
                readers = count >> _READERS_SHIFT if 0 <= count < 1 << 40 else None
            return owner, readers
        except (*faults(), StopIteration) as error:  # type: ignore[misc]
            where = f"{kind} at {lock:#x}"
            self._dump.problems.append(Problem(reason(error), where, "its owner is not known"))
            return None, None

    def _type(self, name: str) -> drgn.Type | None:
        try:
            return self._dump.program.type(f"struct {name}")
        except LookupError:
            return None


def place(dump: Dump, frames: Sequence[Frame]) -> int | None:
    """Where a lock is wanted: behind the functions that wait, which call each other."""
    symbols = [dump.symbols.caller(frame.pc) for frame in frames]
    waiting = [symbol is not None and kind_of(symbol.name) is not None for symbol in symbols]
    if True not in waiting:
        return None
    behind = waiting.index(True)
    while behind < len(frames) and waiting[behind]:
        behind += 1
    return frames[behind].pc if behind < len(frames) else None


def _number(value: drgn.Object) -> int:
    """Of an atomic_long_t, which may have its sign bit set, or of a pointer."""
    return int(value.counter if hasattr(value, "counter") else value) % (1 << 64)


def cycles(holders: Mapping[int, int | None]) -> list[list[int]]:
    """Circles of tasks of which each waits for the next. holders: task -> who holds its lock."""
    state: dict[int, int] = {}  # task -> in which way it was met
    found = []
    for way, start in enumerate(holders):
        path: list[int] = []
        task: int | None = start
        while task is not None and task in holders and task not in state:
            state[task] = way
            path.append(task)
            task = holders[task]
        if task is not None and state.get(task) == way and task in path:
            found.append(path[path.index(task) :])
    return found
