"""makedumpfile's compressed dump: pages one by one, with checksums that other tools do not see.

What its readers need: crash counts the NT_PRSTATUS notes; libkdumpfile wants a machine of "ppc64"
or "ppc64le" and a tv_usec of 0. Pages of zeros share one stored page, whatever is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from phypan import (
    Dump,
    Hole,
    Memory,
    NoteRegisters,
    Output,
    OutputError,
    PageState,
    PhypanError,
    Problem,
    Progress,
    Writer,
    Written,
    core_notes,
    hookimpl,
    pipeline,
)
from phypan.formats import elfcore, kdump, ppc_notes
from phypan.formats.elfcore import Note
from phypan.formats.kdump import Kdump, Part
from phypan.pages import bits, codecs, packing

Compression = Literal["zlib", "lzo", "snappy", "zstd", "none", "keep"]
PAGE_OFFSET = 0xC000000000000000  # effective address of physical address 0 in the linear map


def write(
    dump: Dump,
    output: Output,
    progress: Progress,
    *,
    registers: NoteRegisters = "os",
    compress: Compression = "zlib",
    num_threads: int = 0,
    keep_incomplete: bool = False,
    part: int = 0,
    parts: int = 1,
) -> Written:
    """Write the pages of `dump`, or the `part`th of `parts` shares of them.

    registers        as of an ELF vmcore: what NT_PRSTATUS gets
    compress         zlib, lzo, snappy, zstd or none; what does not get smaller is stored as it is.
                     keep: as pages are stored already, else zlib
    num_threads      threads that compress; 0 for one on each processor
    keep_incomplete  when interrupted, or when space runs out, finish the file with the pages that
                     it has, and flag it as incomplete
    """
    job = _Job(dump, output, registers, part, parts)
    keep = compress == "keep"
    codec = codecs.named("zlib" if keep else compress)
    job.write_head()
    reason = ""
    pages = pipeline.compressed(
        dump.memory, job.mine, job.head.block_size, codec, keep=keep, threads=num_threads
    )
    try:
        for batch in pages:
            job.write_batch(batch)
            progress(job.done * dump.page_size, job.total * dump.page_size)
    except (KeyboardInterrupt, OutputError) as error:
        if not keep_incomplete:
            raise
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    finally:
        pages.close()
    return job.finish(reason)


class _Job:
    """One file while it is written.

    head       its headers
    mine       a bit for each page that this file stores
    done       pages written so far, of `total`
    """

    def __init__(
        self, dump: Dump, output: Output, registers: NoteRegisters, part: int, parts: int
    ) -> None:
        self._dump, self._output = dump, output
        size = dump.page_size
        self._memory, stored = _bitmaps(dump.memory, size)
        self._stored, self.mine = stored, bytes(stored)
        self._notes, self._seal_at = _notes(dump, registers)
        frames = -(-dump.memory.end // size)
        self.head = _head(dump, frames, self._notes)
        self.total = bits.count(stored)
        if parts > 1:
            first, last = _share(stored, frames, part, parts)
            self.head = replace(self.head, split=(first, last))
            self.mine = _only(stored, first, last)
            self.total = bits.count(self.mine)
        self._descriptors_at = self.head.descriptors_at
        self._position = self.head.descriptors_at + self.total * kdump.DESCRIPTOR_SIZE
        self._zeros_at = 0  # until there is a page of zeros
        self.done, self._zeros = 0, 0
        self._damaged: dict[int, str] = {}

    def write_head(self) -> None:
        """Everything before the descriptors, with its seal."""
        head, output = self.head, self._output
        first, second = kdump.write_head(head)
        block = head.block_size
        start = bytearray(head.bitmaps_at)
        start[: len(first)] = first
        start[block : block + len(second)] = second
        start[head.notes.offset : head.notes.offset + len(self._notes)] = self._notes
        bitmaps = [(head.bitmaps_at, self._memory)]
        bitmaps.append((head.bitmaps_at + head.bitmap_size, self._stored))
        pieces = _Pieces([(0, start), *bitmaps])
        seal = kdump.seal(head, self._seal_at, pieces.read).write()
        start[self._seal_at : self._seal_at + len(seal)] = seal
        output.write_at(0, start)
        for offset, bitmap in bitmaps:
            output.write_at(offset, bitmap)

    def write_batch(self, batch: pipeline.Batch) -> None:
        """The descriptors and the data of some pages."""
        packed, size = batch.packed, self.head.block_size
        if packed.zeros and not self._zeros_at:
            self._output.write_at(self._position, bytes(size))
            self._zeros_at, self._position = self._position, self._position + size
        table = packing.descriptors(self.head.order, packed, size, self._position, self._zeros_at)
        self._output.write_at(self._position, packed.data)
        self._output.write_at(self._descriptors_at, _blanked(table, batch))
        self._descriptors_at += len(table)
        self._position += len(packed.data)
        self._damaged.update(batch.damaged)
        self._zeros += packed.zeros - len(batch.damaged)
        self.done += len(batch.pfns)

    def finish(self, reason: str) -> Written:
        """End the file; what it lacks makes it incomplete."""
        if self._damaged:
            first, why = next(iter(self._damaged.items()))
            self._dump.problems.append(
                Problem(
                    f"{len(self._damaged)} pages cannot be read, the first because {why}",
                    f"physical address {first * self.head.block_size:#x}",
                    "they are missing from what was written, which is flagged as incomplete",
                )
            )
        missing = bool(reason or self._damaged)
        if missing and not self.head.incomplete:
            self.head = replace(self.head, status=self.head.status | kdump.INCOMPLETE)
            self.write_head()
        self._output.truncate(self._position)
        damaged = len(self._damaged)
        return Written(
            self.done - damaged, self._zeros, damaged, self._position, not missing, reason
        )


def _blanked(table: bytes, batch: pipeline.Batch) -> bytes:
    """The descriptors without those of damaged pages."""
    if not batch.damaged:
        return table
    result = bytearray(table)
    for pfn in batch.damaged:
        at = batch.pfns.index(pfn) * kdump.DESCRIPTOR_SIZE
        result[at : at + kdump.DESCRIPTOR_SIZE] = bytes(kdump.DESCRIPTOR_SIZE)
    return bytes(result)


@dataclass
class _Pieces:
    """Bytes at offsets in ascending order, with zeros between them."""

    pieces: list[tuple[int, bytearray]]

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`."""
        result = bytearray(size)
        for start, data in self.pieces:
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


def _notes(dump: Dump, registers: NoteRegisters) -> tuple[bytes, int]:
    """(the notes with an empty seal at their end, where in the file its content begins)."""
    seal = Note(ppc_notes.PHYPAN, kdump.NT_SEAL, bytes(kdump.SEAL_SIZE))
    data = elfcore.write_notes([*core_notes(dump, registers), seal], dump.byte_order)
    return data, dump.page_size + kdump.SUB_HEADER_SIZE + len(data) - kdump.SEAL_SIZE


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


@hookimpl
def phypan_writers() -> list[Writer]:
    """The compressed dump."""
    help_ = "makedumpfile's compressed dump, with checksums"
    return [Writer("kdump", help_, write, splits=True)]
