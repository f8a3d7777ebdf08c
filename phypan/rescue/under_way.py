"""Under way: which capture has begun in this boot, so that a second one does not start."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from phypan.descriptors import write_file
from phypan.errors import OutputError
from phypan.live.system import LiveSystem
from phypan.rescue.journal import Journal

RUN = "/run/phypan"  # PHYPAN_RUN for another folder


def marker(root: str | os.PathLike[str] = "/") -> Path:
    """The file that names the journal of the capture that is under way in the system at `root`."""
    folder = Path(os.environ.get("PHYPAN_RUN", RUN))
    digest = hashlib.sha256(str(Path(root).resolve()).encode()).hexdigest()[:12]
    return folder / f"capture-{digest}.json"


def unfinished_capture(root: str | os.PathLike[str] = "/") -> Path | None:
    """The journal of a capture that was begun in this boot and is not complete."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = Path(json.loads(marker(root).read_text())["journal"])
        return told if told.exists() else None
    return None


def check(system: LiveSystem) -> None:
    """OutputError if another capture has begun to give memory back in this boot."""
    path = unfinished_capture(system.root)
    if path is None:
        return
    with Journal(path) as journal:
        given = any("releasing" in record for record in journal.records)
    if given:
        raise OutputError(
            "another capture has begun to give memory back",
            where=str(path),
            hint="only that one can be gone on with: --resume, with its target",
        )


def note(system: LiveSystem, journal: Path) -> None:
    """Say that the capture of this journal has begun."""
    path = marker(system.root)
    with suppress(OSError, OutputError):  # it only helps to find the journal
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        write_file(path, json.dumps({"journal": str(journal.absolute())}).encode())


def forget(system: LiveSystem) -> None:
    """Say that none is under way."""
    with suppress(OSError):
        marker(system.root).unlink()
