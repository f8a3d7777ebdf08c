"""The matrix: every cell's dump is made, if it is not there, and everything is checked.

    python scripts/real/matrix.py [--jobs N] [--cached] [CELL...]

CELL is the name of a cell, or a pattern ("6.12-be64k-*"). Without one all are run. A cell that
fails makes it fail. docs/reference/support.md is written anew, with every other cell as it was when
it was run last. With --cached nothing is booted: a dump that is there is checked as it is, and a
cell without one is said to be not run.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cells
import checks
import dumps
import get
import support
from case import Case
from cells import Cell
from debian import ArchiveError
from support import Result
from workshop import Workshop

import phypan


def run(cell: Cell, cached: bool = False) -> Result:
    """Make the dump of a cell, or take a cached one, and check it; in a process of its own."""
    shop, result = Workshop(get.PIECES), Result(cell)
    if cell.reason:
        result.outcomes["dump"] = ("-", cell.reason)
        return result
    if cached and not (dumps.path(shop, cell) / dumps.KEY).exists():
        result.outcomes["dump"] = (support.NOT_RUN, "not run: its dump was not made yet")
        return result
    try:
        directory = dumps.path(shop, cell) if cached else dumps.get(shop, cell)
        result.outcomes["dump"], result.made = ("ok", ""), dumps.seconds(directory)
    except (phypan.PhypanError, ArchiveError) as error:
        result.outcomes["dump"] = ("failed", str(error))
        return result
    began, cpu_began = time.monotonic(), dumps.cpu_seconds()
    with tempfile.TemporaryDirectory(dir=shop.folder) as scratch:
        case = Case(cell, directory, dumps.vmlinux(shop, cell), shop, Path(scratch))
        for name, how, words in checks.run(case):
            result.outcomes[name] = (how, words)
        case.close()
    result.checked = time.monotonic() - began, dumps.cpu_seconds() - cpu_began
    return result


def _chosen(patterns: list[str]) -> list[Cell]:
    everything = list(cells.cells())
    if not patterns:
        return everything
    found = [cell for cell in everything if any(fnmatch.fnmatch(cell.name, p) for p in patterns)]
    if not found:
        sys.exit(
            f"no cell {' '.join(patterns)}; there are: " + " ".join(c.name for c in everything)
        )
    return found


def _pieces(shop: Workshop, chosen: list[Cell], cached: bool) -> None:
    """Get what the cells and their checks need, one after the other."""
    names = {"makedumpfile"}
    for cell in chosen:
        if not cell.reason:
            if not cached:
                names |= {cell.qemu, cell.kernel, f"{cell.kernel}-module", cell.busybox}
            names |= {"crash-be" if cell.byte_order == "big" else "crash-le"}
            debug = shop.pieces.get(f"{cell.kernel}-debug")
            if debug is not None and debug.default and not cached:
                names.add(debug.name)
    for piece in get.PIECES:
        if piece.name in names:
            try:
                shop.get(piece.name)
            except ArchiveError as error:
                print(f"{piece.name}: {error}", flush=True)


def _tell(result: Result, done: int, total: int) -> None:
    how = [how for how, _ in result.outcomes.values()]
    if support.NOT_RUN in how:
        return
    counts = f"{how.count('ok')} ok, {how.count('failed')} failed, {how.count('-')} not applicable"
    (made, made_cpu), (checked, checked_cpu) = result.made, result.checked
    times = f"made in {made:.0f} s ({made_cpu:.0f} of CPUs), checked in {checked:.0f} s"
    times += f" ({checked_cpu:.0f})"
    print(f"[{done}/{total}] {result.cell.name}: {counts}; {times}", flush=True)
    for name, why in result.failures.items():
        print(f"    {name}: {why}", flush=True)


def main() -> int:
    """Run what is asked for; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cells", nargs="*", metavar="CELL")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cached", action="store_true", help="boot nothing")
    arguments = parser.parse_args()
    began = time.monotonic()
    chosen = _chosen(arguments.cells)
    shop = Workshop(get.PIECES)
    _pieces(shop, chosen, arguments.cached)
    results: dict[str, Result] = {}
    with ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = [pool.submit(run, cell, arguments.cached) for cell in chosen]
        for future in as_completed(waiting):
            result = future.result()
            results[result.cell.name] = result
            support.save(shop, result)
            _tell(result, len(results), len(chosen))
    ordered = [results[cell.name] for cell in chosen]
    print()
    print(support.text_table(ordered))
    failed = [result for result in ordered if result.failures]
    every = [results.get(cell.name) or support.last(shop, cell) for cell in cells.cells()]
    support.write(shop, every)
    minutes = (time.monotonic() - began) / 60
    idle = [r for r in ordered if r.outcomes["dump"][0] == support.NOT_RUN]
    print(
        f"{len(ordered)} cells, {len(failed)} failed, {len(idle)} not run, "
        f"{sum(bool(cell.reason) for cell in chosen)} cannot be, {minutes:.0f} min"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
