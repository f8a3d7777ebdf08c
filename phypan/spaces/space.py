"""A space: effective addresses, what they translate to, and the bytes behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from phypan.errors import TranslationFault
from phypan.extents import Extent
from phypan.memory import Memory
from phypan.pages.state import PageState
from phypan.spaces.batch import Batch, Range

_MAX_CACHED = 1 << 16  # pages
_UNMAPPED = 4096  # bytes that are not mapped, where it is not known how many


@dataclass(frozen=True, slots=True)
class Step:
    """One entry on the way: its level, its physical address, its value.

    An entry of a hashed page table has no physical address, but a place in the table, when the
    table is not in the partition's memory: then `level` says so.
    """

    level: str
    address: int
    value: int


@dataclass(frozen=True, slots=True)
class Protection:
    """What a mapping allows. user: in user mode too; inhibited: it is not cached, as IO is not."""

    read: bool
    write: bool
    execute: bool
    user: bool = False
    inhibited: bool = False

    def __str__(self) -> str:
        allowed = zip("rwx", (self.read, self.write, self.execute), strict=True)
        text = "".join(letter if yes else "-" for letter, yes in allowed)
        return text + (" user" if self.user else "") + (" uncached" if self.inhibited else "")


@dataclass(frozen=True, slots=True)
class Translation:
    """What an effective address translates to.

    address     the effective address
    physical    the physical address, None where there is a fault
    fault       why there is none, in words
    page_size   bytes of the page; of a fault, of what the entry at fault covers; 0 if unknown
    protection  None where the space does not know it, as for the linear map of hashed kernels
    steps       the entries on the way, from the top
    state       what the dump has of the page; None where there is a fault
    how         what the translation went by: "page tables", "linear map", "vmemmap_list", ...
    """

    address: int
    physical: int | None
    fault: str | None = None
    page_size: int = 0
    protection: Protection | None = None
    steps: tuple[Step, ...] = ()
    state: PageState | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class MappedRange:
    """Effective addresses that map physical ones, page for page.

    first, size  effective address of the first byte, bytes
    physical     physical address of the first byte; None where a fault is in the way
    page_size    bytes of each page
    protection   None where it is not known
    fault        why it maps nothing although something is there, in words
    """

    first: int
    size: int
    physical: int | None
    page_size: int
    protection: Protection | None = None
    fault: str | None = None

    @property
    def end(self) -> int:
        """The first effective address behind it."""
        return self.first + self.size

    @property
    def physical_end(self) -> int | None:
        """The first physical address behind it; None where a fault is in the way."""
        return None if self.physical is None else self.physical + self.size


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of effective addresses.

    first, size  effective address of the first byte, bytes
    physical     physical address of the first byte; None where nothing is mapped
    missing      why there are no bytes, in words; None where there are
    """

    first: int
    size: int
    physical: int | None
    missing: str | None = None

    @property
    def end(self) -> int:
        """The first effective address behind it."""
        return self.first + self.size


class Space:
    """An address space. Its kinds define translate, translate_many and mappings."""

    name = ""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._cached: dict[tuple[int, int], int] = {}  # (page shift, page number) -> physical
        self._shifts: list[int] = []

    def translate(self, address: int) -> Translation:
        """What an effective address translates to; it does not raise for one that maps nothing."""
        raise NotImplementedError

    def translate_many(self, addresses: Iterable[int]) -> Batch:
        """The same for many addresses, as arrays."""
        raise NotImplementedError

    def mappings(self, *, alike: bool = False) -> Iterator[MappedRange]:
        """All that is mapped, in order of address; neighbours that fit made one.

        alike  they need not be neighbours in physical memory; a hint, which may be ignored
        """
        raise NotImplementedError

    def stated(self, found: Translation) -> Translation:
        """`found`, with the state of the page in the dump."""
        if found.physical is None:
            return found
        piece = self.memory.at(found.physical)
        state = PageState.PRESENT if isinstance(piece, Extent) else piece.state
        return replace(found, state=state)

    def physical(self, address: int) -> int:
        """The physical address of an effective one; TranslationFault where there is none."""
        return self._page(address)[0]

    def _page(self, address: int) -> tuple[int, int]:
        """(physical address, bytes from there to the end of the page)."""
        for shift in self._shifts:
            base = self._cached.get((shift, address >> shift))
            if base is not None:
                offset = address & (1 << shift) - 1
                return base + offset, (1 << shift) - offset
        found = self.translate(address)
        if found.physical is None:
            raise TranslationFault(address, found.fault or "not mapped")
        offset = address % found.page_size
        self._keep(address, found.physical - offset, found.page_size.bit_length() - 1)
        return found.physical, found.page_size - offset

    def _keep(self, address: int, base: int, shift: int) -> None:
        if len(self._cached) >= _MAX_CACHED:
            self._cached.clear()
        if shift not in self._shifts:
            self._shifts.append(shift)
        self._cached[shift, address >> shift] = base

    def parts(self, first: int, end: int) -> Iterator[Part]:
        """What is behind effective addresses from `first` to `end`, in order and without gaps.

        Each page is translated: for all that is mapped in a space see `mappings`.
        """
        before: Part | None = None
        for part in self._parts(first, end):
            if before is not None and _joins(before, part):
                before = replace(before, size=before.size + part.size)
                continue
            if before is not None:
                yield before
            before = part
        if before is not None:
            yield before

    def _parts(self, address: int, end: int) -> Iterator[Part]:
        while address < end:
            found = self.translate(address)
            page = found.page_size or _UNMAPPED
            size = min(end, address - address % page + page) - address
            if found.physical is None:
                yield Part(address, size, None, found.fault or "not mapped")
            else:
                for piece in self.memory.pieces(found.physical, found.physical + size):
                    missing = (
                        None if isinstance(piece, Extent) else f"{piece.state.value}: {piece.why}"
                    )
                    at = address + piece.start - found.physical
                    yield Part(at, piece.size, piece.start, missing)
            address += size

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at an effective address, across pages.

        Raises TranslationFault at the first byte that is not mapped, NotInDump at the first that
        is mapped to memory which the dump does not hold.
        """
        physical, room = self._page(address)
        if size <= room:
            return self.memory.read(physical, size)
        parts, end = [], address + size
        while address < end:
            physical, room = self._page(address)
            parts.append(self.memory.read(physical, min(room, end - address)))
            address += room
        return b"".join(parts)


def _joins(before: Part, part: Part) -> bool:
    """Whether two neighbours are one: in memory too, or missing for the same reason."""
    if before.missing != part.missing or (before.physical is None) != (part.physical is None):
        return False
    return before.physical is None or before.physical + before.size == part.physical


def mapping(found: Range, protection: Protection | None, fault: str | None) -> MappedRange:
    """A range that a walk has found, with its flags and faults in words."""
    physical = None if found.fault else found.physical
    return MappedRange(found.first, found.size, physical, 1 << found.shift, protection, fault)
