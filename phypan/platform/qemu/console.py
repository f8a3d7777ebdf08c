"""The guest's console: what it has printed so far, followed in the file that QEMU writes."""

from __future__ import annotations

import re
from pathlib import Path

_TAIL = 15  # lines in an error
_WIDTH = 200


class Console:
    """The text, with carriage returns taken out; it grows with each look()."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # bytes
        self.text = ""

    def look(self) -> bool:
        """Take what is new; whether there was something."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            return False
        self._read += len(new)
        self.text += new.replace(b"\r", b"").decode("ascii", "replace")
        return bool(new)

    def search(self, pattern: str) -> re.Match[str] | None:
        """The first place that matches, in all of the text."""
        return re.search(pattern, self.text)

    @property
    def last(self) -> str:
        """The last whole line that is not empty, fit to be printed."""
        lines = self.text.rsplit("\n", 3)[:-1]
        return next((_printable(line) for line in reversed(lines) if line.strip()), "")

    def tail(self) -> str:
        """The last lines, fit to be printed."""
        lines = [_printable(line) for line in self.text.splitlines() if line.strip()]
        return "\n".join(f"    {line}" for line in lines[-_TAIL:]) or "    (nothing)"


def _printable(line: str) -> str:
    """A line without what a terminal would take for commands: a guest may print anything."""
    return "".join(c if c.isprintable() else "\ufffd" for c in line[:_WIDTH])
