"""CPUs that wait for a spinlock, and which CPU holds it.

A CPU that waits in the queue of a queued spinlock (arch/powerpc/lib/qspinlock.c, since 6.2) has a
node in its per-CPU `qnodes` that names the lock. One that spins without that, or on a spinlock of
the older kind, has its address in a register still: of the registers of a CPU that was in a
function of spinlocks, the first that leads to a lock word is taken. Lock words name the CPU that
holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from phypan.errors import PhypanError
from phypan.linux import stack
from phypan.linux.lock_waiters import kind_of
from phypan.linux.locks import Wait, place
from phypan.linux.stack import Frame
from phypan.linux.tasks import Task, online_cpus
from phypan.linux.walk import attempt

if TYPE_CHECKING:
    import drgn

    from phypan.dump import Cpu, Dump
    from phypan.formats.pt_regs import PtRegs

# include/asm/qspinlock_types.h
_LOCKED = 1
_OWNER_SHIFT = 1
_OWNER_MASK = (1 << 14) - 1
_MAX_NODES = 4  # of a CPU: task, softirq, hardirq, NMI
# include/asm/simple_spinlock.h, paca.h: paca->lock_token and paca->paca_index of the CPU
_TOKEN = 0x8000
_KERNEL = 0xC
_REGISTERS = (3, *range(31, 13, -1), *range(4, 13))  # the argument, what is kept, and the rest


def waits(dump: Dump, tasks: Mapping[int, Task]) -> Iterator[Wait]:
    """What CPUs wait for; `tasks` by the address of their struct task_struct."""
    running = {task.cpu: task for task in tasks.values() if task.active}
    simple = _is_simple(dump)
    registers = {cpu.number: cpu for cpu in dump.cpus}
    for cpu in online_cpus(dump):
        task = running.get(cpu)
        if task is None:
            continue
        where = f"spinlocks of CPU {cpu}"
        frames = attempt(dump.problems, partial(_frames, dump, task), where, [])
        found = [
            (lock, "qnodes")
            for lock in attempt(dump.problems, partial(_queued, dump, cpu), where, [])
        ]
        if not found and cpu in registers:
            spun = _spun_on(dump, registers[cpu], frames, simple)
            found = [] if spun is None else [(spun, "registers")]
        for lock, by in found:
            owner = attempt(dump.problems, partial(_owner, dump, lock, simple), where, None)
            holder = running.get(owner) if owner is not None else None
            held_by = int(holder.task) if holder else None
            yield Wait(task, "spinlock", lock, by, "lock", place(dump, frames), held_by, None)


def _frames(dump: Dump, task: Task) -> Sequence[Frame]:
    return stack.unwind(dump, task.task)


def _is_simple(dump: Dump) -> bool:
    """Whether spinlocks are of the older kind, which have no queue."""
    of = dump.program.type("arch_spinlock_t")
    return any(member.name == "slock" for member in of.type.members or ())


def _queued(dump: Dump, cpu: int) -> list[int]:
    """Addresses of the queued spinlocks that a CPU waits for."""
    from drgn.helpers.linux.percpu import per_cpu

    if not dump.symbols.find("qnodes"):
        return []
    nodes: drgn.Object = per_cpu(dump.program["qnodes"], cpu)
    count = min(int(nodes.count), _MAX_NODES)
    return [int(nodes.nodes[n].lock) for n in range(count) if nodes.nodes[n].lock]


def _spun_on(dump: Dump, cpu: Cpu, frames: Sequence[Frame], simple: bool) -> int | None:
    """The lock that a CPU spins on, by the registers of what it ran or what was interrupted."""
    contexts = [cpu.regs(), *(frame.interrupt for frame in frames if frame.interrupt)]
    for regs in contexts:
        symbol = dump.symbols.at(regs["nip"])
        if symbol is not None and kind_of(symbol.name) == "spinlock":
            return next(_locks_in(dump, regs, simple), None)
    return None


def _locks_in(dump: Dump, regs: PtRegs, simple: bool) -> Iterator[int]:
    """Registers that lead to a spinlock which is held."""
    for number in _REGISTERS:
        address = regs[f"gpr{number}"]
        try:
            if address >> 60 == _KERNEL and address % 4 == 0:
                owner = _owner(dump, address, simple)
                if owner is not None and any(cpu.number == owner for cpu in dump.cpus):
                    yield address
        except PhypanError:
            continue


def _owner(dump: Dump, lock: int, simple: bool) -> int | None:
    """Number of the CPU that holds a lock; None where nobody does."""
    value = int.from_bytes(dump.kernel.space.read(lock, 4), dump.byte_order)
    if simple:
        return value & 0xFFFF if value >> 16 == _TOKEN else None
    return value >> _OWNER_SHIFT & _OWNER_MASK if value & _LOCKED else None
