"""makedumpfile's compressed dump, phypan's own and QEMU's: one file, or a split set of several."""

from __future__ import annotations

from collections.abc import Iterator

from phypan import (
    BadRecord,
    CoreNotes,
    Dump,
    Extent,
    Hole,
    Input,
    KdumpSet,
    Memory,
    PageStore,
    Problem,
    Source,
    Store,
    Unsupported,
    dump_from_notes,
    hookimpl,
    read_core_notes,
)
from phypan.formats import elfcore, kdump, vmcoreinfo
from phypan.formats.kdump import Kdump, Part, Seal

MACHINES = (b"ppc64", b"ppc64le", b"Unknown", b"")  # QEMU does not know whom it dumps
ERASEINFO = b"ERASEINFO"  # name of the note that makedumpfile -E has in its place


def probe(given: Input) -> int:
    """Sure of a KDUMP file of a 64-bit machine."""
    return 90 if kdump.byte_order(given.head) is not None else 0


def open_(given: Input) -> Dump:
    """The Dump in a file or a split set; pages that are damaged become holes."""
    files = [_head(one) for one in (given, *given.others)]
    notes = _notes(*files[0])
    sealed = [_sealed(store, head, notes) for store, head in files]
    notes.raw.pop(kdump.NT_SEAL, None)
    pages = KdumpSet(files, checked=any(sealed))
    notes.problems += pages.problems
    head = pages.head
    store = PageStore(str(given.path), pages, head.max_mapnr, head.block_size, given.cache)
    memory = Memory(_extents(store, notes), notes.holes(), [pages.mask()])
    name = f"KDUMP file {given.path}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    dump = dump_from_notes(
        name, notes, memory, page_size=head.block_size, incomplete=head.incomplete
    )
    dump.dump_level, dump.format = head.dump_level, "kdump"
    dump.crash_time = dump.crash_time or head.time or None
    if dump.vmcoreinfo and dump.vmcoreinfo.page_size not in (None, head.block_size):
        what = f"PAGESIZE={dump.vmcoreinfo.page_size}, blocks of {head.block_size}"
        dump.problems.append(Problem(what, kdump.WHERE, "the blocks are believed"))
    return dump


def _extents(store: PageStore, notes: CoreNotes) -> Iterator[Extent]:
    """All pages, but for the parts of pages that are not memory: the format has whole pages only.

    phypan's writer stores zeros in their place, and says so in its notes.
    """
    size, position = store.page_size, 0
    for hole in sorted(notes.holes(), key=lambda hole: hole.start):
        for start, end in _parts_of_pages(hole, size):
            if position < start and end <= store.size:
                yield Extent(position, start - position, store, position)
            position = max(position, end)
    if position < store.size:
        yield Extent(position, store.size - position, store, position)


def _parts_of_pages(hole: Hole, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what `hole` takes of pages that it does not take whole."""
    first, last = -(-hole.start // size) * size, hole.end // size * size
    if hole.start < min(first, hole.end):
        yield hole.start, min(first, hole.end)
    if max(last, hole.start, first) < hole.end:
        yield max(last, first), hole.end


def _head(given: Input) -> tuple[Store, Kdump]:
    store = given.store
    if store is None:
        raise Unsupported("a directory is no KDUMP file", where=str(given.path))
    head = kdump.read(store.view, store.size)
    if head.utsname[4] not in MACHINES:
        raise Unsupported(
            f"machine {head.utsname[4].decode('ascii', 'replace')}, not ppc64 or ppc64le",
            where=str(given.path),
            hint="dumps of other architectures are for crash and drgn",
        )
    return store, head


def _notes(store: Store, head: Kdump) -> CoreNotes:
    """The notes of a file, which are the same in each of a set."""
    notes = read_core_notes([_part(store, head.notes)], head.order)
    notes.problems[:0] = head.problems
    if notes.vmcoreinfo is None and head.vmcoreinfo.size:
        notes.vmcoreinfo = vmcoreinfo.read(_part(store, head.vmcoreinfo))
    if head.eraseinfo.size:
        data = bytes(_part(store, head.eraseinfo))
        notes.other.append(elfcore.Note(ERASEINFO, 0, data))
    return notes


def _part(store: Store, part: Part) -> memoryview:
    """A part of the file, or what is left of it."""
    return store.view(part.offset, max(0, min(part.size, store.size - part.offset)))


def _sealed(store: Store, head: Kdump, notes: CoreNotes) -> bool:
    """Whether a file has phypan's seal; what does not agree with it becomes a Problem."""
    data = bytes(_part(store, head.notes))
    place = data.rfind(kdump.SEAL_MAGIC)
    if place < 0 and kdump.NT_SEAL not in notes.raw:
        return False
    where, meaning = f"{store.name}, headers", "its pages are checked one by one"
    try:
        seal = Seal.read(data[place : place + kdump.SEAL_SIZE] if place >= 0 else b"")
        if not seal.holds(head, head.notes.offset + place, store.view):
            what = "the checksum of headers, notes and bitmaps is wrong"
            notes.problems.append(Problem(what, where, meaning))
    except BadRecord as error:
        notes.problems.append(Problem(f"the seal is damaged: {error.what}", where, meaning))
    return True


@hookimpl
def phypan_sources() -> list[Source]:
    """The compressed dump."""
    help_ = "compressed dump of makedumpfile, QEMU and phypan; a split set with --with"
    return [Source("kdump", help_, probe, open_, sets=True)]
