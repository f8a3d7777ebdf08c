"""First record: all that it takes to make the file, but for memory, out of a dump that waits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from typing import Any

from phypan import api, manager
from phypan.dump import Dump
from phypan.errors import InputError, NotInDump, Unsupported
from phypan.formats import ppc_notes
from phypan.live import page_flags
from phypan.live import system as live
from phypan.live.page_flags import PageFlags
from phypan.live.release_plan import Reservation
from phypan.live.store import LiveStore
from phypan.live.system import LiveSystem
from phypan.places.address import PIPE
from phypan.rescue import compressed
from phypan.rescue.outline import Outline, outline
from phypan.sinks import no_progress

VERSION = 1  # of what is in the journal


def memory_of(dump: Dump) -> LiveStore:
    """The store that all memory of a live dump lies in."""
    for extent in dump.memory.extents:
        if isinstance(extent.store, LiveStore):
            return extent.store
    raise InputError("there is no memory to save", where=dump.source)


def first_record(
    address: str, system: LiveSystem, dump: Dump, memory: LiveStore, options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[bytes]]:
    """(what the journal begins with, plans that are to be kept beside it).

    address  path of the file
    dump     the dump that waits, whose memory lies in `memory`
    options  format, dump_level, one or several, and the writer's own
    """
    own = dict(options)
    levels = own.pop("dump_level", 0)
    levels = (levels,) if isinstance(levels, int) else tuple(levels)
    name = own.pop("format", None) or ("kdump" if "compress" in own else "elf")
    convert: Mapping[str, Any] | None = None
    plans: list[bytes] = []
    if name == "elf":
        image = _image(dump, memory, levels, own)
    else:
        convert, image, plans = compressed.planned(dump, memory, name, levels, own)
    held: Reservation | None = None
    flags: PageFlags | None = None
    problems = list(dump.problems)  # those of the filter, too
    if system.mechanism == "phyp":
        held, odd = live.reservation(system, dump.kernel_dump, memory.size)
        problems += odd
    if held is not None:
        middle = held.area_start + held.area_size // 2
        flags = page_flags.calibrated(system.root, memory.size, middle)
    record = {
        "capture": VERSION,
        "target": address,
        "boot": system.boot_id,
        "dump": fingerprints(dump),
        "memory_size": memory.size,
        "outline": image.to_json(),
        "convert": convert,
        "reservation": None if held is None else astuple(held),
        "page_flags": None if flags is None else (flags.page_size, flags.byte),
        "problems": [astuple(problem) for problem in problems],
    }
    return record, plans


def releases_usually(system: LiveSystem, address: str) -> bool:
    """Whether memory is given back if nobody says: a pipe never tells that anything is safe."""
    return system.mechanism == "phyp" and address != PIPE


def _image(
    dump: Dump, memory: LiveStore, levels: Sequence[int], options: Mapping[str, Any]
) -> Outline:
    """What the ELF vmcore will be."""
    if len(levels) != 1:
        what = "an ELF vmcore has its size before it is written: there is one level only"
        raise Unsupported(what, hint="-c, -l, -p or -z for a compressed dump")
    from phypan.conversion import run  # slow to import

    writer = manager.named(api.writers(), "elf", "format")
    run.check_options(writer, options)
    chosen = dump
    if levels[0]:
        from phypan.filtering.levels import filtered  # slow to import

        chosen = filtered(dump, levels[0], shortest=writer.merges).dump
    return outline(lambda output: writer.write(chosen, output, no_progress, **options), memory)


def fingerprints(dump: Dump) -> list[str]:
    """What tells this crash from any other; either will do, for one page may be gone already.

    Every CPU's registers, as they were preserved; and a page of each MiB of low memory.
    """
    area = dump.raw.get(ppc_notes.NT_REGSAVE, b"")
    kernel = [(cpu.number, cpu.kernel.words) for cpu in dump.cpus if cpu.kernel is not None]
    registers = hashlib.sha256(area + repr(kernel).encode())
    low = hashlib.sha256()
    for address in range(_SAMPLE_EVERY // 2, _SAMPLED, _SAMPLE_EVERY):
        with suppress(NotInDump, InputError):
            low.update(dump.memory.read(address, 4096))
    return [registers.hexdigest(), low.hexdigest()]


_SAMPLED, _SAMPLE_EVERY = 256 << 20, 1 << 20  # bytes of low memory
