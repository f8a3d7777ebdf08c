"""Outline: what the core file of a live dump will be, known before a page of it is copied.

The ELF writer is asked for the file once, at the start: its head is kept, of the memory only what
goes where. The journal holds the outline, and so the file that results is the same however often
the capture was stopped, and memory that was given back need not be asked again who it was.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from phypan.errors import PluginError
from phypan.formats import elfcore
from phypan.stores import Store

_FLAGS_AT = 48  # file offset of e_flags


class Piece(NamedTuple):
    """`size` bytes of memory at `offset` of the live store, for file offset `at`."""

    offset: int
    size: int
    at: int


@dataclass(frozen=True)
class Outline:
    """A core file: its first bytes, the memory behind them in ascending order, its length."""

    head: bytes
    pieces: tuple[Piece, ...]
    size: int

    @property
    def incomplete_head(self) -> bytes:
        """The head with the bit in e_flags that says that memory is missing."""
        order = elfcore.byte_order(self.head) or "big"
        after = _FLAGS_AT + 4
        flags = int.from_bytes(self.head[_FLAGS_AT:after], order) | elfcore.EFLAGS_INCOMPLETE
        return self.head[:_FLAGS_AT] + flags.to_bytes(4, order) + self.head[after:]

    def behind(self, at: int) -> Iterator[Piece]:
        """The pieces, or parts of them, from file offset `at` on."""
        for piece in self.pieces:
            skip = max(0, at - piece.at)
            if skip < piece.size:
                yield Piece(piece.offset + skip, piece.size - skip, piece.at + skip)

    def unsaved(self, at: int, start: int) -> int | None:
        """The lowest offset of the live store, `start` or above, that is still to be copied.

        at  file offset up to which everything was copied; None if nothing is left above `start`
        """
        left = (
            max(piece.offset, start)
            for piece in self.behind(at)
            if piece.offset + piece.size > start
        )
        return min(left, default=None)

    def to_json(self) -> Mapping[str, Any]:
        """For the journal."""
        head = base64.b85encode(zlib.compress(self.head, 1)).decode()
        return {"head": head, "pieces": self.pieces, "size": self.size}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Outline:
        """Out of the journal."""
        head = zlib.decompress(base64.b85decode(told["head"]))
        return cls(head, tuple(Piece(*piece) for piece in told["pieces"]), told["size"])


class _Recorder:
    """An Output that copies nothing."""

    def __init__(self, live: Store) -> None:
        self._live = live
        self.head = bytearray()
        self.pieces: list[Piece] = []
        self.size = 0

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Keep it: whatever is not memory stands in front of it."""
        if self.pieces:
            raise PluginError("it writes behind the memory", where="writer")
        self.head[len(self.head) :] = bytes(max(0, offset - len(self.head)))
        self.head[offset : offset + len(data)] = data

    def copy(self, store: Store, offset: int, size: int, at: int) -> None:
        """Note what goes where; what follows at once becomes one piece with what was before."""
        if store is not self._live:
            raise PluginError("it copies from elsewhere than the live memory", where="writer")
        last = self.pieces[-1] if self.pieces else Piece(0, 0, len(self.head))
        if at < last.at + last.size:
            raise PluginError("it does not write in order", where="writer")
        if (last.offset + last.size, last.at + last.size) == (offset, at) and self.pieces:
            self.pieces[-1] = last._replace(size=last.size + size)
        elif size:
            self.pieces.append(Piece(offset, size, at))

    def truncate(self, size: int) -> None:
        """Note the length."""
        self.size = size


def outline(write: Callable[[Any], object], live: Store) -> Outline:
    """The outline of what `write` puts into the Output that it is called with."""
    recorder = _Recorder(live)
    write(recorder)
    return Outline(bytes(recorder.head), tuple(recorder.pieces), recorder.size)
