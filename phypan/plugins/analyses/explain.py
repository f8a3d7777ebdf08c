"""Why a page is in the dump, or why it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import phypan  # what is slow to import is found in it when it is called
from phypan import (
    Address,
    Analysis,
    Dump,
    Hole,
    NotInDump,
    PageStore,
    hookimpl,
)

_LEVELS = {2: "cache", 4: "private cache", 8: "user", 16: "free"}


@dataclass(frozen=True)
class ExplainRow:
    """One fact about the page."""

    what: str
    value: str


def explain(dump: Dump, address: Address) -> Iterator[ExplainRow]:
    """Why the page at a physical address is in the dump or not, and what it was used for.

    address  physical, in hexadecimal
    """
    size = dump.page_size
    pfn = address // size
    facts = [
        ("page frame", f"{pfn:#x}, physical addresses {pfn * size:#x} to {(pfn + 1) * size - 1:#x}")
    ]
    facts += _state(dump, address)
    facts += _use(dump, pfn)
    for what, value in facts:
        yield ExplainRow(what, value)


def _state(dump: Dump, address: int) -> Iterator[tuple[str, str]]:
    """What the dump has of it, and where."""
    piece = dump.memory.at(address)
    if isinstance(piece, Hole):
        yield "state", f"{piece.state.value}: {piece.why}"
        return
    state, why = dump.memory.state(address)
    yield "state", f"{state.value}: {why}" if why else state.value
    store = piece.store
    if not isinstance(store, PageStore):
        yield "stored", f"byte {piece.offset:#x} of {store.name}"
        return
    try:
        found = store.as_stored(piece.offset // store.page_size)
        store.check(piece.offset // store.page_size)
    except NotInDump as error:
        yield "damaged", error.why
        return
    if found is not None:
        from phypan.formats.kdump import COMPRESSIONS

        how = COMPRESSIONS.get(found.flags, "?")
        yield "stored", f"{len(found.data)} bytes in {store.name}, compression {how}"


def _use(dump: Dump, pfn: int) -> Iterator[tuple[str, str]]:
    """What the kernel used it for, by its struct page."""
    types = phypan.PageTypes(dump)
    found = types.struct_page(pfn)
    kind = phypan.page_type(types[pfn])
    if found is None:
        yield "struct page", "none that can be read"
    else:
        at, data = found
        words = (data[low : low + 8] for low in range(0, len(data), 8))
        values = " ".join(f"{int.from_bytes(word, dump.byte_order):016x}" for word in words)
        yield "struct page", f"{at:#x}: {values}"
        yield "type", kind.name
        yield "left out by", _left_out_by(kind.level, kind.always)
    for problem in types.problems:
        yield "unknown", str(problem)


def _left_out_by(level: int, always: bool) -> str:
    if always:
        return "every dump level but 0 and 1"
    names = [f"{bit} ({name})" for bit, name in _LEVELS.items() if level & bit]
    return " and ".join(names) if names else "no dump level, but pages of zeros take no room"


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The explanation."""
    return [Analysis(explain, ExplainRow)]
