"""CPUs that wait for a queued spinlock (arch/powerpc/lib/qspinlock.c, since 6.2).

Each CPU that waits has a node in its per-CPU `qnodes`, which names the lock; the lock has the
number of the CPU that holds it. Spinlocks before that keep no record of who waits for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from phypan.linux.locks import Wait
from phypan.linux.tasks import Task, online_cpus
from phypan.linux.walk import attempt

if TYPE_CHECKING:
    import drgn

    from phypan.dump import Dump

# include/asm/qspinlock_types.h
_LOCKED = 1
_OWNER_SHIFT = 1
_OWNER_MASK = (1 << 14) - 1
_MAX_NODES = 4  # of a CPU: task, softirq, hardirq, NMI


def waits(dump: Dump, tasks: Mapping[int, Task]) -> Iterator[Wait]:
    """What CPUs wait for; `tasks` by the address of their struct task_struct."""
    if not dump.symbols.find("qnodes"):
        return
    running = {task.cpu: task for task in tasks.values() if task.active}
    for cpu in online_cpus(dump):
        of = partial(_of_cpu, dump, cpu)
        for lock in attempt(dump.problems, of, f"qnodes of CPU {cpu}", []):
            if cpu in running:
                owner = attempt(dump.problems, partial(_owner, dump, lock), "spinlock", None)
                holder = running.get(owner) if owner is not None else None
                held_by = int(holder.task) if holder else None
                yield Wait(running[cpu], "spinlock", lock, "qnodes", "lock", None, held_by, None)


def _of_cpu(dump: Dump, cpu: int) -> list[int]:
    """Addresses of the locks that a CPU waits for."""
    from drgn.helpers.linux.percpu import per_cpu

    nodes: drgn.Object = per_cpu(dump.program["qnodes"], cpu)
    count = min(int(nodes.count), _MAX_NODES)
    return [int(nodes.nodes[n].lock) for n in range(count) if nodes.nodes[n].lock]


def _owner(dump: Dump, lock: int) -> int | None:
    """Number of the CPU that holds a lock."""
    value = int.from_bytes(dump.kernel.space.read(lock, 4), dump.byte_order)
    return value >> _OWNER_SHIFT & _OWNER_MASK if value & _LOCKED else None
