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
from phypan.spaces.eras import ERAS, PAGE_OFFSET, Era
from phypan.spaces.facts import kernel_facts, radix_facts
from phypan.spaces.resident import Resident

_BUDGET = 1 << 16  # entries of page tables read for each candidate
_RANGES = 1 << 14  # that are looked at for each candidate
_ENOUGH = 32  # contradictions after which a candidate is not looked at any further
_HUGE = (21, 30)  # shifts of huge pages of radix, which the kernel maps itself with
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
    """The era, and why; None where nothing fits. damaged: it was taken for want of a better one."""

    era: Era | None
    evidence: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    damaged: bool = False


def detect(clues: Clues, resident: Resident, eras: Iterable[Era] = ERAS) -> Detection:
    """The era of the kernel's page tables in a dump."""
    if clues.root is None:
        problem = Problem(
            "nothing says where swapper_pg_dir is", "VMCOREINFO",
            "only the linear map can be translated",
        )  # fmt: skip
        return Detection(None, clues.said, (problem,))
    candidates = [era for era in eras if _possible(era, clues)]
    if not resident.holds(clues.root):
        return _without_tables(clues, clues.root, candidates)
    likely = [era for era in candidates if not _by_starts(era, clues)[1]]
    verdicts = [judge(era, clues, resident) for era in likely]
    fitting = [verdict for verdict in verdicts if not verdict.against and verdict.evidence]
    problems, told = [], clues.said
    if not fitting:
        verdicts += [judge(era, clues, resident) for era in candidates if era not in likely]
        best = _least_wrong(verdicts, clues)
        if best is not None and not best.against and not best.ranges:
            empty = "swapper_pg_dir is empty; the kind is that of the release"
            return Detection(best.era, (*clues.said, empty))
        problems.append(_nothing_fits(verdicts, best))
        if best is None:
            return Detection(None, clues.said, tuple(problems))
    else:
        best = _chosen(fitting, clues)
        others = [verdict for verdict in fitting if _differs(verdict, best)]
        if others and _told_by_release(best, others, clues):
            told = (*told, f"the release; by the tables alone it may be {_names(others)} too")
        elif others:
            problems.append(_several_fit(best, others))
    evidence = (*told, *best.evidence)
    return Detection(best.era, evidence, tuple(problems), damaged=bool(best.against))


def _without_tables(clues: Clues, root: int, candidates: list[Era]) -> Detection:
    """What the release and the starts of regions say, where there are no tables to look at."""
    told = [(era, *_by_starts(era, clues)) for era in candidates]
    verdicts = [Verdict(era, tuple(more), tuple(less), ()) for era, more, less in told]
    fitting = [v for v in verdicts if not v.against and (v.evidence or _of_release(v, clues))]
    best = _chosen(fitting, clues) if fitting else None
    problem = Problem(
        f"swapper_pg_dir, at physical address {root:#x}, is not in the dump", WHERE,
        "only the linear map can be translated",
    )  # fmt: skip
    if best is None:
        return Detection(None, clues.said, (problem,))
    return Detection(best.era, (*clues.said, *best.evidence), (problem,))


def _possible(era: Era, clues: Clues) -> bool:
    if clues.page_size_known and era.page_shift != clues.page_shift:
        return False
    return clues.radix is None or clues.radix[0] == (era.mmu == "radix")


def judge(era: Era, clues: Clues, resident: Resident) -> Verdict:
    """What speaks for and against an era: clues.root must be known."""
    assert clues.root is not None
    facts = kernel_facts(era, clues.root, native_big=clues.order == "big")
    found, against = _read(era, clues, resident)
    evidence = [] if against else _by_content(era, found)
    for more, less in (_by_starts(era, clues), _by_addresses(era, clues, resident, facts)):
        evidence += more
        against += less
    return Verdict(era, tuple(evidence), tuple(against), tuple(found))


def _read(era: Era, clues: Clues, resident: Resident) -> tuple[list[Range], list[str]]:
    """(what the tables map, what of it an era's kernel would not have), as far as it takes."""
    assert clues.root is not None
    if era.mmu == "radix":
        # As the hardware reads them: their entries say themselves how large the next table is.
        first = era.region("linear").first
        top = first >> era.address_bits << era.address_bits
        facts = radix_facts(clues.root, era.address_bits, era.index_bits[-1], top=top)
        facts[tables.RPN] &= era.entries.rpn | (1 << era.page_shift) - 1
        facts[tables.FLAGS] = ~facts[tables.RPN] % (1 << 64)
    else:
        facts = kernel_facts(era, clues.root, native_big=clues.order == "big")
    found: list[Range] = []
    against: list[str] = []
    end = clues.memory.end
    try:
        for one in batch.ranges(resident, facts, how="plain", budget=_BUDGET):
            found.append(one)
            wrong = _wrong(era, clues, one, end)
            if wrong is not None:
                against.append(wrong)
            if len(against) == _ENOUGH or len(found) == _RANGES:
                break
    except batch.TooManyEntries:
        pass  # what was read is evidence enough
    return found, against


def _wrong(era: Era, clues: Clues, one: Range, end: int) -> str | None:
    """Why no kernel of an era has such a range; `end` is that of the memory.

    Tables hold entries of tables, and what they map exists.
    """
    if one.fault in (tables.BAD_ENTRY, tables.CYCLE):
        return f"{FAULTS[one.fault]} at physical address {one.physical:#x}"
    if one.fault:
        outside = one.physical >= end
        return (
            f"a table at physical address {one.physical:#x}, outside of memory" if outside else None
        )
    return _misplaced(era, one) or _beyond(era, clues, one, end)


def _misplaced(era: Era, one: Range) -> str | None:
    region = era.region_of(one.first)
    if region is None or one.first + one.size - 1 > region.last:
        return f"{one.first:#x} is mapped, which is in no region"
    if era.mmu == "hash" and region.name == "linear":
        return f"{one.first:#x} is mapped, in the linear map, which no table is for"
    if region.name == "vmemmap" and one.flags & era.entries.inhibited:
        return f"{one.first:#x} is mapped as IO is, in vmemmap, which is memory"
    if era.mmu == "radix" and one.shift not in (era.page_shift, *_HUGE):
        return f"{one.first:#x} is mapped with pages of {1 << one.shift >> 10} KiB"
    return None


def _beyond(era: Era, clues: Clues, one: Range, end: int) -> str | None:
    if one.flags & era.entries.inhibited or one.physical + one.size <= end:
        return None
    exists = not isinstance(clues.memory.at(one.physical), Hole)
    return None if exists else f"{one.first:#x} is mapped to {one.physical:#x}, outside of memory"


def _by_content(era: Era, found: list[Range]) -> list[str]:
    mapped = [one for one in found if not one.fault]
    size = sum(one.size for one in mapped)
    names = sorted({region.name for one in mapped if (region := era.region_of(one.first))})
    if not mapped:
        return []
    return [f"swapper_pg_dir maps {size >> 10} KiB, all of it in {', '.join(names)}"]


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


def _told_by_release(best: Verdict, others: list[Verdict], clues: Clues) -> bool:
    """Whether the kernel's release speaks for one of those that fit equally."""
    return _of_release(best, clues) and not any(_of_release(other, clues) for other in others)


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
    if not best.against:
        what = f"nothing in the page tables tells their kind; {best.era.name} was taken"
        return Problem(what, WHERE, "it is the kind of such a release")
    wrong = "; ".join(best.against[:3])
    more = " and more" if len(best.against) > 3 else ""
    return Problem(
        f"no known kind fits without contradiction; {best.era.name} was taken, but {wrong}{more}",
        WHERE, "what is translated through damaged tables is wrong",
    )  # fmt: skip


def _several_fit(best: Verdict, others: list[Verdict]) -> Problem:
    what = f"{best.era.name} and {_names(others)} fit equally"
    return Problem(what, WHERE, f"{best.era.name} was taken")


def _names(verdicts: list[Verdict]) -> str:
    return ", ".join(verdict.era.name for verdict in verdicts)
