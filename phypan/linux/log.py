"""The kernel's log out of a dump: by VMCOREINFO alone, without types and without drgn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from phypan.errors import PhypanError, Problem, Unsupported
from phypan.formats import printk, printk_ringbuffer
from phypan.formats.printk import Record
from phypan.formats.vmcoreinfo import Vmcoreinfo

if TYPE_CHECKING:
    from phypan.dump import Dump

_MAX_RING = 1 << 28  # bytes of text, and of descriptors or infos
WHERE = "kernel log"


def records(dump: Dump) -> list[Record]:
    """The messages, from the oldest to the newest.

    What is damaged is a problem of the dump; where no message is left that can be read as the
    kernel would, what looks like text in the ring is taken. Raises Unsupported where nothing
    tells where the log is.
    """
    found: list[Record] = []
    try:
        found += _read(dump)
    except PhypanError as error:
        if isinstance(error, Unsupported):
            raise
        dump.problems.append(Problem(str(error), WHERE, "the messages behind that are lost"))
    return found or carved(dump)


def _read(dump: Dump) -> Iterator[Record]:
    info = dump.vmcoreinfo
    if info is not None and _address(dump, "prb") and info.size("printk_ringbuffer"):
        return _lockless(dump, info)
    if info is not None and (info.size("printk_log") or info.size("log")):
        return _records(dump, info)
    if _address(dump, "log_end"):
        return _text(dump)
    raise Unsupported(
        "nothing tells where the kernel's log is",
        where=dump.source,
        hint="kernels say so in VMCOREINFO; `phypan search` finds what was printed",
    )


def _problem(dump: Dump, what: str) -> None:
    dump.problems.append(Problem(what, WHERE, "these messages are lost"))


def _address(dump: Dump, name: str) -> int | None:
    """The effective address of a variable: VMCOREINFO's, else kallsyms'."""
    told = dump.vmcoreinfo.symbol(name) if dump.vmcoreinfo else None
    return told or dump.symbols.address(name)


def _number(dump: Dump, name: str, size: int) -> int:
    address = _address(dump, name)
    if address is None:
        raise Unsupported(f"nothing tells where {name} is", where=dump.source)
    return int.from_bytes(dump.kernel.space.read(address, size), dump.byte_order)


def _lockless(dump: Dump, info: Vmcoreinfo) -> Iterator[Record]:
    rings = _rings(dump, info)
    sizes = [(info.size(name) or 0) * rings.count for name in ("prb_desc", "printk_info")]
    descs, infos, text = (
        dump.kernel.read_some(address, min(size, _MAX_RING))
        for address, size in zip(
            (rings.descs, rings.infos, rings.text), (*sizes, rings.text_size), strict=True
        )
    )
    order = dump.byte_order
    return printk_ringbuffer.read_lockless(
        rings, descs, infos, text, info, order, lambda what: _problem(dump, what)
    )


def _rings(dump: Dump, info: Vmcoreinfo) -> printk_ringbuffer.Rings:
    size = info.size("printk_ringbuffer") or 0
    data = dump.kernel.space.read(_number(dump, "prb", 8), min(size, 4096))
    return printk_ringbuffer.read_rings(data, info, dump.byte_order)


def _records(dump: Dump, info: Vmcoreinfo) -> Iterator[Record]:
    ring = _ring(dump)
    first, behind = (_number(dump, f"log_{which}_idx", 4) for which in ("first", "next"))
    found = printk.read_records(
        ring, first, behind, info, dump.byte_order, lambda what: _problem(dump, what)
    )
    return printk.joined(found)


def _text(dump: Dump) -> Iterator[Record]:
    ring = _ring(dump)
    end = _number(dump, "log_end", 4)
    count = _number(dump, "logged_chars", 4) if _address(dump, "logged_chars") else len(ring)
    return printk.read_text(ring, end, count)


def _ring(dump: Dump) -> bytes:
    """The characters or records of a log before 5.10."""
    size = min(_number(dump, "log_buf_len", 4), _MAX_RING)
    return dump.kernel.read_some(_number(dump, "log_buf", 8), size)


def carved(dump: Dump) -> list[Record]:
    """What looks like text where the log is; nothing if even that is not known."""
    info = dump.vmcoreinfo
    places: list[tuple[int, int]] = []
    with suppress(PhypanError):  # it was told when it was read in earnest
        if info is not None and info.size("printk_ringbuffer"):
            rings = _rings(dump, info)
            places.append((rings.text, rings.text_size))
    with suppress(PhypanError):
        places.append((_number(dump, "log_buf", 8), _number(dump, "log_buf_len", 4)))
    places += [(s.address, s.size) for s in dump.symbols.find("__log_buf")]
    for address, size in places:
        found = list(printk.carve(dump.kernel.read_some(address, min(size, _MAX_RING))))
        if found:
            meaning = "what looks like text there is shown, in the order in which it stands"
            dump.problems.append(Problem("no message can be read", WHERE, meaning))
            return found
    return []
