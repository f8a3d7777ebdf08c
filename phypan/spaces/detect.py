"""Which era a dump's page tables are of: every candidate is tried against what must be true.

Nothing goes by the release number alone: distributions port code back. It decides only between
candidates that no evidence tells apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from phypan.errors import Problem
from phypan.extents import Hole
from phypan.kernels import tables
from phypan.spaces import batch
from phypan.spaces.batch import FAULTS, Range
from phypan.spaces.clues import Clues
from phypan.spaces.eras import ERAS, PAGE_OFFSET, Era, kernel_facts
from phypan.spaces.resident import Resident

_BUDGET = 1 << 16  # entries of page tables read for each candidate
WHERE = "page tables"


@dataclass(frozen=True)
class Verdict:
    """What speaks for a candidate, and against it."""

    era: Era
    evidence: tuple[str, ...]
    against: tuple[str, ...]
    ranges: tuple[Range, ...]


@dataclass(frozen=True)
class Detection:
    """The era, and why; None where nothing fits."""

    era: Era | None
    evidence: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def detect(clues: Clues, resident: Resident, eras: Iterable[Era] = ERAS) -> Detection:
    """The era of the kernel's page tables in a dump."""
    if clues.root is None:
        problem = Problem(
            "nothing says where swapper_pg_dir is", "VMCOREINFO",
            "only the linear map can be translated",
        )  # fmt: skip
        return Detection(None, clues.said, (problem,))
    candidates = [era for era in eras if _possible(era, clues)]
    verdicts = [judge(era, clues, resident) for era in candidates]
    fitting = [verdict for verdict in verdicts if not verdict.against and verdict.evidence]
    problems = []
    if not fitting:
        best = _least_wrong(verdicts, clues)
        problems.append(_nothing_fits(verdicts, best))
        if best is None:
            return Detection(None, clues.said, tuple(problems))
    else:
        best = _chosen(fitting, clues)
        others = [verdict for verdict in fitting if _differs(verdict, best)]
        if others:
            problems.append(_several_fit(best, others))
    return Detection(best.era, (*clues.said, *best.evidence), tuple(problems))


def _possible(era: Era, clues: Clues) -> bool:
    if clues.page_size_known and era.page_shift != clues.page_shift:
        return False
    return clues.radix is None or clues.radix[0] == (era.mmu == "radix")


def judge(era: Era, clues: Clues, resident: Resident) -> Verdict:
    """What speaks for and against an era: clues.root must be known."""
    assert clues.root is not None
    facts = kernel_facts(era, clues.root, native_big=clues.order == "big")
    found: list[Range] = []
    try:
        for one in batch.ranges(resident, facts, how="plain", budget=_BUDGET):
            found.append(one)
    except batch.TooManyEntries:
        pass  # what was read is evidence enough
    evidence, against = _by_content(era, clues, found)
    for more, less in (_by_starts(era, clues), _by_addresses(era, clues, resident, facts)):
        evidence += more
        against += less
    return Verdict(era, tuple(evidence), tuple(against), tuple(found))


def _by_content(era: Era, clues: Clues, found: list[Range]) -> tuple[list[str], list[str]]:
    """The tables hold nothing but entries of tables; what they map exists."""
    against = []
    mapped = [one for one in found if not one.fault]
    end = clues.memory.end
    for one in found:
        if one.fault in (tables.BAD_ENTRY, tables.CYCLE):
            against.append(f"{FAULTS[one.fault]} at physical address {one.physical:#x}")
        elif one.fault and one.physical >= end:
            against.append(f"a table at physical address {one.physical:#x}, outside of memory")
    for one in mapped:
        region = era.region_of(one.first)
        if region is None or one.first + one.size - 1 > region.last:
            against.append(f"{one.first:#x} is mapped, which is in no region")
        elif not one.flags & era.entries.inhibited and one.physical + one.size > end:
            piece = clues.memory.at(one.physical)
            if isinstance(piece, Hole):
                against.append(f"{one.first:#x} is mapped to {one.physical:#x}, outside of memory")
    if not mapped or against:
        return [], against
    size = sum(one.size for one in mapped)
    names = sorted({region.name for one in mapped if (region := era.region_of(one.first))})
    return [f"swapper_pg_dir maps {size >> 10} KiB, all of it in {', '.join(names)}"], []


def _by_starts(era: Era, clues: Clues) -> tuple[list[str], list[str]]:
    evidence, against = [], []
    for name, clue in clues.starts:
        start = era.region(name).first
        text = f"{clue.what}={clue.address:#x}"
        if clue.address == start:
            evidence.append(text)
        else:
            against.append(f"{text}, its {name} region begins at {start:#x}")
    return evidence, against


def _by_addresses(
    era: Era, clues: Clues, resident: Resident, facts: list[int]
) -> tuple[list[str], list[str]]:
    """Addresses that were in use are mapped, those of the linear map to their place."""
    known: dict[str, bool] = {}
    for clue in clues.mapped:
        found = _walk(facts, clue.address, resident)
        known[clue.what] = found is not None or known.get(clue.what, False)
    if era.mmu == "radix":
        for clue in clues.linear:
            known[clue.what] = _walk(facts, clue.address, resident) == clue.address - PAGE_OFFSET
    evidence = [what for what, mapped in known.items() if mapped]
    missing = [f"{what} is not mapped" for what, mapped in known.items() if not mapped]
    return ([f"mapped as they must be: {', '.join(evidence)}"] if evidence else []), missing


def _walk(facts: list[int], address: int, resident: Resident) -> int | None:
    scratch = [0] * tables.MAX_STEPS, [0] * tables.MAX_STEPS
    if not facts[tables.FIRST] <= address <= facts[tables.LAST]:
        return None
    while True:
        arrays = resident.extents("plain").arrays
        fault, found, _, _ = tables.walk(facts, *arrays, address, *scratch)
        if fault != tables.NOT_RESIDENT or not resident.fetch([found]):
            return found if fault == tables.OK else None


def _of_release(verdict: Verdict, clues: Clues) -> bool:
    release, era = clues.release, verdict.era
    if release is None:
        return False
    return era.since <= release and (era.until is None or release < era.until)


def _chosen(fitting: list[Verdict], clues: Clues) -> Verdict:
    """Of those that fit: that of the release, else the one with most evidence, else the newest."""
    return max(fitting, key=lambda v: (_of_release(v, clues), len(v.evidence), v.era.since))


def _differs(a: Verdict, b: Verdict) -> bool:
    """Whether two candidates translate differently what the dump has."""
    return a.ranges != b.ranges or a.era.regions != b.era.regions


def _least_wrong(verdicts: list[Verdict], clues: Clues) -> Verdict | None:
    """The one with the fewest contradictions, if it is of the release or has evidence at least."""
    likely = [v for v in verdicts if v.evidence or _of_release(v, clues)]
    return min(
        likely, key=lambda v: (not _of_release(v, clues), len(v.against), -len(v.evidence)),
        default=None,
    )  # fmt: skip


def _nothing_fits(verdicts: list[Verdict], best: Verdict | None) -> Problem:
    if best is None:
        tried = ", ".join(verdict.era.name for verdict in verdicts) or "none"
        return Problem(
            f"no known kind fits (tried: {tried})", WHERE, "only the linear map can be translated"
        )
    wrong = "; ".join(best.against[:3]) or "no evidence for it"
    more = f" and {len(best.against) - 3} more" if len(best.against) > 3 else ""
    return Problem(
        f"no known kind fits without contradiction; {best.era.name} was taken, but {wrong}{more}",
        WHERE, "what is translated through damaged tables is wrong",
    )  # fmt: skip


def _several_fit(best: Verdict, others: list[Verdict]) -> Problem:
    names = ", ".join(verdict.era.name for verdict in others)
    return Problem(f"{best.era.name} and {names} fit equally", WHERE, f"{best.era.name} was taken")
