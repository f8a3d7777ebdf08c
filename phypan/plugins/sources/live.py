"""A running system in which a dump waits: "/", or the directory where the model is mounted.

It shows the crashed partition's memory in /proc/vmcore, and what the firmware preserved in the
device tree and in sysfs (see phypan.status).
"""

from __future__ import annotations

from dataclasses import replace

from phypan import Dump, Input, LiveStore, NoDump, Source, from_live, hookimpl, status

_HEAD = 4096  # bytes that a source may look at


def probe(given: Input) -> int:
    """Sure of a directory with proc/vmcore or sys/kernel/release_region in it."""
    if given.store is not None or not given.path.is_dir():
        return 0
    return 80 if status(given.path).mechanism else 0


def open_(given: Input) -> Dump | Input:
    """The Dump of phyp's kernel; of all others the core file that they show."""
    system = status(given.path)
    if system.mechanism is None or system.memory is None:
        raise NoDump(given.path)
    if system.mechanism == "phyp":
        return from_live(system)
    store = LiveStore(system.memory)
    head = bytes(store.view(0, min(store.size, _HEAD)))
    return replace(given, path=system.memory, store=store, head=head)


@hookimpl
def phypan_sources() -> list[Source]:
    """The running system."""
    return [Source("live", "running system in which a dump waits: a directory, or /", probe, open_)]
