"""Find kallsyms in the memory of a crashed kernel: by VMCOREINFO's help, else by its shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from phypan.errors import BadRecord, PhypanError, Problem
from phypan.formats import kallsyms
from phypan.formats._records import ByteOrder
from phypan.formats.kallsyms import Encoding, Layout
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.linux.symbols import Table

_MAX_NAMES = 64 << 20  # bytes of kallsyms_names
_MAX_TOKENS = 1 << 16  # bytes of kallsyms_token_table: its index has 16 bits
_IMAGE = 256 << 20  # bytes from _stext that a kernel's image may take
_KERNEL = 0xC << 60  # effective addresses of ppc64 kernels begin here


class Kernel(Protocol):
    """Memory of the crashed kernel by effective address."""

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes; PhypanError where there are none."""
        ...

    def read_some(self, address: int, size: int) -> bytes:
        """Up to `size` bytes: as many as can be read without a gap, perhaps none."""
        ...


def read(
    kernel: Kernel, order: ByteOrder, info: Vmcoreinfo | None
) -> tuple[Table | None, list[Problem]]:
    """(the kernel's own symbols, what is odd about them); None where there are none.

    Raises nothing: symbols that cannot be read are a problem.
    """
    stext = info.symbol("_stext") if info else None
    problems: list[Problem] = []
    for layout in _layouts(kernel, order, info, stext):
        try:
            return _table(kernel, order, layout, stext), problems
        except PhypanError as error:
            problems.append(Problem(str(error), "kallsyms", "another reading is tried"))
    problems = problems[:4]  # of hundreds of candidates the first say enough
    problems.append(Problem("not found", "kallsyms", "addresses have no names"))
    return None, problems


def _layouts(
    kernel: Kernel, order: ByteOrder, info: Vmcoreinfo | None, stext: int | None
) -> Iterator[Layout]:
    told = _told(kernel, order, info) if info else None
    if told is not None:
        yield told
    start = (stext or _KERNEL) & ~0xFFFF
    image = kernel.read_some(start, _IMAGE)
    for layout in kallsyms.find(image, order):
        yield layout.moved(start)


def _told(kernel: Kernel, order: ByteOrder, info: Vmcoreinfo) -> Layout | None:
    """Where VMCOREINFO says the tables are (since 6.0, and in some distributions before)."""
    place = {
        name: info.symbol(f"kallsyms_{name}")
        for name in "num_syms names token_table token_index offsets addresses relative_base".split()
    }
    number, names = place["num_syms"], place["names"]
    table, index = place["token_table"], place["token_index"]
    addresses = place["offsets"] or place["addresses"]
    if not (number and names and table and index and addresses):
        return None
    word = kernel.read_some(number, 8)
    # unsigned int since 4.20, unsigned long before: the high half of the latter is zero
    count = int.from_bytes(word[:4], order) or int.from_bytes(word, order)
    encoding: Encoding | None = None if place["offsets"] else "absolute"
    return Layout(count, names, table, index, addresses, place["relative_base"], encoding)


def _table(kernel: Kernel, order: ByteOrder, layout: Layout, stext: int | None) -> Table:
    if not 0 < layout.count <= kallsyms.MAX_SYMBOLS:
        raise BadRecord(f"{layout.count} symbols", where="kallsyms_num_syms")
    table = kernel.read_some(layout.token_table, _MAX_TOKENS)
    index = kernel.read(layout.token_index, kallsyms.INDEX_SIZE)
    tokens = kallsyms.read_tokens(table, index, order)
    behind = layout.token_table - layout.names  # the token table stands behind the names
    size = behind if 0 < behind < _MAX_NAMES else _MAX_NAMES
    data = kernel.read_some(layout.names, min(size, 256 * layout.count))
    names = kallsyms.read_names(data, layout.count, tokens)
    if len(names) < layout.count:
        raise BadRecord(f"{len(names)} of {layout.count} names", where="kallsyms_names")
    addresses = _addresses(kernel, order, layout, names, stext)
    pairs = sorted(zip(addresses, range(len(names)), strict=True))
    if any(address != pair[0] for address, pair in zip(addresses, pairs, strict=True)):
        addresses, names = [a for a, _ in pairs], [names[n] for _, n in pairs]
    return Table(addresses, names)


def _addresses(
    kernel: Kernel, order: ByteOrder, layout: Layout, names: Sequence[str], stext: int | None
) -> Sequence[int]:
    """The addresses in the first encoding that agrees with what is known."""
    anchor = next((n for n, name in enumerate(names) if name[1:] == "_stext"), None)
    base = 0
    if layout.base is not None:
        base = int.from_bytes(kernel.read(layout.base, 8), order)
    for encoding in _encodings(layout):
        size = layout.count * (8 if encoding == "absolute" else 4)
        data = kernel.read(layout.addresses, size)
        origin = layout.addresses if encoding == "place" else base
        found = kallsyms.read_addresses(data, layout.count, order, encoding, origin)
        if stext is not None and anchor is not None:
            if found[anchor] == stext:
                return found
        elif _plausible(found):
            return found
    raise BadRecord("no encoding gives addresses of a kernel", where="kallsyms_offsets")


def _encodings(layout: Layout) -> tuple[Encoding, ...]:
    if layout.encoding is not None:
        return (layout.encoding,)
    return ("place", "absolute") if layout.base is None else ("relative", "per-CPU")


def _plausible(addresses: Sequence[int]) -> bool:
    """Whether nearly all are in the kernel, and nearly all in order."""
    count = len(addresses)
    inside = sum(_KERNEL <= address < _KERNEL + (1 << 60) for address in addresses)
    rising = sum(a <= b for a, b in pairwise(addresses))
    return inside >= 0.9 * count and rising >= 0.98 * (count - 1) and len(set(addresses)) > 1
