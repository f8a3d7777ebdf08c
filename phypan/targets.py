"""Targets: a file that is made from its start to its end, at a place or in a flow.

Whoever fills one puts bytes at ascending offsets and leaves out what is zeros. A target says up to
which offset the file is certain to be there; from that offset on it can be filled again by
somebody who knows nothing but its state.
"""

from __future__ import annotations

from typing import Protocol

from phypan.errors import OutputError
from phypan.places import Bytes, Flow, Place, State

_ZEROS = bytes(1 << 20)


class Target(Protocol):
    """A file in the making.

    patches   whether bytes can still be changed that were put before
    confirms  whether some of it can be certain before it is finished
    """

    name: str
    patches: bool
    confirms: bool

    def put(self, at: int, data: Bytes) -> None:
        """Put `data` at file offset `at`, behind all that was put before."""
        ...

    def confirm(self, put: int) -> tuple[int, State]:
        """(file offset below which everything is certain to be there, what it takes to go on).

        put  file offset up to which everything was put, or is zeros
        """
        ...

    def finish(self, size: int) -> None:
        """Make it certain, `size` bytes long, and give it its name."""
        ...

    def close(self) -> None:
        """Leave it as it is."""
        ...


class Direct:
    """A file at a place that takes bytes at any offset."""

    patches = confirms = True

    def __init__(self, place: Place) -> None:
        self._place, self.name = place, place.name

    def put(self, at: int, data: Bytes) -> None:
        """Put it there."""
        self._place.put(at, data)

    def confirm(self, put: int) -> tuple[int, State]:
        """All that was put; a file is its own state."""
        self._place.confirm()
        return put, {}

    def finish(self, size: int) -> None:
        """Finish it there."""
        self._place.finish(size)

    def close(self) -> None:
        """Leave it."""
        self._place.close()


class Envelope(Protocol):
    """What a flow is wrapped in: plain bytes in order in, other bytes in order out."""

    def wrap(self, data: Bytes) -> bytes | bytearray | memoryview:
        """What is to be sent for `data`; some may be kept back."""
        ...

    def last(self) -> bytes:
        """What is to be sent at the end."""
        ...

    def plain(self, sent: int) -> int:
        """The offset of plain bytes from which on they are needed to go on behind `sent`."""
        ...

    def position(self, plain: int) -> int:
        """How much is sent for the plain bytes before offset `plain`, at which wrapping begins."""
        ...


class Streamed:
    """A file in a flow, in an envelope or as it is.

    sent   bytes that are certain already, of what is sent
    """

    patches = False

    def __init__(self, flow: Flow, envelope: Envelope | None = None, sent: int = 0) -> None:
        self._flow, self._envelope, self.name = flow, envelope, flow.name
        self.confirms = flow.confirms
        self._at = self._plain(sent)  # file offset of what comes next
        begin = envelope.position(self._at) if envelope else sent
        self._drop = sent - begin  # bytes that are made again and are there already

    def _plain(self, sent: int) -> int:
        return self._envelope.plain(sent) if self._envelope else sent

    def put(self, at: int, data: Bytes) -> None:
        """Send it, and the zeros before it."""
        if at < self._at:
            raise OutputError("bytes that were sent before", where=self.name)
        self._zeros_to(at)
        self._send(data)

    def _zeros_to(self, at: int) -> None:
        while self._at < at:
            self._send(memoryview(_ZEROS)[: at - self._at])

    def _send(self, data: Bytes) -> None:
        self._at += len(data)
        self._flow_on(self._envelope.wrap(data) if self._envelope else data)

    def _flow_on(self, data: Bytes) -> None:
        skipped = min(self._drop, len(data))
        self._drop -= skipped
        if skipped < len(data):
            self._flow.send(memoryview(data)[skipped:])

    def confirm(self, put: int) -> tuple[int, State]:
        """As far as the place has confirmed what was sent."""
        sent, flow = self._flow.confirm()
        return self._plain(sent), {"sent": sent, "flow": flow}

    def finish(self, size: int) -> None:
        """Send the rest, and have it confirmed."""
        self._zeros_to(size)
        if self._envelope:
            self._flow_on(self._envelope.last())
        self._flow.finish()

    def close(self) -> None:
        """Leave it."""
        self._flow.close()
