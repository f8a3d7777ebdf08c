"""Twin of kernels/hashed.py: each way to find an entry is tried for all addresses at a time."""

from __future__ import annotations

import numpy as np

from phypan.formats.hpte import (
    AVPN,
    AVPN_SHIFT,
    B_SHIFT,
    LARGE,
    RPN,
    SECONDARY,
    V3_B_SHIFT,
    V3_FIRST,
    VALID,
    VRMA_VSID,
)
from phypan.kernels import segments
from phypan.kernels.hashed import (
    DUPLICATE,
    GROUPS,
    HASH_MASK,
    MISPLACED,
    SCAN_WORDS,
    SIZE_WORDS,
    SLB_WORDS,
    START,
    V3,
    WRONG,
)
from phypan.kernels.segments import NO_VSID, SEGMENT_SHIFT, SEGMENT_WORDS
from phypan.kernels.tables import NOT_MAPPED, NOT_RESIDENT, OK, OUTSIDE
from phypan.kernels.twins.segments import vsids
from phypan.kernels.twins.words import Array, gather

_U = np.uint64
AT_ONCE = 1 << 20  # entries of the table


def _old_form(table: Array, first: Array, second: Array) -> tuple[Array, Array]:
    if not table[V3]:
        return first, second
    b = second >> _U(V3_B_SHIFT) & _U(3)
    return first & _U(V3_FIRST) | b << _U(B_SHIFT), second & _U(~(3 << V3_B_SHIFT) & (1 << 64) - 1)


def _actual(sizes: Array, base: Array, first: Array, second: Array) -> Array:
    """Shift of the page size of each entry, for its base; 0 where it encodes none."""
    large = first & _U(LARGE) != 0
    shift = np.where(~large & (base == 12), _U(12), _U(0))
    for known, actual, penc in sizes.reshape(-1, SIZE_WORDS)[::-1]:
        if actual != 12:
            low = second & _U(RPN) & ((_U(1) << actual) - _U(1))
            shift[large & (base == known) & (low == penc << _U(12))] = actual
    return shift


class _Search:
    """Addresses that are looked up in every way until they are found."""

    def __init__(
        self, table: Array, sizes: Array, starts: Array, ends: Array, bases: list[Array],
        addresses: Array,
    ) -> None:  # fmt: skip
        self.table, self.sizes = table, sizes
        self.memory = (starts, ends, bases)
        self.addresses = addresses
        count = addresses.size
        self.real, self.second, self.index = (np.zeros(count, np.uint64) for _ in range(3))
        self.shift, self.fault = np.zeros(count, np.uint64), np.full(count, OUTSIDE, np.int64)
        self.open = np.ones(count, bool)

    def look(self, numbers: Array, segment: int, base: int, who: Array) -> None:
        """Look for the addresses at indices `who` in virtual segments `numbers`."""
        offset = self.addresses[who] & _U((1 << segment) - 1)
        avpn = (numbers << _U(segment - 23)) | (offset >> _U(23))
        avpn = avpn >> _U(max(base, 23) - 23) << _U(max(base, 23) - 23)
        want = (avpn << _U(AVPN_SHIFT)) & _U(AVPN) | _U((segment == 40) << B_SHIFT)
        spread = numbers ^ (numbers << _U(25)) if segment == 40 else numbers
        hashed = (spread ^ (offset >> _U(base))) & _U(HASH_MASK)
        self.fault[who] = NOT_MAPPED
        self.real[who] = self.shift[who] = 0
        for flag in (0, SECONDARY):
            group = (~hashed if flag else hashed) & (self.table[GROUPS] - _U(1))
            self._group(group, want | _U(VALID | flag), base, who)

    def _group(self, group: Array, want: Array, base: int, who: Array) -> None:
        where = self.table[START] + group * _U(128)
        mask = _U(AVPN | 3 << B_SHIFT | SECONDARY | VALID)
        _, low = gather(*self.memory, where, True)
        _, high = gather(*self.memory, where + _U(120), True)
        lacking = ~(low & high) & self.open[who]
        self.fault[who[lacking]], self.real[who[lacking]] = NOT_RESIDENT, where[lacking]
        self.open[who[lacking]] = False
        for slot in range(8):
            place = where + _U(16 * slot)
            first, second = _old_form(
                self.table,
                gather(*self.memory, place, True)[0],
                gather(*self.memory, place + _U(8), True)[0],
            )
            shift = _actual(self.sizes, np.full(first.size, base), first, second)
            hit = self.open[who] & (first & mask == want) & (shift != 0)
            chosen, inside = who[hit], (_U(1) << shift[hit]) - _U(1)
            page = second[hit] & _U(RPN) & ~inside
            self.real[chosen] = page | self.addresses[chosen] & inside
            self.shift[chosen], self.fault[chosen] = shift[hit], OK
            self.second[chosen] = second[hit]
            self.index[chosen] = group[hit] * _U(8) + _U(slot)
            self.open[chosen] = False


def many(
    slb: Array, scheme: Array, context: int, table: Array, sizes: Array,
    starts: Array, ends: Array, bases: list[Array],
    addresses: Array,
    physical: Array, entries: Array, shifts: Array, faults: Array, indices: Array,
) -> None:  # fmt: skip
    """As kernels.hashed.many()."""
    search = _Search(table, sizes, starts, ends, bases, addresses)
    if slb.size:
        taken = np.zeros(addresses.size, bool)
        for start, shift, number, base in slb.reshape(-1, SLB_WORDS):
            who = np.flatnonzero(~taken & (addresses >> shift == start >> shift))
            search.look(np.full(who.size, number), int(shift), int(base), who)
            taken[who] = True
    else:
        for row in (SEGMENT_WORDS, 0):
            numbers = vsids(scheme, row, int(context), addresses)
            for base in dict.fromkeys(sizes[::SIZE_WORDS].tolist()):
                who = np.flatnonzero(search.open & (numbers != _U(NO_VSID)))
                search.look(numbers[who], int(scheme[row + SEGMENT_SHIFT]), base, who)
    physical[:], entries[:], indices[:] = search.real, search.second, search.index
    shifts[:], faults[:] = search.shift, search.fault


def scan(
    scheme: Array, table: Array, sizes: Array, starts: Array, ends: Array, bases: list[Array]
) -> tuple[Array, Array]:
    """(a row for each valid entry, addresses of entries that are not resident).

    The columns are the places that kernels.hashed names for scan().
    """
    total = int(table[GROUPS]) * 8
    rows, missing = [np.zeros((0, SCAN_WORDS), np.uint64)], [np.zeros(0, np.uint64)]
    for at in range(0, total, AT_ONCE):
        index = np.arange(at, min(at + AT_ONCE, total), dtype=np.uint64)
        where = table[START] + index * _U(16)
        first, one = gather(starts, ends, bases, where, True)
        second, two = gather(starts, ends, bases, where + _U(8), True)
        missing.append(where[~(one & two)])
        valid = one & two & (first & _U(VALID) != 0)
        first, second = _old_form(table, first[valid], second[valid])
        part = _rows(scheme, table, sizes, index[valid], first, second)
        part[:, WRONG] |= _duplicates(table, sizes, starts, ends, bases, part)
        rows.append(part)
    return np.concatenate(rows), np.concatenate(missing)


def occupancy(table: Array, starts: Array, ends: Array, bases: list[Array], counts: Array) -> int:
    """As kernels.hashed.occupancy()."""
    missing, per_time = 0, AT_ONCE // 8
    for at in range(0, int(table[GROUPS]), per_time):
        count = min(per_time, int(table[GROUPS]) - at)
        index = np.arange(at * 8, (at + count) * 8, dtype=np.uint64)
        first, known = gather(starts, ends, bases, table[START] + index * _U(16), True)
        whole = known.reshape(-1, 8).all(axis=1)
        missing += int((~whole).sum())
        valid = (first & _U(VALID)).reshape(-1, 8).sum(axis=1)
        counts += np.bincount(valid[whole].astype(np.int64), minlength=9).astype(np.uint64)
    return missing


def _rows(
    scheme: Array, table: Array, sizes: Array, index: Array, first: Array, second: Array
) -> Array:
    base = np.where(first & _U(LARGE) != 0, _U(0), _U(12))
    actual = base.copy()
    for known in dict.fromkeys(sizes[::SIZE_WORDS].tolist()):
        shift = _actual(sizes, np.full(first.size, known, np.uint64), first, second)
        fresh = (base == 0) & (shift != 0)
        base[fresh], actual[fresh] = known, shift[fresh]
    large, number, offset, wrong = _pages(table, index, first, base)
    context, start = _segments(scheme, large, number)
    vrma = large & (number == VRMA_VSID)
    context = np.where(vrma, _U(NO_VSID), context)
    address = np.where(vrma, offset, start | offset)
    return np.stack([index, first, second, base, actual, context, address, wrong]).T.copy()


def _pages(
    table: Array, index: Array, first: Array, base: Array
) -> tuple[Array, Array, Array, Array]:
    """(whether its segment has 1 TiB, VSID, offset, what is wrong) of each entry's page."""
    groups = table[GROUPS]
    large = first >> _U(B_SHIFT) & _U(1) != 0
    segment = np.where(large, _U(40), _U(28))
    stored = index >> _U(3)
    group = np.where(first & _U(SECONDARY) != 0, ~stored, stored) & (groups - _U(1))
    avpn = (first & _U(AVPN)) >> _U(AVPN_SHIFT)
    number = avpn >> (segment - _U(23))
    offset = (avpn << _U(23)) & ((_U(1) << segment) - _U(1))
    spread = (np.where(large, number ^ (number << _U(25)), number)) & _U(HASH_MASK)
    shift = np.where(base == 0, _U(12), base)
    low = ((spread ^ group) & (groups - _U(1))) << shift & _U((1 << 23) - 1)
    offset = np.where(shift < 23, offset | low, offset)
    expected = (spread ^ (offset >> shift)) & _U(HASH_MASK) & (groups - _U(1))
    wrong = np.where(expected == group, _U(0), _U(MISPLACED))
    return large, number, offset, wrong


def _duplicates(
    table: Array, sizes: Array, starts: Array, ends: Array, bases: list[Array], rows: Array
) -> Array:
    """DUPLICATE for each row whose page another entry is found for first, else 0."""
    large, number, offset, _ = _pages(table, rows[:, 0], rows[:, 1], rows[:, 3])
    search = _Search(table, sizes, starts, ends, bases, offset)
    search.index[:] = rows[:, 0]
    for base in np.unique(rows[:, 3][rows[:, 3] != 0]).tolist():
        for segment in (28, 40):
            who = np.flatnonzero((rows[:, 3] == base) & (large == (segment == 40)))
            search.look(number[who], segment, base, who)
    found = (search.fault == OK) & (search.index != rows[:, 0])
    return np.where(found, _U(DUPLICATE), _U(0))


def _segments(scheme: Array, large: Array, number: Array) -> tuple[Array, Array]:
    """(context, effective address) of each segment, by Python's own integers."""
    context, start = np.zeros(number.size, np.uint64), np.zeros(number.size, np.uint64)
    for row, chosen in ((0, ~large), (SEGMENT_WORDS, large)):
        words = [int(word) for word in scheme]
        distinct, back = np.unique(number[chosen], return_inverse=True)
        pairs = [_segment(words, row, int(value)) for value in distinct]
        table = np.array(pairs, np.uint64).reshape(-1, 2)[back.reshape(-1)]
        context[chosen], start[chosen] = table[:, 0], table[:, 1]
    return context, start


def _segment(scheme: list[int], row: int, number: int) -> tuple[int, int]:
    """(context, effective address) of a VSID, 0 for the context of a kernel's segment."""
    shift, bits = scheme[row + segments.SEGMENT_SHIFT], scheme[row + segments.BITS]
    esid_bits, kind = scheme[row + segments.ESID_BITS], scheme[segments.KERNEL]
    proto = number * scheme[row + segments.INVERSE] % ((1 << bits) - 1)
    context, esid = divmod(proto, 1 << esid_bits)
    address = None
    if kind == segments.WHOLE:
        address = proto << shift
    elif kind == segments.WHOLE_AND_TOP:
        address = (proto << shift) % (1 << 64) if proto >> (bits - 1) else None
    else:
        for candidate in _contexts(scheme, shift + esid_bits):
            if candidate[0] == context:
                address = candidate[1] | esid << shift
    if address is not None and 0xC <= address >> 60 <= 0xF:
        return 0, address
    return context, esid << shift


def _contexts(scheme: list[int], covered: int) -> list[tuple[int, int]]:
    """(context, the bits of its addresses above those that segment numbers have) of the kernel."""
    first, linear = scheme[segments.FIRST_CONTEXT], scheme[segments.LINEAR_CONTEXTS]
    if scheme[segments.KERNEL] == segments.NIBBLE:
        return [(first + n, (0xC + n) << 60) for n in range(4)]
    pieces = [
        (first + n, 0xC000000000000000 + (n << scheme[segments.LINEAR_SHIFT]))
        for n in range(linear)
    ]
    start, size = scheme[segments.VIRTUAL_START], scheme[segments.REGION_SHIFT]
    pieces += [(first + linear + n, start + (n << size)) for n in range(scheme[segments.REGIONS])]
    return [(context, address >> covered << covered) for context, address in pieces]
