"""What kernels may read of a memory: its extents that are mapped, and pages fetched on demand.

A store whose attribute `resident` is true gives views that cost nothing and stay valid: those of
mapped files, and of bytes. Other stores (compressed dumps) are read page by page when a kernel
says that it lacks one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from phypan.extents import Extent
from phypan.kernels.modes import Mode
from phypan.memory import Memory

PAGE = 65536  # bytes fetched at a time
MAX_FETCHED = 4096  # pages that are kept from one batch to the next


@dataclass(frozen=True)
class Extents:
    """Arrays as kernels/words.py describes them. `kept` is what pointers in `bases` point to."""

    starts: Any
    ends: Any
    bases: Any
    kept: Any

    @property
    def arrays(self) -> tuple[Any, Any, Any]:
        """What a kernel takes."""
        return self.starts, self.ends, self.bases


class Resident:
    """The extents of a Memory that kernels read, in the form that each mode of theirs needs."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._lock = threading.Lock()
        self._mapped = [
            (extent.start, extent.store.view(extent.offset, extent.size))
            for extent in memory.extents
            if getattr(extent.store, "resident", False)
        ]
        self._fetched: dict[int, memoryview] = {}
        self._tried: set[int] = set()  # starts of pages
        self._extents: dict[Mode, Extents] = {}

    def extents(self, how: Mode) -> Extents:
        """What is resident now, for kernels of a mode."""
        with self._lock:
            if how not in self._extents:
                pieces = sorted([*self._mapped, *self._fetched.items()], key=lambda piece: piece[0])
                self._extents[how] = _extents(pieces, how)
            return self._extents[how]

    def fetch(self, addresses: Iterable[int]) -> bool:
        """Read the pages that hold these physical addresses; whether that has helped any of them.

        A page is tried once: asked again for what is in a hole, the answer is no.
        """
        helped = False
        with self._lock:
            for page in {int(address) // PAGE * PAGE for address in addresses} - self._tried:
                self._tried.add(page)
                for piece in self.memory.pieces(page, page + PAGE):
                    if isinstance(piece, Extent) and not getattr(piece.store, "resident", False):
                        data = bytes(piece.store.view(piece.offset, piece.size))
                        self._fetched[piece.start] = memoryview(data)
                        helped = True
            if helped:
                self._extents.clear()
        return helped

    def trim(self) -> None:
        """Forget fetched pages if there are many; to be called between batches."""
        with self._lock:
            if len(self._tried) > MAX_FETCHED:
                self._fetched.clear()
                self._tried.clear()
                self._extents.clear()

    def holds(self, address: int) -> bool:
        """Whether the memory holds the eight bytes at `address`, resident or not."""
        piece = self.memory.at(address)
        return isinstance(piece, Extent) and piece.size >= 8


def _extents(pieces: list[tuple[int, memoryview]], how: Mode) -> Extents:
    starts = [start for start, _ in pieces]
    ends = [start + len(view) for start, view in pieces]
    views = [view for _, view in pieces]
    if how == "plain":
        return Extents(starts, ends, views, views)
    import numpy as np

    octets = [np.frombuffer(view, np.uint8) for view in views]
    bases = np.array([part.ctypes.data for part in octets], np.uint64) if how == "numba" else octets
    return Extents(np.array(starts, np.uint64), np.array(ends, np.uint64), bases, octets)
