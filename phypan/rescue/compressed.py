"""Compressed: a dump that is captured in makedumpfile's format, on this machine.

Nothing is given back before the file is whole, checked and under its name: so one that was stopped
is begun anew, and loses nothing. Memory that the second boot lacks meanwhile is the price; whoever
cannot pay it captures an ELF vmcore, which gives back as it goes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phypan import api, manager
from phypan.descriptors import drop_cached
from phypan.errors import OutputError, Problem, os_errors
from phypan.formats.lost import Lost
from phypan.live.system import LiveSystem
from phypan.rescue.journal import Journal, Record
from phypan.sinks import Progress

FORMAT = "kdump"


def wanted(levels: Sequence[int], options: Mapping[str, Any]) -> Record | None:
    """What the journal says of a compressed dump; None if an ELF vmcore is wanted."""
    if "compress" not in options:
        return None
    from phypan.conversion import run

    run.check_options(manager.named(api.writers(), FORMAT, "format"), options)
    return {"levels": list(levels), "options": dict(options)}


def write(
    journal: Journal, system: LiveSystem, verify: bool, progress: Progress
) -> tuple[int, list[Lost], list[Problem]]:
    """Make the file that the journal is of: its bytes, what is lost of it, what is odd.

    What is lost has physical addresses here.
    """
    from phypan.conversion import run

    told = journal.records[0]
    begun = any("converting" in record for record in journal.records)
    if not begun:
        journal.append({"converting": True})
    path = Path(told["target"])
    with api.open(system.root, source="live") as dump:
        known = list(dump.problems)
        run.run(
            dump,
            manager.named(api.writers(), FORMAT, "format"),
            path,
            force=told["force"] or begun,
            levels=told["convert"]["levels"],
            flattened=False,
            split=1,
            seal_for=(),
            progress=progress,
            options=told["convert"]["options"],
        )
        problems = [problem for problem in dump.problems if problem not in known]
    return path.stat().st_size, _checked(path, verify), problems


def _checked(path: Path, verify: bool) -> list[Lost]:
    """What is missing of a file that was just written; OutputError if it is not what was written.

    Every page has a checksum. With `verify` they are compared with what the disk gives.
    """
    from phypan.conversion import checking  # slow to import

    with api.open(path) as dump:
        lost = [
            Lost(hole.start, hole.size, hole.why)
            for hole in dump.memory.holes()
            if hole.state.value == "damaged"
        ]
        if verify:
            with os_errors(OutputError, path):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    drop_cached(descriptor)
                finally:
                    os.close(descriptor)
            for damage in checking.damaged(dump):
                raise OutputError(
                    f"the page at physical address {damage.start:#x}, read back, is not what was "
                    f"written: {damage.why}",
                    where=str(path),
                    hint="the disk fails: save to another one; nothing was given back",
                )
    return lost
