"""64-bit words out of memory that lies in extents, many at a time.

Here a base is an array of bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def gather(
    starts: Array, ends: Array, bases: list[Array], addresses: Array, big: bool
) -> tuple[Array, Array]:
    """(words at `addresses`, whether each of them is in an extent); where it is not, 0."""
    values = np.zeros(addresses.size, np.uint64)
    place = np.searchsorted(starts, addresses, side="right").astype(np.int64) - 1
    known = place >= 0
    safe = np.where(known, place, 0)
    if starts.size:
        room = ends[safe] - addresses
        known &= (addresses < ends[safe]) & (room >= np.uint64(8))
    for extent in np.unique(place[known]):
        chosen = known & (place == extent)
        offsets = (addresses[chosen] - starts[extent]).astype(np.int64)
        octets = bases[extent][offsets[:, None] + np.arange(8)]
        values[chosen] = np.ascontiguousarray(octets).view(">u8" if big else "<u8")[:, 0]
    return values, known
