"""Places: where a capture puts its bytes, and when they are safe there.

A place takes bytes at their offsets (a file on this machine, on another one by SFTP), or only one
behind the other (a pipe, an object store): a flow. Both can be left and taken up again, by another
process too, and say what of the bytes they were given is certain to be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from phypan.errors import OutputError

Bytes = bytes | bytearray | memoryview
State = Mapping[str, Any]  # for the journal, as JSON


class PlaceError(OutputError):
    """A place that failed in a way that may pass: a connection that was cut, a server that is busy.

    What was not confirmed before it must be put again.
    """


class Place(Protocol):
    """Bytes at offsets; what was not put is zeros."""

    name: str  # for messages: a path or an address

    def put(self, at: int, data: Bytes) -> None:
        """Put `data` at offset `at`."""
        ...

    def confirm(self) -> None:
        """Make all that was put before the call certain to be there, whatever happens to us."""
        ...

    def finish(self, size: int) -> None:
        """Make it certain, `size` bytes long, and give it its name. May be called again."""
        ...

    def close(self) -> None:
        """Leave it as it is."""
        ...


class Flow(Protocol):
    """Bytes one behind the other.

    confirms  whether some can be certain before the last one was sent
    """

    name: str
    confirms: bool

    def send(self, data: Bytes) -> None:
        """Put `data` behind what was sent before."""
        ...

    def confirm(self) -> tuple[int, State]:
        """(how many bytes from the first on are certain to be there, how to go on from there)."""
        ...

    def finish(self) -> None:
        """Make it certain and give it its name. May be called again."""
        ...

    def close(self) -> None:
        """Leave it as it is."""
        ...
