"""Which process had most memory when there was none left.

The kernel prints a list of all processes before it kills one or panics (dump_tasks in
mm/oom_kill.c); its columns have changed, its heading has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan.linux.walk import faults

if TYPE_CHECKING:
    from phypan.dump import Dump
    from phypan.formats.printk import Record

_HEADING = re.compile(r"\[ *pid *\] +uid +tgid .*\bname$")
_LINE = re.compile(r"\[ *(\d+)\] +(\d.*)")


@dataclass(frozen=True)
class Process:
    """A process.

    resident  pages
    """

    comm: str
    pid: int
    resident: int


def of_log(records: Iterable[Record]) -> Process | None:
    """The largest one of the last list that was printed; None if none was."""
    columns: list[str] = []
    largest: Process | None = None
    for record in records:
        text = record.text.strip()
        if _HEADING.fullmatch(text):
            columns, largest = text.partition("]")[2].split(), None
            continue
        match = _LINE.fullmatch(text) if columns else None
        found = _process(columns, match) if match else None
        if found and (largest is None or found.resident > largest.resident):
            largest = found
    return largest


def _process(columns: list[str], line: re.Match[str]) -> Process | None:
    """The process of a line; its name is the last column, and may have spaces."""
    values = line[2].split(maxsplit=len(columns) - 1)
    if len(values) != len(columns) or "rss" not in columns:
        return None
    resident = values[columns.index("rss")]
    return Process(values[-1], int(line[1]), int(resident)) if resident.isdigit() else None


def of_tasks(dump: Dump) -> Process | None:
    """The largest one by the counters of its memory; None if no process has any."""
    return max(_resident(dump), key=lambda process: process.resident, default=None)


def _resident(dump: Dump) -> Iterator[Process]:
    from drgn.helpers.linux.mm import task_rss

    from phypan.linux import tasks

    for task in tasks.each(dump):
        try:
            if task.pid == task.group and task.task.mm:
                yield Process(task.comm, task.pid, int(task_rss(task.task).total))
        except faults():
            continue
