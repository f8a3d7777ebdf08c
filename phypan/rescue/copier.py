"""Copier: fills a target from the live memory, piece by piece, and has it given back behind itself.

Reading and writing go on while what was written is made certain: at most one such commit is under
way, in a thread of its own, and what it says is certain is in the journal before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from phypan.errors import InputError
from phypan.formats import lost
from phypan.formats.lost import Lost
from phypan.live.store import LiveStore
from phypan.places.protocols import Target
from phypan.rescue.giving import Giver
from phypan.rescue.outline import Outline, Piece
from phypan.sinks import Progress

CHUNK = 1 << 20  # bytes read at a time
WINDOW = 64 << 20  # bytes after which a commit begins
_BLOCK = 1 << 16  # bytes: the smallest stretch of zeros that is not put
_ZEROS = bytes(_BLOCK)
_UNIT = 4096  # bytes: what is lost at the least where memory cannot be read
_ELF_HEADER = 64  # bytes
GONE = "the dump was gone before it was saved"


class Copier:
    """One run of a capture over an outline.

    at    file offset up to which everything was put, or is zeros
    lost  what could not be read; what of it is behind `at` is lost, even if it can be read by now
    """

    def __init__(
        self,
        outline: Outline,
        memory: LiveStore | None,
        target: Target,
        giver: Giver,
        *,
        at: int = 0,
        lost: list[Lost],
        window: int = WINDOW,
    ) -> None:
        self._outline, self._memory, self._target, self._giver = outline, memory, target, giver
        self.at, self.lost = at, lost
        self._resumed = at > 0
        self._given_up = [entry for entry in lost if entry.at + entry.size > at]
        self._window = window
        self._told = len(lost)  # of these, how many are in the journal
        self._committed = at  # file offset at which the last commit began
        self._buffer = bytearray(CHUNK)
        self._commits = ThreadPoolExecutor(1)
        self._commit: Future[None] | None = None

    def fill(self, progress: Progress) -> int:
        """Put everything that is still to be put; the length of the file, to be finished with.

        Without memory to read from, the file ends where it is.
        """
        try:
            head = self._outline.head[self.at :]
            if head:
                self._target.put(self.at, head)
                self.at += len(head)
            for piece in self._steps() if self._memory is not None else ():
                self._copy(piece)
                self.at = piece.at + piece.size
                progress(self.at, self._outline.size)
                self._keep_up()
            return self._end()
        finally:
            self._commits.shutdown(cancel_futures=True)

    def _steps(self) -> Iterator[Piece]:
        """What is still to be copied, a chunk at a time; of files with holes only the rest."""
        assert self._memory is not None
        for offset, size, at in self._outline.behind(self.at):
            for start, length in self._memory.data(offset, size):
                position, end = start, start + length
                while position < end:  # each chunk ends where it always does, wherever this began
                    count = min(CHUNK - position % CHUNK, end - position)
                    yield Piece(position, count, at + position - offset)
                    position += count

    def _copy(self, piece: Piece) -> None:
        assert self._memory is not None
        buffer = memoryview(self._buffer)[: piece.size]
        try:
            self._memory.readinto(piece.offset, buffer)
        except InputError:
            self._copy_bit_by_bit(piece, buffer)
        for entry in self._given_up:
            first, last = max(entry.at, piece.at), min(entry.at + entry.size, piece.at + piece.size)
            if first < last:
                _fill(buffer[first - piece.at : last - piece.at])
        self._put(piece.at, piece.size)

    def _copy_bit_by_bit(self, piece: Piece, buffer: memoryview) -> None:
        """Read what can be read of a piece; the rest is filled with words that say so."""
        assert self._memory is not None
        missing = []
        for at in range(0, piece.size, _UNIT):
            part = buffer[at : at + _UNIT]
            try:
                self._memory.readinto(piece.offset + at, part)
            except InputError as error:
                _fill(part)
                why = f"it could not be read: {error.what}"
                if not self._is_given_up(piece.at + at):
                    missing.append(Lost(piece.at + at, len(part), why))
        self.lost += lost.merged(missing)

    def _is_given_up(self, at: int) -> bool:
        return any(entry.at <= at < entry.at + entry.size for entry in self._given_up)

    def _put(self, at: int, size: int) -> None:
        """Put the first `size` bytes of the buffer, but for blocks of zeros."""
        buffer, first = self._buffer, None
        for block in range(0, size, _BLOCK):
            count = min(_BLOCK, size - block)
            # startswith compares in place, with memcmp: nothing is copied
            if buffer.startswith(_ZEROS if count == _BLOCK else _ZEROS[:count], block):
                if first is not None:
                    self._target.put(at + first, memoryview(buffer)[first:block])
                    first = None
            elif first is None:
                first = block
        if first is not None:
            self._target.put(at + first, memoryview(buffer)[first:size])

    # -- commits --------------------------------------------------------------------------------

    def _keep_up(self) -> None:
        """Begin a commit when it is time; wait for the last one only when that is far behind."""
        behind = self.at - self._committed
        if behind < self._window:
            return
        if self._commit is not None and (self._commit.done() or behind >= 4 * self._window):
            self._wait()
        if self._commit is None:
            self._begin()

    def _begin(self) -> None:
        self._committed = self.at
        self._commit = self._commits.submit(self._make_certain, self.at, self.untold())

    def _wait(self) -> None:
        if self._commit is not None:
            commit, self._commit = self._commit, None
            commit.result()

    def _make_certain(self, at: int, new: list[Lost]) -> None:
        certain = self._target.confirm()
        told: dict[str, Any] = {}
        if certain is not None:
            at = max(at, certain.at) if certain.everything else certain.at
            new = [*new, *self.untold()]  # of what was put since, too
            told["place"] = certain.place
        self._giver.safe(self._outline, at, {"safe": at, "lost": new, **told})

    def untold(self) -> list[Lost]:
        """What was lost and is not in the journal yet; now the caller is to put it there."""
        new, self._told = self.lost[self._told :], len(self.lost)
        return new

    # -- the end --------------------------------------------------------------------------------

    def _end(self) -> int:
        """Put what is behind the memory; the length of the file."""
        self._wait()
        # A stream may hold the beginning of what comes next, so that its end tells nothing.
        ends_here = self._memory is None and not self.lost and self._target.rewritable
        size = self.at if ends_here else self._outline.size
        if self._memory is None and self.at < self._outline.size:
            self.lost.append(Lost(self.at, self._outline.size - self.at, GONE))
        if size == self._outline.size and self.lost:
            trailer = lost.write(lost.merged(sorted(self.lost)))
            self._target.put(size, trailer)
            size += len(trailer)
        if self.lost or size < self._outline.size:
            self._put_head(self._outline.incomplete_head)
        elif self._resumed and self._target.rewritable:
            # An earlier run may have come to the end with something lost.
            self._put_head(self._outline.head)
        return size

    def _put_head(self, head: bytes) -> None:
        self._target.confirm()  # as it was, before it is changed
        self._target.put(0, head[:_ELF_HEADER])


def _fill(part: memoryview) -> None:
    part[:] = (lost.FILL * -(-len(part) // len(lost.FILL)))[: len(part)]
