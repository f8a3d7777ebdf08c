"""Who holds a mutex, where is he, and who waits for it?

python who_holds_mutex.py vmcore cgroup_mutex [vmlinux]      or an address: c008000000250058
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from drgn import Object
from drgn.helpers.linux import list_for_each_entry

import phypan

FLAGS = 7  # the low bits of mutex.owner (kernel/locking/mutex.h)


def described(task: Object) -> Iterator[str]:
    """A task in one line, and its stack."""
    comm = task.comm.string_().decode(errors="replace")
    yield f"{task.pid.value_()} {phypan.printable(comm)}"
    frames = task.prog_.stack_trace(task)
    yield from (f"    {frame.name.lstrip('.')}" for frame in frames if not frame.is_inline)


path, name, *symbols = sys.argv[1:]
with phypan.open(path, symbols=symbols) as dump:
    address = dump.symbols.address(name) or int(name, 16)
    mutex = Object(dump.program, "struct mutex", address=address)
    owner = mutex.owner.counter.value_() & ~FLAGS
    print(f"{dump.symbols.describe(address)} is held by {'' if owner else 'nobody'}".rstrip())
    if owner:
        print(*described(Object(dump.program, "struct task_struct *", owner)), sep="\n")
    waiters = mutex.wait_list.address_of_()
    for waiter in list_for_each_entry("struct mutex_waiter", waiters, "list"):
        print("waited for by", *described(waiter.task), sep="\n")
