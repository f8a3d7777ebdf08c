"""Whose was the memory? Pages by owner as CSV, for a spreadsheet: processes, and the kernel's uses.

python pages_by_owner.py vmcore > pages.csv
"""

from __future__ import annotations

import csv
import sys
from collections import Counter

from drgn import Program
from drgn.helpers.linux import for_each_task, task_rss

import phypan


def of_processes(prog: Program) -> Counter[tuple[str, str]]:
    """(use, name of the program) -> pages; what several share is counted for each of them."""
    found: Counter[tuple[str, str]] = Counter()
    for task in for_each_task(prog):
        if task.pid != task.tgid or not task.mm:
            continue
        rss, name = task_rss(task), task.comm.string_().decode(errors="replace")
        found["anonymous", name] += rss.anon
        found["file", name] += rss.file
        found["shared", name] += rss.shmem
    return +found


with phypan.open(sys.argv[1]) as dump:
    pages = of_processes(dump.program)
    for row in phypan.run(dump, "pages"):
        pages["physical", row.type] += row.pages  # of the kernel's books, processes' pages too
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["owner", "use", "pages", "KiB"])
    for (use, owner), count in sorted(pages.items(), key=lambda item: (-item[1], item[0])):
        # a spreadsheet takes what begins so for a formula
        name = phypan.printable(owner)
        name = f"'{name}" if name[:1] in "=+-@" else name
        table.writerow([name, use, count, count * dump.page_size // 1024])
