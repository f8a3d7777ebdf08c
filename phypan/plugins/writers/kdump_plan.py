"""What a compressed dump holds before its page descriptors, and which pages come behind them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from phypan import (
    BadRecord,
    Dump,
    Hole,
    Memory,
    NoteRegisters,
    Output,
    PageState,
    PhypanError,
    core_notes,
)
from phypan.formats import elfcore, kdump, kdump_seal, ppc_notes
from phypan.formats.elfcore import Note
from phypan.formats.kdump import Kdump, Part
from phypan.pages import bits
from phypan.pages.bits import Bits

PAGE_OFFSET = 0xC000000000000000  # effective address of physical address 0 in the linear map


@dataclass(frozen=True)
class Plan:
    """All that a file takes of a dump, but for the content of pages.

    memory, stored  the bitmaps of the format
    mine            a bit for each page that this file stores: `stored`, but for files of a set
    """

    head: Kdump
    notes: bytes
    memory: Bits
    stored: Bits
    mine: Bits
    compress: str = "zlib"
    num_threads: int = 0

    @classmethod
    def of(
        cls,
        dump: Dump,
        registers: NoteRegisters,
        compress: str,
        num_threads: int = 0,
        part: int = 0,
        parts: int = 1,
    ) -> Plan:
        """For the `part`th of `parts` files of a dump."""
        memory, stored = _bitmaps(dump.memory, dump.page_size)
        frames = -(-dump.memory.end // dump.page_size)
        seal = Note(ppc_notes.PHYPAN, kdump_seal.NT_SEAL, bytes(kdump_seal.SEAL_SIZE))
        notes = elfcore.write_notes([*core_notes(dump, registers), seal], dump.byte_order)
        head, mine = _head(dump, frames, notes), bytes(stored)
        if parts > 1:
            first, last = _share(stored, frames, part, parts)
            head, mine = replace(head, split=(first, last)), _only(stored, first, last)
        return cls(head, notes, memory, stored, mine, compress, num_threads)

    def incomplete(self) -> Plan:
        """The same, of a file that says of itself that pages are missing."""
        return replace(self, head=replace(self.head, status=self.head.status | kdump.INCOMPLETE))

    def put(self, output: Output) -> None:
        """Write everything before the descriptors, with its seal."""
        for offset, data in self._pieces():
            output.write_at(offset, data)

    def _pieces(self) -> list[tuple[int, Bits]]:
        head = self.head
        first, second = kdump.write_head(head)
        start = bytearray(head.bitmaps_at)
        start[: len(first)] = first
        start[head.block_size : head.block_size + len(second)] = second
        start[head.notes.offset : head.notes.offset + len(self.notes)] = self.notes
        pieces: list[tuple[int, Bits]] = [
            (0, start),
            (head.bitmaps_at, self.memory),
            (head.bitmaps_at + head.bitmap_size, self.stored),
        ]
        seal_at = head.notes.offset + len(self.notes) - kdump_seal.SEAL_SIZE
        seal = kdump_seal.seal(head, seal_at, lambda at, size: _read(pieces, at, size)).write()
        start[seal_at : seal_at + len(seal)] = seal
        return pieces

    def to_bytes(self) -> bytes:
        """The plan of a file that is no part of a set: a line of JSON, and what comes first."""
        told = {"compress": self.compress, "num_threads": self.num_threads}
        return json.dumps(told).encode() + b"\n" + _read(self._pieces(), 0, self._size)

    @property
    def _size(self) -> int:
        return self.head.descriptors_at

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """Back from `to_bytes`; BadRecord if it is not that."""
        line, _, first = data.partition(b"\n")
        try:
            told = json.loads(line)
            compress, num_threads = str(told["compress"]), int(told["num_threads"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadRecord(f"no plan of a compressed dump: {error}") from error
        head = kdump.read(lambda at, size: first[at : at + size], len(first))
        used, size = -(-head.max_mapnr // 8), head.bitmap_size
        notes = first[head.notes.offset : head.notes.offset + head.notes.size]
        memory, stored = (first[at : at + used] for at in (head.bitmaps_at, head.bitmaps_at + size))
        return cls(head, notes, memory, stored, stored, compress, num_threads)


def _read(pieces: list[tuple[int, Bits]], offset: int, size: int) -> bytes:
    """`size` bytes at `offset` of what `pieces` put there; zeros are between them."""
    result = bytearray(size)
    for start, data in pieces:
        low, high = max(offset, start), min(offset + size, start + len(data))
        if low < high:
            result[low - offset : high - offset] = data[low - start : high - start]
    return bytes(result)


def _bitmaps(memory: Memory, page_size: int) -> tuple[bytearray, bytearray]:
    """(page frames that are memory, pages that are stored: those of which any part is there)."""
    frames = -(-memory.end // page_size)
    known, stored = (bytearray(-(-frames // 8)) for _ in range(2))
    for piece in memory.pieces(0, memory.end):
        first, last = piece.start // page_size, -(-piece.end // page_size)
        if not isinstance(piece, Hole):
            bits.set_run(known, first, last - first)
            bits.set_run(stored, first, last - first)
        elif piece.state is not PageState.ABSENT:
            bits.set_run(known, first, last - first)
    return known, stored


def _share(stored: bytearray, frames: int, part: int, parts: int) -> tuple[int, int]:
    """(first, first behind) page frame number of a share of the pages, all equally large."""
    rank = bits.Rank(stored)
    bounds = [0, *(rank.select(rank.total * n // parts) for n in range(1, parts)), frames]
    return bounds[part], bounds[part + 1]


def _only(stored: bytearray, first: int, last: int) -> bytes:
    chosen = bytearray(len(stored))
    bits.set_run(chosen, first, last - first)
    return bits.both(stored, chosen)


def _head(dump: Dump, frames: int, notes: bytes) -> Kdump:
    size, offset = dump.page_size, dump.page_size + kdump.SUB_HEADER_SIZE
    text = dump.vmcoreinfo.without("CRASHTIME").text if dump.vmcoreinfo else b""
    found = notes.find(text) if text else -1
    return Kdump(
        order=dump.byte_order,
        block_size=size,
        max_mapnr=frames,
        sub_hdr_size=-(-(kdump.SUB_HEADER_SIZE + len(notes)) // size),
        bitmap_blocks=2 * kdump.bitmap_blocks(frames, size),
        utsname=_utsname(dump),
        time=dump.crash_time or 0,
        status=kdump.INCOMPLETE if dump.incomplete else 0,
        nr_cpus=max(1, sum(cpu.online for cpu in dump.cpus)),
        dump_level=dump.dump_level,
        vmcoreinfo=Part(offset + found, len(text)) if found >= 0 else Part(),
        notes=Part(offset, len(notes)),
    )


def _utsname(dump: Dump) -> tuple[bytes, ...]:
    """struct new_utsname of the crashed kernel, by VMCOREINFO; what it does not tell is made up."""
    machine = b"ppc64le" if dump.byte_order == "little" else b"ppc64"
    info = dump.vmcoreinfo
    release = (info.release or "").encode() if info else b""
    made_up = (b"Linux", b"", release, b"", machine, b"(none)")
    at, inside = (
        (info.symbol("init_uts_ns"), info.offset("uts_namespace.name")) if info else (None, None)
    )
    if at is None or at < PAGE_OFFSET:
        return made_up
    try:
        # before 5.9 VMCOREINFO does not tell where it is: struct kref, of 4 bytes, came first
        data = dump.memory.read(at - PAGE_OFFSET + (4 if inside is None else inside), 6 * 65)
    except PhypanError:
        return made_up
    fields = tuple(data[n * 65 : (n + 1) * 65].split(b"\0", 1)[0] for n in range(6))
    # libkdumpfile goes by the machine
    return (*fields[:4], machine, fields[5]) if fields[2] == release else made_up
