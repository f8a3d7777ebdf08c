"""Plan: what a capture would do, without doing any of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phypan import api
from phypan.errors import InputError, Problem, os_errors
from phypan.formats.release_region import Pair
from phypan.live import system as live
from phypan.live.release_plan import Reservation, next_release
from phypan.live.system import NoDump
from phypan.places import opening
from phypan.places.address import local_path, shown
from phypan.rescue import copier
from phypan.rescue.first_record import first_record, memory_of, releases_usually
from phypan.rescue.outline import Outline


@dataclass(frozen=True)
class CapturePlan:
    """What a capture would do.

    mechanism  how the dump was made: phyp, fadump or kdump
    target     where it would be
    size       bytes of the file
    free       bytes that are free there; None if nothing says
    saved      bytes of memory that would be saved
    releases   what would be given back, in this order; where the kernel takes no ranges, nothing
    problems   what is inconsistent or missing in the dump
    """

    mechanism: str
    target: str
    size: int
    free: int | None
    saved: int
    releases: Sequence[Pair] = ()
    problems: Sequence[Problem] = ()


def plan_capture(
    target: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "/",
    release: bool | None = None,
    window: int = copier.WINDOW,
    **options: Any,
) -> CapturePlan:
    """What phypan.capture would do when called in the same way; nothing is written.

    Raises PhypanError: NoDump when no dump is waiting, InputError when there is no such folder.
    """
    system = live.status(root)
    if system.mechanism is None:
        raise NoDump(system.root)
    address = os.fspath(target)
    free = None
    if opening.is_here(address):
        address = local_path(address)
        with os_errors(InputError, Path(address).parent):
            free = shutil.disk_usage(Path(address).parent).free
    with api.open(system.root, source="live") as dump:
        told, plans = first_record(address, system, dump, memory_of(dump), options)
        memory = dump.memory.size
    outline = Outline.from_json(told["outline"])
    held = told["reservation"] and Reservation(*told["reservation"])
    if told["convert"] and (len(plans) != 1 or len(told["convert"]["tries"]) != 1):
        window = outline.size  # all at the end
    wanted = releases_usually(system, address) if release is None else release
    return CapturePlan(
        system.mechanism,
        shown(address),
        told["convert"]["tries"][0]["most"] if told["convert"] else outline.size,
        free,
        memory if told["convert"] else sum(piece.size for piece in outline.pieces),
        tuple(_releases(outline, held, window)) if wanted and held else (),
        [Problem(*problem) for problem in told["problems"]],
    )


def _releases(outline: Outline, held: Reservation, window: int) -> Iterator[Pair]:
    """What would be given back if each window of the file were made certain in its turn."""
    asked, at = 0, 0
    while asked < held.size:
        at = min(at + window, outline.size)
        below = outline.unsaved(at, held.start)
        while pair := next_release(held, asked, held.end if below is None else below):
            yield pair
            asked += pair.length
