"""Compressed: a capture by a writer that makes more of a dump than a copy of its memory.

A writer that has `plan` and `fill` (see phypan.hooks.Writer) is gone on with at a checkpoint, and
memory is given back behind the checkpoints that are safe. One that has not, and one that is tried
at several levels, begins anew when it was stopped, and nothing is given back before the end; what a
stream has of it is not sent again.

Which memory is dealt with: physical memory is saved in ascending order. Below a checkpoint each
page is in the file, or could not be read and is named, or was left out by the dump level that the
user asked for. That is what may be given back.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from phypan import api, manager
from phypan.dump import Dump
from phypan.errors import InputError, NotInDump, OutputError, Unsupported
from phypan.extents import Extent, Hole
from phypan.formats import lost as lost_format
from phypan.formats.lost import Lost
from phypan.hooks import Writer, Written
from phypan.live.store import LiveStore
from phypan.live.system import LiveSystem
from phypan.memory import Memory
from phypan.pages.state import PageState
from phypan.places import opening
from phypan.rescue import plans
from phypan.rescue.checkpoints import Checkpointed
from phypan.rescue.copier import GONE
from phypan.rescue.giving import Giver
from phypan.rescue.journal import Journal, Record
from phypan.rescue.local import SUFFIX
from phypan.rescue.outline import Outline, Piece
from phypan.rescue.past import Past
from phypan.rescue.sending import Differs, Sending
from phypan.rescue.target import open_sending
from phypan.sinks import Progress

_MOST_THREADS = 4  # if nobody says: the second boot has little memory
_MORE = 64 << 20  # bytes that a file may be longer than the pages in it


# -- before it begins ------------------------------------------------------------------------------


def planned(
    dump: Dump, memory: LiveStore, name: str, levels: Sequence[int], options: Mapping[str, Any]
) -> tuple[Record, Outline, list[bytes]]:
    """(what the journal is to know, which memory it is of, plans for each level).

    The outline has physical addresses where that of a copy has file offsets.
    """
    from phypan.conversion import run  # slow to import, with what the filter needs

    writer = manager.named(api.writers(), name, "format")
    run.check_options(writer, options)
    if {"keep_incomplete", "part", "parts"} & set(options):
        raise Unsupported("a capture is whole, and one file", hint="leave out the option")
    extents = list(dump.memory.extents)
    pieces = tuple(Piece(extent.offset, extent.size, extent.start) for extent in extents)
    ours = all(extent.store is memory for extent in extents)
    if "num_threads" in run.options_of(writer):
        options = {"num_threads": min(_MOST_THREADS, os.cpu_count() or 1), **options}
    made, tries = [], []
    for level in levels:
        chosen, _ = run.filtered(dump, level, writer.merges)
        tries.append(
            {"level": level, "most": chosen.memory.size + chosen.memory.size // 64 + _MORE}
        )
        if writer.plan is not None and writer.fill is not None and ours:
            made.append(writer.plan(chosen, **options))
    gone = [hole for hole in dump.memory.holes() if hole.state is PageState.DAMAGED]
    told = {
        "format": name,
        "options": dict(options),
        "tries": tries,
        "lost": [Lost(hole.start, hole.size, hole.why) for hole in gone],
    }
    return told, Outline(b"", pieces, dump.memory.end), made


def goes_on(told: Record) -> bool:
    """Whether it can be gone on with at a checkpoint, and memory be given back behind it."""
    return bool(told["sums"]) and len(told["tries"]) == 1


# -- when it is made -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Making:
    """One process's part in making the file.

    memory  the live memory, None if it is gone
    """

    journal: Journal
    system: LiveSystem
    outline: Outline
    memory: LiveStore | None
    giver: Giver
    verify: bool
    window: int
    progress: Progress

    def run(self) -> None:
        """Make the file, or what is left to be made of it."""
        while not self._made(Past.of(self.journal.records)):
            pass

    def _made(self, past: Past) -> bool:
        """Whether it is made; else there was no room for it, and it is to be tried otherwise."""
        told = past.begin["convert"]
        sending = open_sending(past, told["tries"][past.tried]["most"], self.journal.path,
                               self.verify)  # fmt: skip
        try:
            self._finish(past, sending)
        except OutputError as error:
            if not self._has_more_room(past, error):
                raise
        else:
            return True
        finally:
            sending.close()
        # Now there is room for a line in the journal.
        with suppress(FileNotFoundError):
            os.truncate(past.begin["target"] + SUFFIX, 0)
        self.journal.append({"tried": past.tried + 1})
        return False

    def _has_more_room(self, past: Past, error: OutputError) -> bool:
        more = past.tried + 1 < len(past.begin["convert"]["tries"])
        full = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC
        return more and full and opening.is_here(past.begin["target"])

    def _finish(self, past: Past, sending: Sending) -> None:
        try:
            size, lost = self._filled(past, sending)
        except Differs as error:
            again = getattr(sending, "put_again", None)
            if again is None or not past.begin["convert"]["sums"]:
                hint = "begin anew: --force; nothing was given back"
                raise OutputError(error.what, where=error.where, hint=hint) from error
            again()
            size, lost = self._filled(past, sending)
        known = [Lost(*entry) for entry in past.begin["convert"]["lost"]]
        lost = lost_format.merged(sorted({*known, *past.kept(), *lost}))
        self.journal.append({"complete": size, "lost": lost})
        sending.finish(size)

    def _filled(self, past: Past, sending: Sending) -> tuple[int, list[Lost]]:
        """(bytes of the file, what this process could not read)."""
        told = past.begin["convert"]
        writer = manager.named(api.writers(), told["format"], "format")
        with Checkpointed(
            sending, self._safe, below=past.safe, window=self.window, kept=goes_on(told)
        ) as output:
            if not told["sums"]:
                written = self._written_anew(writer, told, past.tried, output)
            else:
                plan = plans.read(self.journal.path, past.tried, told["sums"][past.tried])
                assert writer.fill is not None
                written = writer.fill(
                    plan, self._readable(past), output, self.progress, past.state, sending.again
                )
            size, lost = output.end()
        if written is not None and written.damaged and not lost and not told["sums"]:
            lost = [Lost(0, written.damaged, "so many pages could not be read, says the writer")]
        return size, lost

    def _safe(self, below: int, told: Record) -> None:
        if below:
            self.giver.safe(self.outline, below, told)
        else:
            self.journal.append(told)

    def _readable(self, past: Past) -> Memory:
        """The memory that was there when it was planned."""
        if self.memory is None:
            holes = [
                Hole(piece.at, piece.size, PageState.DAMAGED, GONE) for piece in self.outline.pieces
            ]
            return Memory([], holes)
        store = _Readable(self.memory)
        return Memory(
            Extent(piece.at, piece.size, store, piece.offset) for piece in self.outline.pieces
        )

    def _written_anew(
        self, writer: Writer, told: Record, tried: int, output: Checkpointed
    ) -> Written | None:
        """What a writer writes that has no plan."""
        from phypan.conversion import run

        if self.memory is None:
            what, hint = "the dump is gone before all of it was saved", "remove the journal"
            raise InputError(what, where=str(self.journal.path), hint=hint)
        with api.open(self.system.root, source="live") as dump:
            chosen, _ = run.filtered(dump, told["tries"][tried]["level"], writer.merges)
            return writer.write(chosen, output, self.progress, **told["options"])


class _Readable:
    """The live memory; what cannot be read is missing, and not the end of all."""

    def __init__(self, memory: LiveStore) -> None:
        self._memory = memory
        self.name, self.size, self.data = memory.name, memory.size, memory.data

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`; NotInDump where memory cannot be read."""
        try:
            self._memory.readinto(offset, buffer)
        except InputError as error:
            why = f"it could not be read: {error.what}"
            raise NotInDump(offset, PageState.DAMAGED.value, why) from error

    def view(self, offset: int, size: int) -> memoryview:
        """A copy."""
        buffer = bytearray(size)
        self.readinto(offset, memoryview(buffer))
        return memoryview(buffer).toreadonly()

    def close(self) -> None:
        """Nothing: whoever opened the memory closes it."""
