"""Names of per-CPU variables: every CPU has a copy of them, at an offset of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phypan.errors import PhypanError

if TYPE_CHECKING:
    from phypan.dump import Dump

_MAX_CPUS = 1 << 14


class PerCpu:
    """The copies of per-CPU variables; none where the symbols do not tell where they are."""

    def __init__(self, dump: Dump) -> None:
        self._symbols = dump.symbols
        names = ("__per_cpu_start", "__per_cpu_end", "__per_cpu_offset")
        start, end, offsets = map(dump.symbols.address, names)
        self._start, self._end = start or 0, end or 0
        self._offsets: dict[int, int] = {}  # CPU -> what is added to an address
        if offsets is None:
            return
        order = dump.byte_order
        last = max((cpu.number for cpu in dump.cpus), default=-1)
        try:
            data = dump.kernel.space.read(offsets, 8 * (min(last, _MAX_CPUS) + 1))
        except PhypanError:
            return
        for cpu in range(len(data) // 8):
            self._offsets[cpu] = int.from_bytes(data[8 * cpu : 8 * cpu + 8], order)

    def describe(self, address: int) -> str | None:
        """The variable that an effective address is in: "runqueues+0x10/0xd00 of CPU 3"."""
        for cpu, offset in self._offsets.items():
            place = (address - offset) % (1 << 64)
            if offset and self._start <= place < self._end:
                found = self._symbols.describe(place)
                return f"{found} of CPU {cpu}" if found else None
        return None
