"""Destination: the target for an address, and where the journal of a capture to it lies."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from phypan.errors import Unsupported
from phypan.places import State
from phypan.places.local import LocalFlow, LocalPlace
from phypan.targets import Direct, Envelope, Streamed, Target

STATE = "/var/lib/phypan"  # journals of captures to other machines; PHYPAN_STATE for another folder
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")


def is_local(address: str) -> bool:
    """Whether it is a path on this machine."""
    return address != "-" and not _SCHEME.match(address)


def journal_of(address: str) -> Path:
    """The journal of a capture to `address`: beside the file, or in a folder for all others."""
    if is_local(address):
        path = Path(address)
        return path.with_name(path.name + ".journal")
    folder = Path(os.environ.get("PHYPAN_STATE", STATE))
    words = re.findall(r"[A-Za-z0-9.-]+", _SCHEME.sub("", address))
    name = "_".join(words).strip("-") or "pipe"
    digest = hashlib.sha256(address.encode()).hexdigest()[:8]
    return folder / f"{name[-80:]}-{digest}.journal"


def open_target(
    address: str,
    *,
    safe: int = 0,
    state: State | None = None,
    begins: bytes = b"",
    length: int = 0,
    force: bool = False,
    envelope: Envelope | None = None,
) -> Target:
    """The file at `address`, made anew, or taken up again.

    safe      file offset below which it is certain to be there; 0: it is made anew
    state     what the target had said it takes to go on
    begins    what a file must begin with that is taken up again
    length    bytes that it will have, or a few more
    force     overwrite what is there
    envelope  what its bytes are wrapped in
    """
    sent = int(state.get("sent", 0)) if state else 0
    if is_local(address):
        if envelope:
            place = LocalPlace(address, kept=sent or None, force=force)
            return Streamed(LocalFlow(place, sent), envelope, sent)
        place = LocalPlace(address, kept=safe or None, begins=begins, length=length, force=force)
        return Direct(place)
    raise Unsupported(f"no way to write to {address}")
