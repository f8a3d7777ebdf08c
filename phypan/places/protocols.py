"""What a Target, a Stream, and certainty are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Certain:
    """What is certain to be at a place after a call of `confirm`.

    at          file offset below which everything is that was put
    place       what it takes to go on from there, in words of JSON: its "parts" are those that
                are new, all else replaces what was said before
    everything  whether nothing was put that is not certain: then zeros behind it are as well
    """

    at: int
    place: Mapping[str, Any] = field(default_factory=dict)
    everything: bool = False


class Target(Protocol):
    """Takes the bytes of one file, at offsets that mostly ascend; what is not put is zeros."""

    name: str
    rewritable: bool  # whether nothing is left of what was put where something is put again

    def put(self, at: int, data: Bytes) -> None:
        """Put `data` at file offset `at`. Unreachable when it may go if tried again later."""
        ...

    def confirm(self) -> Certain | None:
        """What is certain now; None: all that was put before this call."""
        ...

    def finish(self, size: int) -> None:
        """Say how long the file is, make all of it certain, and give it its name."""
        ...

    def close(self) -> None:
        """Give back what it holds; what is unfinished stays for another attempt."""
        ...


class Stream(Protocol):
    """Takes bytes from front to back."""

    name: str

    def append(self, *parts: Bytes) -> None:
        """Take these bytes, which stay together: nothing is certain of them before all is.

        They belong to the caller again when this returns.
        """
        ...

    def confirm(self) -> int:
        """The position below which all is certain: the end of something appended, or 0."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What it takes to go on at the position that `confirm` told last, as Certain.place."""
        ...

    def finish(self) -> None:
        """Say that this was all, make it certain, and give it its name."""
        ...

    def close(self) -> None:
        """Give back what it holds; what is unfinished stays for another attempt."""
        ...
