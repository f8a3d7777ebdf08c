"""Are two crashes the same, and what was different about them?

python compare_crashes.py vmcore.monday vmcore.friday
"""

from __future__ import annotations

import sys

import phypan


def facts(dump: phypan.Dump) -> dict[str, str]:
    """What is worth comparing, by name."""
    found = {row.item: row.finding for row in phypan.run(dump, "triage")}
    found |= {row.item: str(row.value) for row in phypan.run(dump, "sys")}
    shown = "class message signature function module release machine MMU CPUs".split()
    return {name: found.get(name, "unknown") for name in shown}


def names(dump: phypan.Dump, analysis: str, column: str) -> set[str]:
    """All values of a column of an analysis."""
    return {getattr(row, column) for row in phypan.run(dump, analysis)}


with phypan.open(sys.argv[1]) as one, phypan.open(sys.argv[2]) as two:
    before, after = facts(one), facts(two)
    same = before["signature"] == after["signature"]
    print("the same crash" if same else "another crash")
    for name, value in before.items():
        print(f"{name:>10}: {value}" + (f" | {after[name]}" if value != after[name] else ""))
    for analysis, column in (("modules", "name"), ("mounts", "directory"), ("ps", "comm")):
        first, second = names(one, analysis, column), names(two, analysis, column)
        print(f"{analysis:>10}: {len(first & second)} in both")
        for text in sorted(first ^ second):
            print(f"{'<' if text in first else '>':>12} {phypan.printable(text)}")
