"""Release plan: which memory may be given back, once which memory is safe elsewhere.

The kernel of phyp dump (2.6.26 to 3.3, phyp_dump.c) takes "START LENGTH" in release_region and

- adds LENGTH to one counter if START is in the reserved memory, both ends included, and to another
  if START is in the save area, both ends included, whatever the range covers and whatever it frees.
  When both are exactly the sizes of these, it tells the firmware that the dump was taken and
  registers for the next one. One byte more or less, and it never does;
- frees PFN_DOWN(LENGTH) + 1 pages from PFN_DOWN(START) on: one more than asked for.

So memory is given back from the bottom up, a page behind what is safe; and when all is safe the
rest, what is behind the save area, and at last the save area itself, whose end counts for it and
so is never a START of anything else.
"""

from __future__ import annotations

from dataclasses import dataclass

from phypan.formats.release_region import Pair

PAGE = 65536  # bytes: the largest page that the kernel can have
LEAST = 3 * PAGE  # bytes: a release is told by pages that no other one frees (see telling())


@dataclass(frozen=True)
class Reservation:
    """What the kernel holds back: physical addresses of the second boot, bytes.

    start, size            of all that is reserved: its init_reserve_start and _size
    area_start, area_size  of the save area in it: its reserved_scratch_addr and _size
    """

    start: int
    size: int
    area_start: int
    area_size: int

    @property
    def end(self) -> int:
        """The first byte behind the reserved memory."""
        return self.start + self.size

    @property
    def area_end(self) -> int:
        """The first byte behind the save area."""
        return self.area_start + self.area_size

    @property
    def sound(self) -> bool:
        """Whether the save area lies in the reserved memory: else nothing can be planned."""
        return self.start <= self.area_start < self.area_end <= self.end


def next_release(reservation: Reservation, asked: int, safe: int) -> Pair | None:
    """The next range to give back, None while there is none.

    asked  bytes that were asked to be given back so far, by the ranges that this told
    safe   all below this physical address is safe elsewhere or not wanted; `reservation.end`: all
    """
    r = reservation
    below, behind = r.area_start - r.start, r.end - r.area_end
    start = r.start + asked
    if safe < r.end:
        end = min(safe - PAGE, r.area_start - LEAST) // PAGE * PAGE
        return Pair(start, end - start) if asked < below and end - start >= LEAST else None
    if asked < below:
        return Pair(start, r.area_start - start)
    if asked < below + behind:
        return Pair(r.area_end + 1, behind)
    return Pair(r.area_start, r.area_size) if asked < r.size else None


def telling(pair: Pair, reservation: Reservation, page: int) -> range:
    """Page frame numbers that only this release frees: they tell whether it has been done.

    The first page of most ranges was freed by the release before it, the last may be by the next.
    None tells of a last byte behind the save area: its release is counted, and frees nothing.
    """
    if pair.start >= reservation.end:
        return range(0)
    first, last = pair.start // page, (pair.end - 1) // page
    if pair.start > reservation.area_end or pair.start == reservation.start:
        return range(first, first + 1)
    return range(first + 1, last)
