"""Retention: which folders of old dumps go, so that new ones find room."""

from __future__ import annotations

import re
import socket
import time

from phypan.places.shelves import Shelf
from phypan.rescue import opal_core

VMCORE, DMESG, TRIAGE = "vmcore", "vmcore-dmesg.txt", "triage.json"
_OURS = {VMCORE, DMESG, TRIAGE, VMCORE + opal_core.SUFFIX}
_DATE = r"-\d{8}-\d{6}"


def host() -> str:
    """The name of this host, as fits a folder; a kernel that was told none says "(none)"."""
    name = socket.gethostname().split(".")[0]
    known = name if name != "(none)" else ""
    return re.sub(r"[^A-Za-z0-9.-]", "_", known) or "localhost"


def new_name() -> str:
    """HOST-DATE: the folder of what is saved now, of this host."""
    return f"{host()}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def remove_old(shelf: Shelf, retention: int, newest: str) -> tuple[str, ...]:
    """Names of the folders of this host's dumps beyond `retention`, oldest first: they are removed.

    Only folders that `save` has made, with a dump in them that is complete; never `newest`.
    Raises PhypanError.
    """
    ours = re.compile(re.escape(host()) + _DATE)
    complete = [
        name
        for name in sorted(shelf.folders())
        if ours.fullmatch(name) and name != newest and VMCORE in (files := shelf.files(name))
        and files <= _OURS
    ]  # fmt: skip
    old = complete[: max(0, len(complete) - retention + 1)] if retention else []
    for name in old:
        shelf.remove(name)
    return tuple(old)
