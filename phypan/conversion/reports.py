"""Reports on a conversion: what it left out and wrote, or would leave out and write."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from phypan.conversion import pipeline, working
from phypan.conversion.run import Converted
from phypan.dump import Dump
from phypan.filtering.levels import filtered, present_pages
from phypan.formats import kdump
from phypan.hooks import Writer
from phypan.pages import bits, codecs
from phypan.pages.packing import packer
from phypan.rows import Bytes, Pages

_SAMPLES = 24  # batches of pages that are compressed for an estimate


@dataclass(frozen=True)
class ReportRow:
    """One line: pages, their bytes or those of a file, and what time it takes."""

    what: str
    pages: Pages | None = None
    size: Bytes | None = None
    seconds: float | None = None


def statistics(dump: Dump, done: Converted) -> Iterator[ReportRow]:
    """What a conversion left out and what it wrote."""
    size = dump.page_size
    here = bits.count(present_pages(dump.memory, size))
    yield ReportRow("pages of the dump", here, here * size)
    yield from _excluded(done.excluded, size)
    zeros = sum(written.zeros for written in done.written)
    pages = sum(written.pages for written in done.written)
    damaged = sum(written.damaged for written in done.written)
    if damaged:
        yield ReportRow("damaged", damaged, damaged * size)
    if pages:
        yield ReportRow("zeros, which take no room", zeros, zeros * size)
        yield ReportRow("written", pages - zeros, (pages - zeros) * size)
    total = sum(written.size for written in done.written)
    name = "file" if len(done.paths) == 1 else f"{len(done.paths)} files"
    yield ReportRow(name, None, total, round(done.seconds, 3))


def _excluded(counts: Mapping[str, int], size: int) -> Iterator[ReportRow]:
    for name, count in sorted(counts.items()):
        yield ReportRow(f"left out: {name}", count, count * size)


def estimate(
    dump: Dump, writer: Writer, level: int, options: Mapping[str, Any]
) -> Iterator[ReportRow]:
    """What a conversion would leave out and write, by compressing a sample of the pages."""
    size = dump.page_size
    chosen = filtered(dump, level, shortest=writer.merges)
    stored = present_pages(chosen.dump.memory, size)
    pages = bits.count(stored)
    yield ReportRow("pages of the dump", pages + sum(chosen.counts.values()))
    yield from _excluded(chosen.counts, size)
    if writer.name != "kdump":
        yield ReportRow("written", pages, pages * size)
        yield ReportRow("file", None, chosen.dump.memory.size)
        return
    zeros, data, seconds = _sampled(chosen.dump, stored, pages, options)
    yield ReportRow("zeros, which take no room (estimate)", zeros, zeros * size)
    yield ReportRow("written (estimate)", pages - zeros, (pages - zeros) * size)
    frames = -(-chosen.dump.memory.end // size)
    head = (2 + 2 * kdump.bitmap_blocks(frames, size)) * size
    total = head + pages * kdump.DESCRIPTOR_SIZE + data
    yield ReportRow("file (estimate)", None, total, round(seconds, 3))


@dataclass(frozen=True)
class LevelRow:
    """What a dump takes at a dump level.

    left_out    what of all its pages stays away
    elf         bytes of an ELF vmcore, in which zeros take no room on disk
    compressed  bytes of a compressed dump, estimated by a sample
    seconds     that compressing takes here
    fits        which of the two fits where it is to go; None if that is not known
    """

    level: int
    left_out: Bytes
    elf: Bytes
    compressed: Bytes
    seconds: float
    fits: str | None


LEVELS = (0, 1, 3, 7, 15, 31)


def by_level(
    dump: Dump, writer: Writer, options: Mapping[str, Any], free: int | None
) -> Iterator[LevelRow]:
    """What `dump` takes at each of LEVELS, where `free` bytes are free."""
    for level in LEVELS:
        rows = {row.what: row for row in estimate(dump, writer, level, options)}
        zeros = rows["zeros, which take no room (estimate)"].size or 0
        written = rows["written (estimate)"].size or 0
        file = rows["file (estimate)"]
        left_out = sum(row.size or 0 for name, row in rows.items() if name.startswith("left out"))
        fits = None
        if free is not None:
            sizes = {"ELF": written, "compressed": file.size or 0}
            fits = " and ".join(name for name, size in sizes.items() if size <= free) or "none"
        seconds = file.seconds or 0.0
        yield LevelRow(level, left_out, written + zeros, file.size or 0, seconds, fits)


def _sampled(
    dump: Dump, stored: bits.Bits, pages: int, options: Mapping[str, Any]
) -> tuple[int, int, float]:
    """(pages of zeros, bytes of data, seconds), all of them guessed from a sample."""
    size = dump.page_size
    codec = codecs.named(options.get("compress", "zlib"))
    threads = options.get("num_threads", 0) or pipeline.threads_here()
    most = max(1, working.BATCH // size)
    pack, rank = packer(codec, size, most), bits.Rank(stored)
    count = min(_SAMPLES, -(-pages // most))
    looked = zeros = data = 0
    started = time.monotonic()
    for sample in range(count):
        first = rank.select(min(pages - 1, pages * sample // count))
        buffer, known = bytearray(most * size), bytearray(most)
        pfns = [pfn for pfn in range(first, first + most) if bits.test(stored, pfn)]
        for index, pfn in enumerate(pfns):
            part = memoryview(buffer)[index * size : (index + 1) * size]
            working.fill(dump.memory, pfn * size, part, size, memoryview(known)[index : index + 1])
        packed = pack(buffer, pfns, known[: len(pfns)])
        looked += len(pfns)
        zeros += sum(1 for stored_size in packed.sizes if not stored_size)
        data += len(packed.data)
    seconds = time.monotonic() - started
    scale = pages / looked if looked else 0.0
    return round(zeros * scale), round(data * scale), seconds * scale / threads
