"""What a guest said of itself, and what its kernel printed, before it crashed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LINE = re.compile(r"\[ *\d+\.\d{6}\] .*")


@dataclass(frozen=True)
class Truth:
    """The console of a dump, read."""

    console: str

    @cached_property
    def first_boot(self) -> str:
        """Up to where the firmware starts again."""
        begins = re.compile(r"\n(?:SLOF|\[    0\.000000\] )")  # other firmware prints nothing
        second = begins.search(self.console, self.console.index("about to crash"))
        return self.console[: second.start() if second else None]

    @cached_property
    def log(self) -> list[str]:
        """The kernel's messages, each once: two consoles may have printed one."""
        found: list[str] = []
        for line in self.first_boot.replace("\r", "").split("\n"):
            match = LINE.search(line)
            if match and (not found or found[-1] != match[0].rstrip()):
                found.append(match[0].rstrip())
        return found

    @cached_property
    def block(self) -> str:
        """What the guest printed between the two marks."""
        match = re.search(r"PHYPAN-TRUTH-BEGIN\r?\n(.*?)PHYPAN-TRUTH-END", self.console, re.DOTALL)
        assert match
        return match[1].replace("\r", "")

    def section(self, name: str) -> list[str]:
        """The lines under "== NAME" without the kernel's own; none if the guest printed none."""
        match = re.search(rf"^== {name}\n(.*?)(?=^== |\Z)", self.block, re.DOTALL | re.MULTILINE)
        lines = match[1].splitlines() if match else []
        return [line for line in lines if not LINE.match(line)]

    @cached_property
    def processes(self) -> list[tuple[int, str, str, int]]:
        """(pid, name, state's letter, pid of the parent); the last two "" and -1 if unknown."""
        stats = [
            re.fullmatch(r"(\d+) \((.*)\) (\S) (\d+) .*", s) for s in self.section("processes")
        ]
        if stats:
            return [(int(m[1]), m[2], m[3], int(m[4])) for m in stats if m]
        listed = self.console[: self.console.index("PHYPAN-TRUTH-BEGIN")]
        # busybox: [name] is a kernel thread, {name} a script, else the program of the command
        lines = re.findall(
            r"^ *(\d+) 0 +(?:\d+:\d+ +)?(?:\[(.*)\]|\{(\S+)\} .*|(\S+).*)$", listed, re.MULTILINE
        )
        return [(int(pid), a or b or c, "", -1) for pid, a, b, c in lines]


def read(path: Path) -> Truth:
    """The truth of the dump in a directory."""
    return Truth((path / "console.log").read_text(errors="replace"))
