"""Sealed: a stream whose bytes are sealed on their way to another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phypan.formats import age
from phypan.places.protocols import Bytes, Stream
from phypan.sealing.chunks import CHUNK, SEALED, Seal

_AT_ONCE = 16  # chunks that are handed on together


class Sealed:
    """An age file in `stream`, new, or taken up again behind the first `at` bytes inside of it.

    at  a multiple of CHUNK: `stream` is then positioned behind that many whole chunks
    """

    def __init__(self, stream: Stream, seal: Seal, *, at: int = 0) -> None:
        self.name = stream.name
        self._stream, self._head, self._chunks = stream, len(seal.head), seal.chunks
        self._number = at // CHUNK
        self._plain, self._filled = memoryview(bytearray(CHUNK)), 0  # of the chunk to come
        self._sealed, self._ready = memoryview(bytearray(_AT_ONCE * SEALED)), 0
        self._to_begin: bytes = b"" if at else seal.head

    def append(self, *parts: Bytes) -> None:
        """Seal what makes whole chunks. The last chunk waits, for it is marked as the last."""
        for part in parts:
            view = memoryview(part).cast("B")
            while view:
                if self._filled == CHUNK:
                    self._seal()
                end = min(self._filled + len(view), CHUNK)
                count = end - self._filled
                self._plain[self._filled : end] = view[:count]
                self._filled, view = end, view[count:]

    def _seal(self, *, last: bool = False) -> None:
        end = self._ready + self._filled + age.TAG_SIZE
        into = self._sealed[self._ready : end]
        self._chunks.seal(self._number, self._plain[: self._filled], into, last=last)
        self._number, self._filled, self._ready = self._number + 1, 0, end
        if last or end == len(self._sealed):
            self._stream.append(self._to_begin, self._sealed[:end])
            self._to_begin, self._ready = b"", 0

    def confirm(self) -> int:
        """The position inside below which all is certain: whole chunks."""
        return max(0, self._stream.confirm() - self._head) // SEALED * CHUNK

    def state(self) -> Mapping[str, Any]:
        """That of the stream around it."""
        return self._stream.state()

    def finish(self) -> None:
        """Seal the last chunk, and finish the stream."""
        self._seal(last=True)
        self._stream.finish()

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


def sealed_size(seal: Seal, at: int) -> int:
    """Bytes of the age file up to position `at` inside, a multiple of CHUNK; 0 if that is 0."""
    return len(seal.head) + at // CHUNK * SEALED if at else 0
