"""Pipe: a stream to another program, which tells nothing of what becomes of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from phypan.descriptors import write_on
from phypan.errors import OutputError, os_errors
from phypan.places.protocols import Bytes


class Pipe:
    """The open descriptor of a pipe, or of what stands for one; it is not closed."""

    def __init__(self, descriptor: int, name: str) -> None:
        if os.isatty(descriptor):
            hint = "send it to a file or another program"
            raise OutputError("is a terminal", where=name, hint=hint)
        self.name, self._fd = name, descriptor

    def append(self, *parts: Bytes) -> None:
        """Wait until the other side, or the pipe, has taken it."""
        with os_errors(OutputError, self.name):
            for part in parts:
                write_on(self._fd, part)

    def confirm(self) -> int:
        """Nothing is ever certain."""
        return 0

    def state(self) -> Mapping[str, Any]:
        """Nothing: what went through a pipe is not taken up again."""
        return {}

    def finish(self) -> None:
        """Nothing: the other side sees the end when the process ends."""

    def close(self) -> None:
        """Nothing: it was open before."""
