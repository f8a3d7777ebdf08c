"""Redaction: a dump without whole kinds of pages, and without pages in which a secret was found.

Pages go whole and become holes with a reason: nothing is overwritten, so nothing that stays is made
up. What is not found stays: no rule knows all secrets, one that is cut by the end of a page whose
neighbour in memory is another's is not seen, and registers are not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from phypan.dump import Dump
from phypan.errors import Unsupported
from phypan.extents import Extent
from phypan.filtering.levels import filtered
from phypan.hooks import Secret
from phypan.pages import bits
from phypan.pages.state import PageMask, PageState
from phypan.rows import Address, Bytes, Pages
from phypan.sinks import Progress, no_progress

LEVEL = 30  # dump level: cache, private cache, user pages, and what is left in free ones
_BY_STRUCT_PAGE = 30
_CHUNK = 4 << 20  # bytes that are searched at a time
_LONGEST = 16384  # bytes of a secret that are seen


@dataclass(frozen=True)
class Redaction:
    """Pages that were left out.

    what     kind of page, or name of the rule
    address  physical address of the first byte that was found; None for a kind of pages
    why      what was looked for
    """

    what: str
    pages: Pages
    size: Bytes
    address: Address | None
    why: str


@dataclass(frozen=True)
class Redacted:
    """The dump without what was found, and what that was."""

    dump: Dump
    report: list[Redaction] = field(default_factory=list)


def redacted(
    dump: Dump, secrets: Mapping[str, Secret], level: int, progress: Progress = no_progress
) -> Redacted:
    """`dump` without the pages of dump level `level`, and those in which `secrets` were found.

    Raises Unsupported when the kernel does not tell which pages these are.
    """
    size = dump.page_size
    chosen = filtered(dump, level)
    if level & _BY_STRUCT_PAGE and not chosen.dump.dump_level & _BY_STRUCT_PAGE & level:
        raise Unsupported(
            "which pages are users' cannot be told: no struct page can be read",
            where=dump.source,
            hint="-s VMLINUX may help; with -d 0 only what the rules find is left out",
        )
    report = [
        Redaction(f"{name} pages", count, count * size, None, f"dump level {level}")
        for name, count in sorted(chosen.counts.items())
    ]
    frames = -(-dump.memory.end // size)
    kept = bytearray(-(-frames // 8))
    bits.set_run(kept, 0, frames)
    planes: dict[str, bytearray] = {}
    for start, end, secret in found(chosen.dump, secrets.values(), progress):
        first, last = start // size, (end - 1) // size + 1
        fresh = sum(1 for page in range(first, last) if bits.test(kept, page))
        plane = planes.setdefault(secret.name, bytearray(len(kept)))
        bits.set_run(plane, first, last - first)
        bits.set_run(kept, first, last - first, False)
        report.append(Redaction(secret.name, fresh, fresh * size, start, secret.help))
    reasons = [
        (plane, PageState.EXCLUDED, f"redacted: {secrets[name].help}")
        for name, plane in planes.items()
    ]
    memory = chosen.dump.memory.masked(PageMask(size, kept, reasons))
    return Redacted(replace(chosen.dump, memory=memory, stores=()), report)


def summary(report: Iterable[Redaction]) -> Iterator[tuple[str, int]]:
    """(what, pages) of a report, together."""
    counts: Counter[str] = Counter()
    for entry in report:
        counts[entry.what] += entry.pages
    yield from sorted(counts.items())


def found(
    dump: Dump, secrets: Iterable[Secret], progress: Progress = no_progress
) -> Iterator[tuple[int, int, Secret]]:
    """(first, first behind) physical address of all that `secrets` match, and which did."""
    rules = tuple(secrets)
    total, done = dump.memory.size, 0
    for piece in list(dump.memory.extents):
        for start, data in _chunks(piece):
            for secret in rules:
                for first, last in _matches(data, secret):
                    yield start + first, start + last, secret
            progress(min(total, done + start - piece.start + len(data)), total)
        done += piece.size


def _chunks(piece: Extent) -> Iterator[tuple[int, bytes]]:
    """(physical address, bytes): each begins in the end of the one before it."""
    stretches = piece.store.data(piece.offset, piece.size)
    for offset, size in stretches:
        at, end = offset, offset + size
        while at < end:
            first = max(offset, at - _LONGEST)
            data = bytearray(min(_CHUNK, end - at) + at - first)
            piece.store.readinto(first, memoryview(data))
            yield piece.start + first - piece.offset, bytes(data)
            at = first + len(data)


def _matches(data: bytes, secret: Secret) -> Iterator[tuple[int, int]]:
    """Where the pattern matches around a needle: needles are found far faster than patterns."""
    for needle in secret.needles:
        behind = at = 0
        while (at := data.find(needle, at)) >= 0:
            low = max(behind, at - _LEAD)
            match = secret.pattern.search(data, low, at + _LONGEST)
            if match is not None and match.start() <= at:
                yield match.span()
                behind = at = match.end()
            else:
                at += len(needle)


_LEAD = 64  # bytes of a match before its needle, at the most
