"""The HPTE save area once more: LoPAR's appendix "Firmware Assisted Dump Data Format".

Other than phypan's, this reader takes the area for one big number and cuts fields out of it, and
decodes an entry bit by bit in the numbering of the Power ISA, where bit 0 is the highest.
"""

from __future__ import annotations


def cut(area: bytes, at: int, size: int) -> int:
    """The big-endian number of `size` bytes at byte `at`."""
    whole = int.from_bytes(area, "big")
    return (whole >> 8 * (len(area) - at - size)) % (1 << 8 * size)


def entries(area: bytes) -> list[tuple[int, int, int]]:
    """(index in the page table, first doubleword, second doubleword), in stored order.

    NumEntriesOffset is printed as 0x1c, where the low word of the eight bytes at 0x18 is.
    """
    assert area[:8] == b"HPTESAVE"
    at = cut(area, 12, 4)
    size = {0x18: 8, 0x1C: 4}[at]
    announced = cut(area, at, size)
    found = []
    for number in range(announced):
        start = 0x20 + 24 * number
        if start + 24 > len(area):
            break
        found.append((cut(area, start, 8), cut(area, start + 8, 8), cut(area, start + 16, 8)))
    return found


def bits(doubleword: int, first: int, last: int) -> int:
    """Bits `first` to `last`, numbered from the highest, as the Power ISA does."""
    return (doubleword >> (63 - last)) % (1 << (last - first + 1))


def decoded(first: int, second: int) -> dict[str, int]:
    """The fields of Power ISA 2.07, Book III-S, figure "Page Table Entry"."""
    return {
        "B": bits(first, 0, 1),
        "AVPN": bits(first, 2, 56),
        "SW": bits(first, 57, 60),
        "L": bits(first, 61, 61),
        "H": bits(first, 62, 62),
        "V": bits(first, 63, 63),
        "pp": bits(second, 0, 0) << 2 | bits(second, 62, 63),
        "key": bits(second, 2, 3) << 3 | bits(second, 52, 54),
        "RPN": bits(second, 4, 51),
        "R": bits(second, 55, 55),
        "C": bits(second, 56, 56),
        "WIMG": bits(second, 57, 60),
        "N": bits(second, 61, 61),
    }
