"""Ranges: a set of integers, held as the stretches that it is made of."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """Stretches [start, end) that neither overlap nor touch, in ascending order."""

    def __init__(self, stretches: Iterable[tuple[int, int]] = ()) -> None:
        """The set of what is in any of the [start, end) in `stretches`."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in stretches:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Put [start, end) in; what is in already stays."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)  # the first that reaches to `start`
        last = bisect_right(self._starts, end)  # behind the last that begins by `end`
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def covers(self, start: int, end: int) -> bool:
        """Whether all of [start, end) is in; nothing always is."""
        return next(self.gaps(start, end), None) is None

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of [start, end) that are not in, as [start, end)."""
        index = bisect_right(self._ends, start)
        while start < end and index < len(self._starts) and self._starts[index] < end:
            if start < self._starts[index]:
                yield start, self._starts[index]
            start = self._ends[index]
            index += 1
        if start < end:
            yield start, end

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of [start, end) that are in."""
        index = bisect_right(self._ends, start)
        while index < len(self._starts) and self._starts[index] < end:
            yield max(start, self._starts[index]), min(end, self._ends[index])
            index += 1

    @property
    def size(self) -> int:
        """How many integers are in."""
        return sum(self._ends) - sum(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __repr__(self) -> str:
        return f"Ranges({', '.join(f'{start:#x}-{end:#x}' for start, end in self)})"
