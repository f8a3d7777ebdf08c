"""What two dumps differ in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import phypan  # what is slow to import is found in it when it is called
from phypan import Analysis, Dump, Hole, NotInDump, PhypanError, Problem, Unsupported, hookimpl

_AT_ONCE = 1 << 20  # bytes
_MOST_CODE = 64  # places of code that are shown
_WORD = 8  # bytes


@dataclass(frozen=True)
class DiffRow:
    """One difference; what one of the dumps does not have is empty."""

    section: str  # kernel, registers, tasks, modules, log, code, pages
    item: str
    first: str | None
    second: str | None


def diff(
    dump: Dump,
    other: Path,
    *,
    section: tuple[str, ...] = (),
    other_regions: tuple[Path, ...] = (),
    other_symbols: tuple[Path, ...] = (),
    other_key: tuple[Path, ...] = (),
) -> Iterator[DiffRow]:
    """Compare with another dump: kernel, registers, tasks, modules, log, code and pages.

    section        only this of them; may be given several times
    other_regions  what says where the firmware preserved memory of the other
    other_symbols  the other kernel's vmlinux with debuginfo, or a module's
    other_key      file of secret keys, if the other dump is sealed
    """
    for name in section:
        if name not in _SECTIONS:
            raise Unsupported(f"no section {name!r}", hint=f"there are: {', '.join(_SECTIONS)}")
    with phypan.open(other, regions=other_regions, symbols=other_symbols, keys=other_key) as second:
        for name, compare in _SECTIONS.items():
            if name in section or not section:
                yield from _rows(dump, second, name, compare)
        known = {str(problem) for problem in dump.problems}
        for problem in second.problems:
            if str(problem) not in known:
                where = f"{other}, {problem.where}"
                dump.problems.append(Problem(problem.what, where, problem.meaning))


_Found = tuple[str, str | None, str | None]
_Compare = Callable[[Dump, Dump], Iterable[_Found]]


def _rows(one: Dump, two: Dump, section: str, compare: _Compare) -> Iterator[DiffRow]:
    try:
        for item, first, second in compare(one, two):
            yield DiffRow(section, item, first, second)
    except PhypanError as error:
        one.problems.append(Problem(str(error), section, "they are not compared"))


def _between(one: dict[str, str], two: dict[str, str]) -> Iterator[_Found]:
    """Items that are not in both, or not the same."""
    for item in dict.fromkeys([*one, *two]):
        if one.get(item) != two.get(item):
            yield item, one.get(item), two.get(item)


def _by(name: str, tell: Callable[[Any], tuple[str, str]], **options: Any) -> _Compare:
    """Compare the rows of an analysis; `tell`: (item, value) of a row."""

    def compare(one: Dump, two: Dump) -> Iterator[_Found]:
        told = [dict(map(tell, phypan.run(dump, name, **options))) for dump in (one, two)]
        return _between(told[0], told[1])

    return compare


def _kernel(one: Dump, two: Dump) -> Iterator[_Found]:
    """Facts of `sys`, but for what they were read from."""
    told = [
        {row.item: row.value for row in phypan.run(dump, "sys") if row.value is not None}
        for dump in (one, two)
    ]
    for facts in told:
        for item in ("dump", "symbols"):
            facts.pop(item, None)
    return _between(told[0], told[1])


def _register(row: Any) -> tuple[str, str]:
    value = row.value if row.kernel is None else row.kernel
    meaning = f" {row.meaning}" if row.meaning else ""
    return f"CPU {row.cpu} {row.register}", f"{value:016x}{meaning}"


def _task(row: Any) -> tuple[str, str]:
    return f"{row.pid} {row.comm}", f"{row.st}{', on a CPU' if row.active else ''}"


def _module(row: Any) -> tuple[str, str]:
    facts = (f"{row.size} bytes", row.state, row.taints, row.version, row.build_id)
    return row.name, ", ".join(filter(None, facts))


def _log(one: Dump, two: Dump) -> Iterator[_Found]:
    """Messages that one log has more often than the other, whenever they came."""
    texts = [[row.text for row in phypan.run(dump, "dmesg")] for dump in (one, two)]
    for number, text in enumerate(texts):
        more = Counter(text) - Counter(texts[1 - number])
        for message in text:
            if more[message] > 0:
                more[message] -= 1
                yield "message", *((message, None) if number == 0 else (None, message))


# --- memory ---


def _code(one: Dump, two: Dump) -> Iterator[_Found]:
    """Words of the kernel's code, where both are of the same build."""
    if one.kernel.banner is None or one.kernel.banner != two.kernel.banner:
        return
    ends = [dump.symbols.address(name) for dump in (one, two) for name in ("_stext", "_etext")]
    first, end = ends[0], ends[1]
    if first is None or end is None or ends[:2] != ends[2:]:
        return
    texts = [dump.kernel.read_some(first, min(end - first, 1 << 28)) for dump in (one, two)]
    shown = 0
    for at in range(0, min(map(len, texts)), _AT_ONCE):
        parts = [text[at : at + _AT_ONCE] for text in texts]
        if parts[0] == parts[1]:
            continue
        for word in range(0, len(parts[0]), _WORD):
            a, b = (part[word : word + _WORD] for part in parts)
            if a != b and (shown := shown + 1) <= _MOST_CODE:
                address = first + at + word
                name = one.symbols.describe(address) or ""
                yield f"{address:016x} {name}".rstrip(), a.hex(" ", 4), b.hex(" ", 4)
    if shown > _MOST_CODE:
        what = f"{shown - _MOST_CODE} more words of code differ"
        one.problems.append(Problem(what, "code", "they are not shown"))


def _pages(one: Dump, two: Dump) -> Iterator[_Found]:
    """How many pages differ, and what the first dump's kernel used them for."""
    pages = _Pages(one, two)
    for first, end in pages.ranges():
        pages.compare(first, end)
    yield "pages that only one has", str(pages.only[0]), str(pages.only[1])
    yield "pages that both have", str(pages.same + pages.different), None
    if pages.damaged:
        yield "of them, damaged in one", str(pages.damaged), None
    if pages.different:
        yield "of them, different", str(pages.different), None
        for name, count in pages.types().most_common():
            yield f"different, {name}", str(count), None


class _Pages:
    """Counts pages of two dumps."""

    def __init__(self, one: Dump, two: Dump) -> None:
        self._dumps, self._size = (one, two), one.page_size
        self.only, self.same, self.different, self.damaged = [0, 0], 0, 0, 0
        self._runs: list[tuple[int, int]] = []  # page frames that differ, and behind

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Physical addresses that both have; what only one has is counted."""
        end = max(dump.memory.end for dump in self._dumps)
        for number, dump in enumerate(self._dumps):
            other = self._dumps[1 - number].memory
            for extent in dump.memory.extents:
                for piece in other.pieces(extent.start, extent.end):
                    if isinstance(piece, Hole):
                        self.only[number] += -(-piece.size // self._size)
                    elif number == 0:
                        yield piece.start, min(piece.end, end)

    def compare(self, first: int, end: int) -> None:
        """Compare a stretch, in halves where it differs."""
        for at in range(first, end, _AT_ONCE):
            self._halves(at, min(at + _AT_ONCE, end))

    def _halves(self, first: int, end: int) -> None:
        size = self._size
        count = -(-(end - first) // size)
        try:
            one, two = (dump.memory.read(first, end - first) for dump in self._dumps)
        except NotInDump:
            if count == 1:
                self.damaged += 1
                return
        else:
            if one == two:
                self.same += count
                return
            if count == 1:
                self._differs(first // size)
                return
        middle = first + (count // 2) * size
        self._halves(first, middle)
        self._halves(middle, end)

    def _differs(self, frame: int) -> None:
        self.different += 1
        if self._runs and self._runs[-1][1] == frame:
            self._runs[-1] = (self._runs[-1][0], frame + 1)
        else:
            self._runs.append((frame, frame + 1))

    def types(self) -> Counter[str]:
        """What the pages that differ were used for, in the first dump."""
        codes: Counter[int] = Counter()
        types = phypan.PageTypes(self._dumps[0])
        index = 0
        for first, data in types:
            some = bytes(data)
            while index < len(self._runs) and self._runs[index][0] < first + len(some):
                start, end = self._runs[index]
                codes.update(some[max(0, start - first) : max(0, end - first)])
                if end > first + len(some):
                    break
                index += 1
        named: Counter[str] = Counter()
        for code, count in codes.items():
            named[f"{phypan.page_type(code).name} pages"] += count
        return named


_SECTIONS: dict[str, _Compare] = {
    "kernel": _kernel,
    "registers": _by("cpus", _register, vectors=True),
    "tasks": _by("ps", _task),
    "modules": _by("modules", _module),
    "log": _log,
    "code": _code,
    "pages": _pages,
}


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The differences."""
    return [Analysis(diff, DiffRow)]
