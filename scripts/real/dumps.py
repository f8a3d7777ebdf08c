"""Dumps of the cells, made once: in a folder of the cache, each a dump directory of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kernels
from cells import Cell
from workshop import ROOT, Workshop

import phypan
from phypan.platform.qemu import crashes

GUEST = ROOT / "phypan" / "platform" / "qemu"
_GUEST_FILES = (
    *(GUEST / name for name in ("guest/init", "machine.py", "cpus.py")),
    *kernels.MODULE_FILES,
)
KEY = "cell.json"


def path(shop: Workshop, cell: Cell) -> Path:
    """The dump directory of a cell, which may not be there."""
    return shop.folder / "dumps" / cell.name


def vmlinux(shop: Workshop, cell: Cell) -> Path | None:
    """The kernel with DWARF, if it is there."""
    for name in (cell.kernel, f"{cell.kernel}-debug"):
        found = shop.path(name) / "vmlinux.debug"
        if found.exists():
            return found
    return None


def get(shop: Workshop, cell: Cell, report: Callable[[str], None] | None = None) -> Path:
    """The dump directory, made if it is not there or was made from something else."""
    kernel, module = shop.get(cell.kernel), shop.get(f"{cell.kernel}-module")
    busybox, qemu = shop.get(cell.busybox), shop.get(cell.qemu)
    key = _key(shop, cell)
    directory = path(shop, cell)
    if _made(directory).get("key") == key:
        return directory
    fresh = directory.with_name(f"{cell.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    order = (kernel / "modules" / "order").read_text().split()
    modules = [kernel / "modules" / name for name in order]
    began = cpu_seconds()
    phypan.simulate(
        fresh,
        guest="qemu",
        kernel=str(kernel / "vmlinux"),
        busybox=str(busybox / "busybox"),
        module=(*map(str, modules), str(module / "phypan_crash.ko")),
        mmu=cell.mmu,
        cpu=cell.cpu or None,
        cpus=cell.cpus,
        crash=cell.crash,
        mode=cell.mode,
        qemu=f"{shlex.quote(str(qemu / 'qemu-system-ppc64'))} {cell.options}",
        report=report,
    )
    debug = vmlinux(shop, cell)
    told = {
        "cell": vars(cell),
        "key": key,
        "vmlinux.debug": str(debug) if debug else None,
        "cpu seconds": round(cpu_seconds() - began, 1),
    }
    (fresh / KEY).write_text(json.dumps(told, indent=1))
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)
    return directory


def seconds(directory: Path) -> tuple[float, float]:
    """What a dump took to be made: seconds, and seconds of CPUs."""
    meta = json.loads((directory / "meta.json").read_text())
    return float(meta["seconds"]["altogether"]), float(_made(directory).get("cpu seconds", 0))


def cpu_seconds() -> float:
    """What this process and those that it has waited for have taken so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _made(directory: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((directory / KEY).read_text()))
    except (OSError, ValueError):
        return {}


def _key(shop: Workshop, cell: Cell) -> str:
    """Changes when what the guest is made of does."""
    kind = crashes.named(cell.crash)
    digest = hashlib.sha256(repr((cell, cell.options, kind.script, kind.options)).encode())
    for name in (cell.kernel, f"{cell.kernel}-module", cell.busybox, cell.qemu):
        digest.update(json.dumps(shop.known(name), sort_keys=True).encode())
    for file in _GUEST_FILES:
        digest.update(file.read_bytes())
    return digest.hexdigest()
