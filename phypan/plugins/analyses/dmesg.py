"""The kernel's log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from phypan import Analysis, Dump, Show, hookimpl


@dataclass(frozen=True)
class DmesgRow:
    """One message."""

    seq: int | None  # counted from boot
    time: Annotated[float | None, Show(unit="s")]  # since boot
    level: str | None  # emerg, alert, crit, err, warning, notice, info, debug
    facility: int | None  # 0 kern, 1 user, ...
    caller: str | None  # T and a thread's id, or C and a CPU's number; kernels since 5.1 may say
    text: str


def dmesg(dump: Dump) -> Iterator[DmesgRow]:
    """Show the kernel's log, whatever format it has; what is damaged is carved."""
    from phypan.formats.printk import LEVELS
    from phypan.linux import log

    for record in log.records(dump):
        yield DmesgRow(
            seq=record.seq,
            time=None if record.time is None else record.time // 1000 / 1e6,  # as it is printed
            level=None if record.level is None else LEVELS[record.level],
            facility=record.facility,
            caller=record.caller,
            text=record.text,
        )


def text(rows: Iterable[DmesgRow]) -> Iterator[str]:
    """As dmesg prints it: the time before each line of a message."""
    for row in rows:
        time = "" if row.time is None else f"[{row.time:12.6f}] "
        for line in row.text.split("\n"):
            yield time + line


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The log."""
    return [Analysis(dmesg, DmesgRow, text=text)]
