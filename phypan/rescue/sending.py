"""Sending: what a writer writes, on its way to a place, and how far it is certain to be there.

A Mark is a moment of writing: what was written before it is certain or not, all of it. A place with
offsets gets the file as it is. One without gets its flattened form; what is written again after a
stop is the same bytes, so that those which are there already are compared, by a checksum, and not
sent again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from phypan.errors import OutputError
from phypan.formats import flattened
from phypan.pages.zlib_codec import crc32
from phypan.places.protocols import Bytes, Stream, Target
from phypan.ranges import Ranges

_STEP = 1 << 16  # bytes of a stream after which its checksum is kept
_BEGIN = 64  # bytes of a file by which it is known again


class Differs(OutputError):
    """What was written after a stop is not what is there already."""


@dataclass(frozen=True)
class Mark:
    """A moment of writing.

    number  of a file: how often something was put; of a stream: its position
    end     the first file offset behind all that was put
    crc     of a stream: CRC-32 of it up to there
    """

    number: int
    end: int
    crc: int = 0


class Sending(Protocol):
    """Takes the bytes of a file at offsets.

    again    whether what is behind the mark in the journal may be there too, and be different
    written  bytes so far
    """

    again: bool
    written: int

    def write_at(self, offset: int, data: Bytes) -> None:
        """Put them there."""
        ...

    def overlaps(self, offset: int, size: int) -> bool:
        """Whether all must be certain before anything is put there once more."""
        ...

    def mark(self) -> Mark:
        """This moment."""
        ...

    def confirm(self) -> int:
        """The number up to which marks are certain now."""
        ...

    def place(self, mark: Mark | None) -> Mapping[str, Any] | None:
        """What it takes to go on behind `mark`, the last that is certain; None: nothing does."""
        ...

    def finish(self, size: int) -> None:
        """End the file, make it certain, and give it its name."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class ToTarget:
    """A file in `target`, new, or taken up again behind the mark that `place` tells of."""

    def __init__(self, target: Target, place: Mapping[str, Any]) -> None:
        self._target = target
        self._end: int = place.get("end", 0)
        self._begin: str = place.get("begin", "")
        self._puts, self._where = 0, Ranges()
        self.again, self.written = bool(place), 0

    def write_at(self, offset: int, data: Bytes) -> None:
        """Put them there."""
        view = memoryview(data).cast("B")
        size = len(view)
        if offset == 0 and not self._begin:
            self._begin = view[:_BEGIN].hex()
        self._target.put(offset, view)
        self._where.add(offset, offset + size)
        self._puts, self.written = self._puts + 1, self.written + size
        self._end = max(self._end, offset + size)

    def overlaps(self, offset: int, size: int) -> bool:
        """Whether something was put there: it is read back before it is something else."""
        return any(True for _ in self._where.within(offset, offset + size))

    def mark(self) -> Mark:
        """This moment."""
        return Mark(self._puts, self._end)

    def confirm(self) -> int:
        """All that was put before this call is certain."""
        puts = self._puts
        self._target.confirm()
        return puts

    def place(self, mark: Mark | None) -> Mapping[str, Any] | None:
        """Where the file ended, and what it begins with."""
        return None if mark is None else {"end": mark.end, "begin": self._begin}

    def finish(self, size: int) -> None:
        """Give it its length and its name."""
        self._target.finish(size)

    def close(self) -> None:
        """Close the target."""
        self._target.close()


class _Record(NamedTuple):
    """A record of the stream: for which file offset, how many bytes, where in the stream."""

    at: int
    size: int
    position: int

    @property
    def end(self) -> int:
        return self.position + flattened.RECORD.size + self.size


class ToStream:
    """The flattened form of a file in `stream`, new, or taken up again.

    kept   whether it may be gone on with: else nothing is kept for that
    place  what `place` told last: the stream stands at `sent`, and is made again from `mark` on.
           When what is made up to `sent` differs from what is there (memory cannot be read any
           more, a codec's library is another one), write_at raises Differs, and after `put_again`
           all is written from the mark on once more: of two records for the same place the later
           counts
    """

    def __init__(self, stream: Stream, place: Mapping[str, Any], *, kept: bool) -> None:
        self._stream, self._lock, self._crc32 = stream, threading.Lock(), crc32()
        self._kept = kept
        self._sent: int = place.get("sent", 0)  # when this began
        self._mark = Mark(place.get("mark", 0), place.get("end", 0), place.get("crc", [0, 0])[0])
        self._expected: int | None = place.get("crc", [0, 0])[1]
        self._begun = _Record(*place["record"]) if place.get("record") else None
        self.again: bool = place.get("again", False)
        self.written = 0
        self._certain = self._sent
        self._position, self._crc, self._end = self._mark.number, self._mark.crc, self._mark.end
        self._records: deque[_Record] = deque()
        self._sums: deque[tuple[int, int]] = deque([(self._position, self._crc)])
        if self._position == 0:
            self._append(flattened.write_header())

    def write_at(self, offset: int, data: Bytes) -> None:
        """Another record."""
        view = memoryview(data).cast("B")
        if not view:
            return
        with self._lock:
            if self._kept:
                self._records.append(_Record(offset, len(view), self._position))
            self._end = max(self._end, offset + len(view))
            self._append(flattened.write_record(offset, len(view)), view)

    def _append(self, *parts: Bytes) -> None:
        rest = [view for part in parts if (view := self._counted(memoryview(part)))]
        self._keep_sum()
        if rest:
            self._stream.append(*rest)

    def _counted(self, view: memoryview) -> memoryview:
        """What of `view`, which comes next, is still to be sent."""
        begin, at = self._position, 0
        self.written += len(view)
        if not self._kept:
            self._position += len(view)
            return view
        while at < len(view):
            step = min(_STEP - self._position % _STEP, len(view) - at)
            if self._position < self._sent:
                step = min(step, self._sent - self._position)
            self._crc = self._crc32(view[at : at + step], self._crc)
            at, self._position = at + step, self._position + step
            if self._position % _STEP == 0:
                self._keep_sum()
            if self._position == self._sent and self._crc != self._expected:
                raise Differs("what is there is not what is written now", where=self._stream.name)
        return view[max(0, self._sent - begin) :]

    def _keep_sum(self) -> None:
        if self._kept:
            self._sums.append((self._position, self._crc))

    def put_again(self) -> None:
        """Forget what was written since the mark: it is written once more, and all of it sent."""
        record, self._begun = self._begun, None
        self._records.clear()
        self._position, self._crc = self._sent, self._expected or 0
        self._end, self.again = self._mark.end, True
        self._sums = deque([(self._position, self._crc)])
        if record is not None:  # nobody can take back what was begun
            whole = flattened.write_record(record.at, record.size) + bytes(record.size)
            self._append(whole[self._sent - record.position :])

    def overlaps(self, offset: int, size: int) -> bool:
        """Never: the later record counts."""
        return False

    def mark(self) -> Mark:
        """This moment."""
        return Mark(self._position, self._end, self._crc)

    def confirm(self) -> int:
        """The position up to which the stream is certain; what is compared has no say yet."""
        sent = self._stream.confirm()
        with self._lock:
            if self._position < self._sent:
                return -1
            while len(self._sums) > 1 and self._sums[1][0] <= sent:
                self._sums.popleft()
            while self._records and self._records[0].end <= sent:
                self._records.popleft()
            self._certain = sent
        return sent

    def place(self, mark: Mark | None) -> Mapping[str, Any] | None:
        """What the stream tells, where it stands, and of what that is the end."""
        mark = self._mark if mark is None else mark
        self._mark = mark
        with self._lock:
            if self._position < self._sent:
                return None
            sent = self._certain
            at, crc = self._sums[0]
            begun = self._records[0] if self._records else None
            return {
                **self._stream.state(),
                "sent": sent,
                "mark": mark.number,
                "end": mark.end,
                "crc": [mark.crc, crc if at == sent else None],
                "record": begun if begun is not None and begun.position < sent else None,
                "again": self.again,
            }

    def finish(self, size: int) -> None:
        """Say how long the file is, by a byte at its end if need be, and end the stream."""
        if size > self._end:
            self.write_at(size - 1, b"\0")
        with self._lock:
            self._append(flattened.END)
        if self._position < self._sent:
            raise Differs("more is there than is written now", where=self._stream.name)
        self._stream.finish()

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()
