"""makedumpfile at work, and what it leaves out of a dump."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import phypan
from phypan import Hole


def filtered_by(program: str, vmcore: Path, target: Path, *words: str) -> dict[str, int]:
    """Make `target` with makedumpfile; the pages that it counted, by its names for them."""
    done = subprocess.run(
        [program, "--message-level", "31", *words, vmcore, target],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        name.strip(): int(count, 16)
        for name, count in re.findall(r"^ *([^:\n]+?) *: (0x[0-9a-f]+)$", done.stdout, re.M)
    }


OUR_NAMES = {
    "Non-private cache pages": "cache",
    "Private cache pages": "private cache",
    "User process data pages": "user",
    "Free pages": "free",
    "Hwpoison pages": "poisoned",
    "Offline pages": "offline",
}


def kept(dump: phypan.Dump) -> list[tuple[int, int]]:
    """Runs of pages that a dump has, as its bitmap says."""
    return [
        (piece.start, piece.size)
        for piece in dump.memory.pieces(0, dump.memory.end)
        if not isinstance(piece, Hole)
    ]
