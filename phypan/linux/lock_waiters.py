"""The lock that a sleeping task waits for, by what is on its stack meanwhile.

struct mutex_waiter, rwsem_waiter and semaphore_waiter begin with a list and the task. That the list
leads back to it from both sides is the proof that it is one, and in use; the name of the function
in whose frame it is tells of which kind. In the list is the lock itself; since 7.1 it is not, but
points to the first waiter, and the function that waits has saved its address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from phypan.errors import PhypanError, Problem
from phypan.linux import stack
from phypan.linux.stack import Frame
from phypan.linux.tasks import Task
from phypan.linux.walk import faults

if TYPE_CHECKING:
    from phypan.dump import Dump

_NAMES = (  # what the functions that wait are called
    (re.compile(r"_*(call_)?rwsem_|_*down_(read|write)"), "rw_semaphore"),
    (re.compile(r"_*(ww_)?mutex_"), "mutex"),
    (re.compile(r"_*down(_common|_interruptible|_killable|_timeout)?(\.|$)"), "semaphore"),
    (re.compile(r"_*rt_mutex_|_*rt_spin_lock|rtlock_"), "rt_mutex"),
    (re.compile(r"_*(do_)?(raw_)?spin_lock|queued_spin_lock|(splpar_)?spin_yield"), "spinlock"),
)
_LISTED = ("rw_semaphore", "mutex", "semaphore")  # with lists of waiters; a rt_mutex has a tree
_MOST_WAITERS = 1 << 12  # of one lock
_MAX_STACK = 1 << 17  # bytes
_KERNEL = 0xC


class LockWaiters:
    """What sleeping tasks wait for. `tasks`: all, by the address of their struct task_struct."""

    def __init__(self, dump: Dump, tasks: Mapping[int, Task]) -> None:
        self._dump, self._tasks = dump, tasks
        self._read = dump.kernel.space.read
        self._size = min(dump.program.type("union thread_union").size or 0, _MAX_STACK)

    def lock_of(self, task: Task) -> tuple[str, int, str, str] | None:
        """(kind, address of the lock, mode, "stack"); None if it waits for none."""
        for waiter in self._waiters(task):
            kind = self._kind(self.frames(task), waiter)
            if kind is None:  # another list of tasks
                continue
            lock = self._of_waiter(task, kind, waiter)
            if lock is not None:
                return kind, lock, self._mode(kind, waiter), "stack"
            what = f"it waits by {waiter:#x}, whose {kind} is not found"
            problem = Problem(what, f"task {task.pid}", "what it waits for is not shown")
            self._dump.problems.append(problem)
        return None

    def _waiters(self, task: Task) -> Iterator[int]:
        """Effective addresses of what a task that waits may have on its stack."""
        start, end = self._stack(task)
        if start >> 60 != _KERNEL:
            return  # it is dead
        data = self._read(start, end - start)
        wanted = int(task.task).to_bytes(8, self._dump.byte_order)
        at = data.find(wanted)
        while at >= 0:
            if at % 8 == 0 and at >= 16 and self._linked(start + at - 16):
                yield start + at - 16
            at = data.find(wanted, at + 1)

    def _stack(self, task: Task) -> tuple[int, int]:
        """(lowest address in use, end) of the stack of a task that sleeps."""
        base = int(task.task.stack)
        sp = int(task.task.thread.ksp)
        end = base + self._size
        return (sp if base <= sp < end else base), end

    def _linked(self, node: int) -> bool:
        """Whether the neighbours of a node of a list lead back to it."""
        try:
            following, before = self._words(node, 2)
            if {following >> 60, before >> 60} != {_KERNEL} or (following | before) % 8:
                return False
            if following == node and self._has_heads:
                return False
            return self._words(before, 1) == (node,) and self._words(following, 2)[1] == node
        except PhypanError:
            return False

    def _words(self, address: int, count: int) -> tuple[int, ...]:
        data, order = self._read(address, 8 * count), self._dump.byte_order
        return tuple(int.from_bytes(data[at : at + 8], order) for at in range(0, len(data), 8))

    @property
    def _has_heads(self) -> bool:
        """Whether the lock is in the list of its waiters."""
        return any(m.name == "wait_list" for m in self._dump.program.type("struct mutex").members)

    def _kind(self, frames: Sequence[Frame], waiter: int) -> str | None:
        """The kind of lock, by the name of the function in whose frame the waiter is."""
        inside = [frame for frame in frames if frame.sp is not None and frame.sp <= waiter]
        kinds = (kind_of(self.name(frame)) for frame in reversed(inside))
        return next((kind for kind in kinds if kind in _LISTED), None)

    def _of_waiter(self, task: Task, kind: str, waiter: int) -> int | None:
        """The lock in whose list a waiter is."""
        from drgn import offsetof

        of = self._dump.program.type(f"struct {kind}")
        ring = self._ring(waiter)
        if self._has_heads:
            heads = [node for node in ring if not self._is_waiter(node)]
            return heads[0] - offsetof(of, "wait_list") if len(heads) == 1 else None
        start, end = self._stack(task)
        first = offsetof(of, "first_waiter")
        saved = self._words(start, (end - start) // 8)
        return next((word for word in saved if self._leads_to(word + first, ring)), None)

    def _ring(self, node: int) -> list[int]:
        found = [node]
        while len(found) < _MOST_WAITERS:
            (following,) = self._words(found[-1], 1)
            if following in (node, found[-1]):
                break
            found.append(following)
        return found

    def _is_waiter(self, node: int) -> bool:
        """Whether a node of a list is on the stack of the task that it names."""
        try:
            (address,) = self._words(node + 16, 1)
            task = self._tasks.get(address)
            if task is None:
                return False
            base = int(task.task.stack)
        except faults():
            return False
        return base <= node < base + self._size

    def _leads_to(self, address: int, ring: Sequence[int]) -> bool:
        if address >> 60 != _KERNEL or address % 8:
            return False
        try:
            return self._words(address, 1)[0] in ring
        except PhypanError:
            return False

    def _mode(self, kind: str, waiter: int) -> str:
        """Whether it is wanted to read or to write."""
        from drgn import Object

        if kind != "rw_semaphore":
            return "lock"
        there = Object(self._dump.program, "struct rwsem_waiter", address=waiter)
        return "read" if "READ" in str(there.type.format_(type_name=False)) else "write"

    def frames(self, task: Task) -> Sequence[Frame]:
        """The stack of a task; none where it cannot be unwound."""
        try:
            return stack.unwind(self._dump, task.task)
        except PhypanError:
            return ()

    def name(self, frame: Frame) -> str:
        """The function of a frame."""
        symbol = self._dump.symbols.caller(frame.pc)
        return symbol.name if symbol else ""


def kind_of(function: str) -> str | None:
    """The kind of lock that a function waits for, by its name; None for other functions."""
    return next((kind for pattern, kind in _NAMES if pattern.match(function)), None)
