"""The Dump of the partition that crashed, in the memory of the one that runs now."""

from __future__ import annotations

from phypan.assemble import from_ram
from phypan.dump import Dump
from phypan.errors import InputError, Problem
from phypan.extents import Extent, Hole
from phypan.formats.kernel_dump import SectionType
from phypan.live import page_flags
from phypan.live.store import LiveStore
from phypan.live.system import LiveSystem, reservation
from phypan.memory import Memory
from phypan.pages.state import PageState
from phypan.ranges import Ranges
from phypan.regions import Regions, read_regions

MIB = 1 << 20
LOW_MEMORY = 256 << 20  # bytes: kernels of that age have their VMCOREINFO in their own image
USED = "the second kernel has used it since: it keeps more than was preserved"
GIVEN = "it was given back to the system before it was saved"


def from_live(system: LiveSystem) -> Dump:
    """The Dump behind a kernel of phyp dump, whose /proc/vmcore is memory by physical address.

    What that kernel uses itself, beyond what was preserved of it, and what was given back to it
    already are holes. Raises InputError when no dump waits.
    """
    if system.mechanism != "phyp" or system.memory is None:
        raise InputError("no dump of phyp's is waiting", where=str(system.root))
    store = LiveStore(system.memory)
    try:
        regions = read_regions(system.regions, store)
        if regions.memory:
            size = max(start + length for start, length in regions.memory)
            store.close()
            store = LiveStore(system.memory, size)
        name = f"{system.memory} of a running kernel"
        dump = _assembled(store, regions, name)
        _take_out_what_is_lost(dump, system, store)
    except BaseException:
        store.close()
        raise
    return dump


def _assembled(store: LiveStore, regions: Regions, name: str) -> Dump:
    """The Dump; where low memory cannot be read, less of it is searched for VMCOREINFO."""
    searched, error = LOW_MEMORY, None
    while True:
        try:
            dump = from_ram(store, regions, name, searched=searched)
        except InputError as found:
            if not searched:
                raise
            searched, error = searched // 2 // MIB * MIB, error or found
            continue
        if error is not None:
            meaning = f"VMCOREINFO was looked for in the first {searched:#x} bytes only"
            dump.problems.append(Problem(error.what, error.where or name, meaning))
        return dump


def _take_out_what_is_lost(dump: Dump, system: LiveSystem, store: LiveStore) -> None:
    held, _ = reservation(system, dump.kernel_dump, store.size)
    if held is None:
        return
    used, given = Ranges(), Ranges()
    used.add(_preserved_end(dump), held.start)
    flags = page_flags.calibrated(system.root, store.size, held.area_start + held.area_size // 2)
    if flags is not None:
        given = flags.given_back(held.start, held.end)
        store.gone = given
    for spans, why in ((used, USED), (given, GIVEN)):
        if spans:
            first, last = next(iter(spans))[0], list(spans)[-1][1]
            where = f"physical address {first:#x} to {last:#x}"
            meaning = f"{spans.size:#x} bytes are lost"
            dump.problems.append(Problem(why, where, meaning))
            dump.memory = _without(dump.memory, spans, why)
            dump.incomplete = True


def _preserved_end(dump: Dump) -> int:
    """Where the low memory ends that was copied: behind it, memory is taken from its place."""
    sections = dump.kernel_dump.of_type(SectionType.REAL_MODE_REGION) if dump.kernel_dump else ()
    return max((section.source + section.length for section in sections), default=0)


def _without(memory: Memory, spans: Ranges, why: str) -> Memory:
    """`memory` without what lies at these offsets of the live store."""
    kept, holes = [], list(memory.holes())
    for extent in memory.extents:
        stop = extent.offset + extent.size
        for first, last in spans.gaps(extent.offset, stop):
            kept.append(
                Extent(extent.start + first - extent.offset, last - first, extent.store, first)
            )
        for first, last in spans.within(extent.offset, stop):
            start = extent.start + first - extent.offset
            holes.append(Hole(start, last - first, PageState.DAMAGED, why))
    return Memory(kept, holes)
