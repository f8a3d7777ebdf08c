"""What became of the matrix, as a table: on the terminal, and as docs/reference/support.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import checks
import kernels
from cells import Cell
from workshop import ROOT, Workshop

PAGE = ROOT / "docs" / "reference" / "support.md"
NOT_RUN = "not run"
_SHOWN = {"ok": "ok", "failed": "FAILED", "-": "n/a", NOT_RUN: NOT_RUN}
_BY = {"qemu": "QEMU (fadump)", "model": "phypan's model", "plain": "nobody (dump-guest-memory)"}


@dataclass
class Result:
    """What became of a cell.

    outcomes  of each check "ok", "failed" or "-", and words about it
    made      what its dump took: seconds, and seconds of CPUs
    checked   what the checks took
    """

    cell: Cell
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)
    made: tuple[float, float] = (0.0, 0.0)
    checked: tuple[float, float] = (0.0, 0.0)

    @property
    def failures(self) -> dict[str, str]:
        """Why it failed, by check."""
        return {name: why for name, (how, why) in self.outcomes.items() if how == "failed"}


def save(shop: Workshop, result: Result) -> None:
    """Keep what became of a cell, for the page that is written when others are run."""
    path = shop.folder / "results" / f"{result.cell.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"outcomes": result.outcomes, "made": result.made, "checked": result.checked}
    path.write_text(json.dumps(kept, indent=1))


def last(shop: Workshop, cell: Cell) -> Result:
    """What became of a cell when it was run last."""
    try:
        kept = json.loads((shop.folder / "results" / f"{cell.name}.json").read_text())
        outcomes = {name: (how, why) for name, (how, why) in kept["outcomes"].items()}
        return Result(cell, outcomes, tuple(kept["made"]), tuple(kept["checked"]))
    except (OSError, ValueError, KeyError):
        return Result(cell, {"dump": (NOT_RUN, "not run yet")})


def text_table(results: Sequence[Result]) -> str:
    """One line a cell that was run, one column a check."""
    names = ["dump", *checks.CHECKS]
    results = [result for result in results if NOT_RUN not in dict(result.outcomes.values())]
    width = max((len(result.cell.name) for result in results), default=0)
    lines = [" " * width + " " + " ".join(f"{name:>8.8}" for name in names)]
    for result in results:
        without = result.outcomes.get("dump", ("-", ""))
        marks = [_SHOWN[result.outcomes.get(name, without)[0]] for name in names]
        lines.append(f"{result.cell.name:{width}} " + " ".join(f"{mark:>8}" for mark in marks))
    return "\n".join(lines)


def write(shop: Workshop, results: Sequence[Result]) -> None:
    """docs/reference/support.md."""
    parts = [
        _INTRODUCTION,
        *_counts(results),
        *_kernels(shop),
        *_checks(),
        *_cells(results),
        "",
    ]
    text = "\n".join(parts)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text)


_INTRODUCTION = """\
# What works where

Made by `make real`, which boots each of these kernels under QEMU, crashes it in each of these ways
and checks what phypan makes of the dump. Not written by hand."""


def _counts(results: Sequence[Result]) -> list[str]:
    """How much of it was run, and what came of it."""
    dumps = [result.outcomes["dump"][0] for result in results]
    checked = [how for r in results for name, (how, _) in r.outcomes.items() if name != "dump"]
    return [
        "",
        f"{dumps.count('ok')} of {len(dumps)} cells were run: {checked.count('ok')} checks are ok, "
        f"{checked.count('failed')} failed, {checked.count('-')} do not apply. "
        f"{dumps.count(NOT_RUN)} cells were not run, {dumps.count('failed')} gave no dump, "
        f"{dumps.count('-')} cannot be.",
        "",
        f"The dumps took {_minutes(r.made for r in results)} to make and "
        f"{_minutes(r.checked for r in results)} to check; several were at it at once.",
    ]


def _minutes(pairs: Iterable[tuple[float, float]]) -> str:
    wall, cpu = (sum(column) / 60 for column in zip(*pairs, strict=True))
    return f"{wall:.0f} minutes ({cpu:.0f} of a CPU)"


def _kernels(shop: Workshop) -> list[str]:
    """The kernels and programs, with their versions."""
    lines = ["", "## Kernels", "", "| name | release | from | made in |", "|---|---|---|---|"]
    for kernel in (*kernels.BUILT, *kernels.DEBIANS):
        known = shop.known(kernel.name)
        if isinstance(kernel, kernels.Built):
            version = shop.known(kernel.source).get("version", "?")
            source = f"Debian's source {version}, built with CONFIG_FA_DUMP"
        else:
            source = f"Debian {kernel.suite}, {kernel.package} {known.get('package', '?')}"
        release, seconds = known.get("release", "not there"), known.get("seconds", "?")
        lines.append(f"| {kernel.name} | {release} | {source} | {seconds} s |")
    new, old = (shop.known(name).get("version", "?") for name in ("qemu", "qemu-old"))
    lines += ["", f"{new}; where it says that QEMU is too old, {old}."]
    return [
        *lines,
        "All guests are emulated (TCG) pseries machines; those of sysrq boot by SLOF, the"
        " others by QEMU's Virtual Open Firmware.",
    ]


def _checks() -> list[str]:
    lines = ["", "## Checks", "", "| check | what it says |", "|---|---|"]
    for name, check in checks.CHECKS.items():
        first = (check.__doc__ or "").strip().split("\n")[0]
        lines.append(f"| {name} | {first} |")
    return lines


def _cells(results: Sequence[Result]) -> list[str]:
    """The table; whatever is not ok has a number, and its reason stands below."""
    names = list(checks.CHECKS)
    head = ["kernel", "MMU", "CPU", "CPUs", "crash", "memory preserved by", "seconds", *names]
    lines = ["", "## Cells", "", _row(head), _row("---" for _ in head)]
    reasons: dict[str, int] = {}
    for result in results:
        cell, marks = result.cell, []
        for name in names:
            how, why = result.outcomes.get(name, result.outcomes.get("dump", ("-", "")))
            mark = _SHOWN[how]
            if how != "ok":
                mark += f" {reasons.setdefault(why, len(reasons) + 1)}"
            marks.append(mark)
        cpu = cell.cpu or {"hash": "POWER8", "radix": "POWER10"}[cell.mmu]
        by = _BY[cell.how] + (", QEMU being too old" if cell.qemu != "qemu" else "")
        told = [cell.kernel, cell.mmu, cpu, str(cell.cpus), cell.crash, by]
        told.append(f"{result.made[0]:.0f} + {result.checked[0]:.0f}")
        lines.append(_row([*told, *marks]))
    lines += ["", "Seconds: to make the dump, and to check it."]
    lines += ["n/a, not run, FAILED: for the reason of this number.", ""]
    return [*lines, *(f"{number}. {why}" for why, number in reasons.items())]


def _row(words: Iterable[str]) -> str:
    return f"| {' | '.join(words)} |"
