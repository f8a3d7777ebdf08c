"""makedumpfile's compressed dump: pages one by one, with checksums that other tools do not see.

What its readers need: crash counts the NT_PRSTATUS notes; libkdumpfile wants a machine of "ppc64"
or "ppc64le" and a tv_usec of 0. Pages of zeros share one stored page, whatever is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from phypan import (
    Checkpoints,
    Dump,
    Memory,
    NoteRegisters,
    Output,
    OutputError,
    Problem,
    Progress,
    Writer,
    Written,
    hookimpl,
    pipeline,
)
from phypan.formats import kdump, lost
from phypan.formats.lost import Lost
from phypan.pages import bits, codecs, packing
from phypan.plugins.writers.kdump_plan import Plan

Compression = Literal["zlib", "lzo", "snappy", "zstd", "none", "keep"]


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
    job = _Job(Plan.of(dump, registers, compress, num_threads, part, parts), output)
    reason = ""
    try:
        for _ in job.batches(dump.memory, progress):
            job.forget_lost()
    except (KeyboardInterrupt, OutputError) as error:
        if not keep_incomplete:
            raise
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    if job.damaged:
        dump.problems.append(
            Problem(
                f"{job.damaged} pages cannot be read, the first because {job.first_lost.why}",
                f"physical address {job.first_lost.at:#x}",
                "they are missing from what was written, which is flagged as incomplete",
            )
        )
    return job.finish(reason)


def plan(
    dump: Dump,
    *,
    registers: NoteRegisters = "os",
    compress: Compression = "zlib",
    num_threads: int = 0,
) -> bytes:
    """All that a file takes of `dump`, but for the content of pages: see Writer.plan."""
    return Plan.of(dump, registers, compress, num_threads).to_bytes()


def fill(
    planned: bytes,
    memory: Memory,
    output: Checkpoints,
    progress: Progress,
    state: Mapping[str, Any],
    again: bool,
) -> Written:
    """Write what `write` writes, or what of it is behind a checkpoint: see Writer.fill."""
    job = _Job(Plan.from_bytes(planned), output, state)
    for below in job.batches(memory, progress):
        output.checkpoint(below, job.state(), job.forget_lost())
    return job.finish("", again=again)


class _Job:
    """One file while it is written, from the beginning or from behind what `state` tells.

    done        pages written so far, of `total`
    damaged     of them, those that could not be read; the first of these, in this process
    """

    def __init__(self, plan: Plan, output: Output, state: Mapping[str, Any] | None = None) -> None:
        self._plan, self._output = plan, output
        self.total = bits.count(plan.mine)
        state = state or {}
        self._begun = bool(state)
        self.done: int = state.get("done", 0)
        first_data = plan.head.descriptors_at + self.total * kdump.DESCRIPTOR_SIZE
        self._position: int = state.get("position", first_data)
        self._zeros_at: int = state.get("zeros_at", 0)  # until there is a page of zeros
        self._zeros: int = state.get("zeros", 0)
        self.damaged: int = state.get("damaged", 0)
        self.first_lost = Lost(0, 0, "")
        self._lost: list[Lost] = []

    def state(self) -> Mapping[str, Any]:
        """What it takes to go on from here."""
        return {
            "done": self.done,
            "position": self._position,
            "zeros_at": self._zeros_at,
            "zeros": self._zeros,
            "damaged": self.damaged,
        }

    def forget_lost(self) -> Sequence[Lost]:
        """What could not be read since the last call, at physical addresses."""
        found, self._lost = self._lost, []
        return found

    def batches(self, memory: Memory, progress: Progress) -> Iterator[int]:
        """Write the pages that are not written; after each batch, below which address all are."""
        plan, size = self._plan, self._plan.head.block_size
        if not self._begun:
            plan.put(self._output)
        keep = plan.compress == "keep"
        pages = pipeline.compressed(
            memory, self._left(), size, codecs.named("zlib" if keep else plan.compress),
            keep=keep, threads=plan.num_threads,
        )  # fmt: skip
        try:
            for batch in pages:
                self._write(batch)
                progress(self.done * size, self.total * size)
                yield (batch.pfns[-1] + 1) * size
        finally:
            pages.close()

    def _left(self) -> bits.Bits:
        mine = self._plan.mine
        if not self.done:
            return mine
        left = bytearray(mine)
        rank = bits.Rank(mine)
        first = rank.select(self.done) if self.done < rank.total else len(left) * 8
        bits.set_run(left, 0, first, False)
        return left

    def _write(self, batch: pipeline.Batch) -> None:
        """The descriptors and the data of some pages."""
        packed, size = batch.packed, self._plan.head.block_size
        if packed.zeros and not self._zeros_at:
            self._output.write_at(self._position, bytes(size))
            self._zeros_at, self._position = self._position, self._position + size
        order = self._plan.head.order
        table = packing.descriptors(order, packed, size, self._position, self._zeros_at)
        self._output.write_at(self._position, packed.data)
        at = self._plan.head.descriptors_at + self.done * kdump.DESCRIPTOR_SIZE
        self._output.write_at(at, _blanked(table, batch))
        self._position += len(packed.data)
        self._zeros += packed.zeros - len(batch.damaged)
        self.done += len(batch.pfns)
        if batch.damaged:
            found = [Lost(pfn * size, size, why) for pfn, why in sorted(batch.damaged.items())]
            self.first_lost = self.first_lost if self.first_lost.size else found[0]
            self.damaged += len(found)
            self._lost = lost.merged([*self._lost, *found])

    def finish(self, reason: str, *, again: bool = False) -> Written:
        """End the file; what it lacks makes it incomplete."""
        missing = bool(reason or self.damaged)
        if missing and not self._plan.head.incomplete:
            self._plan.incomplete().put(self._output)
        elif again:  # it may say that it is incomplete
            self._plan.put(self._output)
        self._output.truncate(self._position)
        pages = self.done - self.damaged
        return Written(
            pages, self._zeros, self.damaged, self._position, not missing, reason
        )  # fmt: skip


def _blanked(table: bytes, batch: pipeline.Batch) -> bytes:
    """The descriptors without those of damaged pages."""
    if not batch.damaged:
        return table
    result = bytearray(table)
    for index, pfn in enumerate(batch.pfns):
        if pfn in batch.damaged:
            at = index * kdump.DESCRIPTOR_SIZE
            result[at : at + kdump.DESCRIPTOR_SIZE] = bytes(kdump.DESCRIPTOR_SIZE)
    return bytes(result)


@hookimpl
def phypan_writers() -> list[Writer]:
    """The compressed dump."""
    help_ = "makedumpfile's compressed dump, with checksums"
    return [Writer("kdump", help_, write, splits=True, plan=plan, fill=fill)]
