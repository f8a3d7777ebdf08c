"""Memory, as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Bytes, Dump, Hex, Unsupported, hookimpl

if TYPE_CHECKING:
    from phypan import Space

_MOST = 16 << 20  # bytes: more is for `phypan convert`, or for a script
_ROW = 16  # bytes


@dataclass(frozen=True)
class ReadRow:
    """Sixteen bytes, or a stretch of which there are none."""

    address: Address  # in the space that was asked for
    physical: Address | None  # None where nothing is mapped
    size: Bytes
    data: str | None  # in hexadecimal, in the order of memory; None where there is nothing
    words: tuple[Address, ...]  # the same as 64-bit numbers of the crashed kernel's byte order
    text: str | None  # the same in ASCII, a dot for what is none
    missing: str | None  # why there is nothing


def read(
    dump: Dump,
    place: str,
    *,
    size: int = 256,
    space: str = "kernel",
    pid: int | None = None,
    pgd: Hex | None = None,
) -> Iterator[ReadRow]:
    """Show memory at PLACE: a hexadecimal address, or a symbol with or without an offset.

    size   bytes, 16 MiB at the most
    space  what PLACE is an address of: "kernel", "physical", "linear", "hpt" (needs an image of the
           hashed page table), "vrma" (needs the HPTE save area)
    pid    it is an address of this process
    pgd    it is an address of the process whose top page table is there (mm->pgd)
    """
    from phypan.linux import places

    if not 0 < size <= _MOST:
        raise Unsupported(f"{size} bytes cannot be shown", hint=f"ask for 1 to {_MOST}")
    chosen = dump.spaces.named(space, pid=pid, pgd=pgd)
    first = places.address(dump, place)
    end = min(first + size, 1 << 64)
    yield from _rows(dump, chosen, first, end)


def _rows(dump: Dump, space: Space, first: int, end: int) -> Iterator[ReadRow]:
    for part in space.parts(first, end):
        if part.missing is not None:
            yield ReadRow(part.first, part.physical, part.size, None, (), None, part.missing)
            continue
        assert part.physical is not None
        data = dump.memory.read(part.physical, part.size)
        for at in range(0, part.size, _ROW):
            some = data[at : at + _ROW]
            yield _row(dump, part.first + at, part.physical + at, some)


def _row(dump: Dump, address: int, physical: int, data: bytes) -> ReadRow:
    words = tuple(
        int.from_bytes(data[at : at + 8], dump.byte_order)
        for at in range(0, len(data) - len(data) % 8, 8)
    )
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
    return ReadRow(address, physical, len(data), data.hex(), words, text, None)


def text(rows: Iterable[ReadRow]) -> Iterator[str]:
    """As hexdump and xxd show bytes."""
    for row in rows:
        if row.data is None:
            yield f"{row.address:016x}  {row.size:#x} bytes are missing: {row.missing}"
            continue
        pairs = [row.data[at : at + 2] for at in range(0, len(row.data), 2)]
        left, right = " ".join(pairs[:8]), " ".join(pairs[8:])
        yield f"{row.address:016x}  {left:23}  {right:23}  {row.text}"


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """Reading memory."""
    return [Analysis(read, ReadRow, text=text)]
