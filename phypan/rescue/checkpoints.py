"""Checkpoints: the Output of a capture, which notes how far a writer came and gives memory back.

Writing goes on while what was written is made certain: at most one such commit is under way, in a
thread of its own, and what it says is certain is in the journal before it is used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Self

from phypan.formats.lost import Lost
from phypan.places.protocols import Bytes
from phypan.rescue.journal import Record
from phypan.rescue.sending import Mark, Sending
from phypan.sinks import Sparse

_FAR = 4  # windows that may be written before the last commit is waited for


class _Checkpoint(NamedTuple):
    mark: Mark
    below: int
    state: Mapping[str, Any]
    lost: list[Lost]  # since the one before


class Checkpointed(Sparse):
    """An Output that `sending` takes to its place.

    safe    called in a thread with (physical address, record): all memory below it is safe, once
            the record is durable in the journal
    below   physical address below which all is safe already
    window  bytes of the file, or of memory, after which what was written is made certain
    kept    whether checkpoints count: else only what a stream has of the file is noted
    """

    def __init__(
        self,
        sending: Sending,
        safe: Callable[[int, Record], None],
        *,
        below: int,
        window: int,
        kept: bool,
    ) -> None:
        super().__init__()
        self._sending, self._safe, self._below, self._window = sending, safe, below, window
        self._kept = kept
        self._size = 0
        self._reached, self._committed = below, (below, sending.written)
        self._waiting: deque[_Checkpoint] = deque()
        self._lost: list[Lost] = []
        self._commits = ThreadPoolExecutor(1)
        self._commit: Future[None] | None = None

    def write_at(self, offset: int, data: Bytes) -> None:
        """Write all of `data`."""
        if self._sending.overlaps(offset, memoryview(data).nbytes):
            self._wait()
            self._sending.confirm()  # as it was, before it is changed
        self._sending.write_at(offset, data)
        self._keep_up()

    def truncate(self, size: int) -> None:
        """Say how long the file is."""
        self._size = size

    def checkpoint(self, below: int, state: Mapping[str, Any], lost: Sequence[Lost] = ()) -> None:
        """All was written that the file has of memory below physical address `below`."""
        self._lost += lost
        if self._kept:
            new = _Checkpoint(self._sending.mark(), below, dict(state), list(lost))
            self._waiting.append(new)
            self._reached = below
            self._keep_up()

    def end(self) -> tuple[int, list[Lost]]:
        """Wait for what is under way: (bytes of the file, what this process could not read)."""
        self._wait()
        return self._size, self._lost

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._commits.shutdown(cancel_futures=True)

    # -- commits --------------------------------------------------------------------------------

    def _keep_up(self) -> None:
        """Begin a commit when it is time; wait for the last one only when that is far behind."""
        memory = self._reached - self._committed[0]
        file = self._sending.written - self._committed[1]
        if max(memory, file) < self._window:
            return
        if self._commit is not None and (self._commit.done() or file >= _FAR * self._window):
            self._wait()
        if self._commit is None:
            self._committed = self._reached, self._sending.written
            self._commit = self._commits.submit(self._make_certain)

    def _wait(self) -> None:
        if self._commit is not None:
            commit, self._commit = self._commit, None
            commit.result()

    def _make_certain(self) -> None:
        number = self._sending.confirm()
        last, lost = None, []
        while self._waiting and self._waiting[0].mark.number <= number:
            last = self._waiting.popleft()
            lost += last.lost
        place = self._sending.place(last and last.mark)
        if place is None:
            return
        told: dict[str, Any] = {"place": place}
        if last is not None:
            self._below = last.below
            told |= {"safe": last.below, "state": last.state, "lost": lost}
        self._safe(self._below, told)
