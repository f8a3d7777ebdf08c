"""Flat: a Target out of a Stream, by makedumpfile's flattened format."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from phypan.formats import flattened
from phypan.places.protocols import Bytes, Certain, Stream, Target

_HEAD = flattened.RECORD.size


class _Record(NamedTuple):
    """A record of the stream: for which file offset, how many bytes, where in the stream."""

    at: int
    size: int
    position: int

    @property
    def end(self) -> int:
        return self.position + _HEAD + self.size


class Flat:
    """The flattened form of a file, in `stream`, new, or taken up again.

    place  what `confirm` told last, when it is taken up again: the stream stands at `sent`, which
           may be inside of `record`, the first that was not certain. The same record is put again
           first, and only the rest of it goes to the stream. If another one is put, because
           memory cannot be read any more, zeros fill what is left: of the same file offset the
           later record counts
    """

    rewritable = False  # of an earlier put a part may be there still

    def __init__(self, stream: Stream, place: Mapping[str, Any]) -> None:
        self.name = stream.name
        self._stream, self._lock = stream, threading.Lock()
        self._unconfirmed: deque[_Record] = deque()
        self._next = 0  # file offset behind the last record
        self._end: int = 0  # of the file inside, as far as records tell
        self._position: int = place.get("sent", 0)
        self._begun: _Record | None = None
        if self._position == 0:
            self._append(flattened.write_header())
        else:
            self._end = place["end"]
            self._begun = _Record(*place["record"]) if place["record"] else None

    def _append(self, *parts: Bytes) -> None:
        self._stream.append(*parts)
        self._position += sum(memoryview(part).nbytes for part in parts)

    def put(self, at: int, data: Bytes) -> None:
        """Another record."""
        size = memoryview(data).nbytes
        head = flattened.write_record(at, size)
        with self._lock:
            if self._begun is not None and self._end_begun(at, size, head, data):
                return
            self._unconfirmed.append(_Record(at, size, self._position))
            self._append(head, data)
            self._next = at + size
            self._end = max(self._end, self._next)

    def _end_begun(self, at: int, size: int, head: Bytes, data: Bytes) -> bool:
        """Complete the record that the stream was left in; whether that was this one."""
        assert self._begun is not None
        record, self._begun = self._begun, None
        same = (at, size) == (record.at, record.size)
        whole = bytes(flattened.write_record(record.at, record.size)) if not same else bytes(head)
        whole += bytes(data) if same else bytes(record.size)
        self._unconfirmed.append(record)
        self._append(whole[self._position - record.position :])
        self._next = record.at + record.size
        self._end = max(self._end, self._next)
        return same

    def confirm(self) -> Certain:
        """What is certain: up to the first record that the stream is not certain of."""
        sent = self._stream.confirm()
        place = {**self._stream.state(), "sent": sent, "record": None}
        with self._lock:
            while self._unconfirmed and self._unconfirmed[0].end <= sent:
                self._unconfirmed.popleft()
            place["end"] = self._end
            if not self._unconfirmed:
                return Certain(self._next, place, everything=True)
            left = self._unconfirmed[0]
        if sent > left.position:  # a part of it is certain
            place["record"] = left
        return Certain(left.at, place)

    def finish(self, size: int) -> None:
        """Say how long the file is, by a byte at its end if need be, and end the stream."""
        if size > self._end:
            self.put(size - 1, b"\0")
        with self._lock:
            if self._begun is not None:
                self._end_begun(-1, 0, b"", b"")
            self._append(flattened.END)
        self._stream.finish()

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


class Appended:
    """A Stream out of a Target: from front to back, behind the first `at` bytes."""

    def __init__(self, target: Target, at: int = 0) -> None:
        self.name = target.name
        self._target, self._position = target, at

    def append(self, *parts: Bytes) -> None:
        """Put them where the last ones ended."""
        at = self._position
        for part in parts:
            self._target.put(at, part)
            at += memoryview(part).nbytes
        self._position = at

    def confirm(self) -> int:
        """All that was appended before this call is certain."""
        position = self._position
        self._target.confirm()
        return position

    def state(self) -> Mapping[str, Any]:
        """Nothing: the position says it all."""
        return {}

    def finish(self) -> None:
        """Make it as long as what was appended, certain, and named."""
        self._target.finish(self._position)

    def close(self) -> None:
        """Close the target."""
        self._target.close()
