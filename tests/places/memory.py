"""A stream whose place is this process's memory."""

from __future__ import annotations


class InMemory:
    """Keeps what it is given. `certain` is what it says of that: everything, if None."""

    name = "memory"

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.certain: int | None = None
        self.finished = False

    def append(self, *parts) -> None:
        for part in parts:
            self.data += part

    def confirm(self) -> int:
        return len(self.data) if self.certain is None else self.certain

    def state(self):
        return {}

    def finish(self) -> None:
        self.finished = True

    def close(self) -> None:
        pass
