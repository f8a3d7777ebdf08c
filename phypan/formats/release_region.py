"""/sys/kernel/release_region: the text that names the preserved regions, and the one written back.

Linux 2.6.26 to 3.3, show_release_region() and store_release_region() (arch/powerpc/platforms/
pseries/phyp_dump.c); Documentation/powerpc/phyp-assisted-dump.txt. It prints

    CPU:0x177fee000-0x10000: HPTE:0x177ffe020-0x1000: DUMP:0x177fff020-0x10000000, 0x10000000-0x...:

in one line. The document breaks the line and leaves the last colon out. The second number of a pair
is a length, not an end. The kernel prints a header that it has just initialised anew, so that real
output has offsets from the start of the save area instead of addresses, and lengths of zero: the
device tree is the authority, this text is a witness.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from phypan.errors import BadRecord, Problem

WHERE = "release_region"
_NUMBER = r"(0[xX][0-9a-fA-F]{1,16}|[0-9a-fA-F]{1,16})"
_PAIR = rf"{_NUMBER}\s*-\s*{_NUMBER}"
_GAP = r"[\s:,/\\]*+"  # possessive: a long gap before rubbish is not tried in all its parts
_TEXT = re.compile(
    rf"\s*CPU\s*:\s*{_PAIR}{_GAP}HPTE\s*:\s*{_PAIR}{_GAP}DUMP\s*:\s*{_PAIR}{_GAP}(?:{_PAIR})?{_GAP}\Z"
)
LOW_MEMORY = 1 << 28  # bytes that phyp dump preserves: always the low 256 MiB
MAX_SIZE = 4096  # characters: sysfs gives no more than a page


@dataclass(frozen=True)
class Pair:
    """A physical address (or an offset, see ReleaseRegion.offsets) and a length in bytes."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.length


@dataclass(frozen=True)
class ReleaseRegion:
    """What the text names: CPU state, HPTEs, the copy of low memory, memory left in its place."""

    cpu: Pair
    hpte: Pair
    dump: Pair
    rest: Pair | None

    @property
    def offsets(self) -> bool:
        """Whether the first three are offsets into the save area: none of them is ever at 0."""
        return self.cpu.start == 0

    def at(self, base: int) -> ReleaseRegion:
        """The same with the save area at physical address `base`, if it holds offsets."""
        if not self.offsets:
            return self
        cpu, hpte, dump = (
            Pair(base + pair.start, pair.length) for pair in (self.cpu, self.hpte, self.dump)
        )
        return ReleaseRegion(cpu, hpte, dump, self.rest)


def read(text: str) -> ReleaseRegion:
    """The regions in `text`, in any of its notations; BadRecord when it is not this text."""
    match = _TEXT.match(text) if len(text) <= MAX_SIZE else None
    if not match:
        raise BadRecord(
            "not of the form CPU:START-LENGTH: HPTE:START-LENGTH: DUMP:START-LENGTH, START-LENGTH:",
            where=WHERE,
            hint="give the whole text, as cat prints it",
        )
    numbers = [int(number, 16) if number else None for number in match.groups()]
    pairs = [
        Pair(start, length)
        for start, length in zip(numbers[::2], numbers[1::2], strict=True)
        if start is not None and length is not None
    ]
    for pair in pairs:
        if pair.end > 1 << 64:
            raise BadRecord(f"{pair.start:#x}-{pair.length:#x} wraps around", where=WHERE)
    return ReleaseRegion(pairs[0], pairs[1], pairs[2], pairs[3] if len(pairs) > 3 else None)


def problems(region: ReleaseRegion) -> Iterator[Problem]:
    """What the text alone shows to be wrong."""
    if region.offsets:
        yield Problem(
            "offsets instead of addresses",
            WHERE,
            "the kernel prints a new header (phyp_dump.c); the save area has to be found otherwise",
        )
    for name, pair in (("CPU", region.cpu), ("HPTE", region.hpte), ("DUMP", region.dump)):
        if not pair.length:
            yield Problem(f"{name} has length 0", WHERE, "its length has to be found otherwise")
    if region.rest and region.rest.length % 4096:
        yield Problem(
            f"the rest of memory is said to have {region.rest.length:#x} bytes, not whole pages",
            WHERE,
            "the size of memory is taken from elsewhere",
        )


def write(region: ReleaseRegion) -> str:
    """The text as the kernel prints it."""
    cpu, hpte, dump = region.cpu, region.hpte, region.dump
    rest = region.rest or Pair(0, 0)
    return (
        f"CPU:{cpu.start:#x}-{cpu.length:#x}: HPTE:{hpte.start:#x}-{hpte.length:#x}: "
        f"DUMP:{dump.start:#x}-{dump.length:#x}, {rest.start:#x}-{rest.length:#x}:\n"
    )


def write_release(pair: Pair) -> str:
    """What is written to the file to give memory back: "START LENGTH"."""
    return f"{pair.start:#x} {pair.length:#x}"


def read_release(text: str) -> Pair:
    """What was written: as sscanf("%lx %lx") reads it, which is what the kernel does."""
    match = re.match(rf"\s*{_NUMBER}\s+{_NUMBER}", text[:MAX_SIZE])
    if not match:
        raise BadRecord(f"{text[:80].strip()!r} is not START LENGTH", where=WHERE)
    return Pair(int(match[1], 16), int(match[2], 16))
