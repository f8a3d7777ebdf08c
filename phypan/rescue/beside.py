"""Beside: the log of the kernel that crashed, and what happened, as files next to its dump.

They are made when the dump is safe. Whatever goes wrong with them is told, and endangers nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from phypan import api
from phypan.errors import PhypanError, Problem
from phypan.rescue.retention import DMESG, TRIAGE


def write_beside(
    opened: Callable[[], Any], write: Callable[[str, bytes], str]
) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """(what was written beside a dump, why the rest was not).

    opened  opens the dump
    write   writes a file of this name and content; where that is
    """
    written, problems = [], []
    for name, make in ((DMESG, _dmesg), (TRIAGE, _triage)):
        try:
            with opened() as dump:
                data = make(dump)
            written.append(write(name, data))
        except PhypanError as error:
            problems.append(Problem(str(error), name, "it is not written"))
        except (ImportError, ArithmeticError, LookupError, ValueError, OSError) as error:
            # of an analysis: the dump itself is safe, and that is what counts here
            what = f"{type(error).__name__}: {error}"
            problems.append(Problem(what, name, "it is not written"))
    return tuple(written), tuple(problems)


def _dmesg(dump: Any) -> bytes:
    rows = api.run(dump, "dmesg")
    lines = rows.text(rows) if rows.text else map(str, rows)
    return "".join(f"{line}\n" for line in lines).encode(errors="replace")


def _triage(dump: Any) -> bytes:
    import drgn  # noqa: F401 - an analysis of the log alone is in the log

    rows = api.run(dump, "triage")
    return json.dumps([vars(row) for row in rows], indent=1, default=str).encode() + b"\n"
