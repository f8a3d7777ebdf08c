"""Dumps of real kernels, unpacked once into a cache: tests/README.md says what they are.

They lie in PHYPAN_REAL, or in shared/real beside the checkout. The cache is PHYPAN_CACHE, or
.cache/ in the checkout; unpacking is safe with several processes at once. PHYPAN_FURTHER names a
folder of dumps of further kernels; without it a run does not take them.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

NAMES = ("le-hash8", "le-radix10", "be-radix9")
ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PHYPAN_REAL", ROOT.parent / "shared" / "real"))
CACHE = Path(os.environ.get("PHYPAN_CACHE", ROOT / ".cache")) / "real"
FURTHER = Path(os.environ.get("PHYPAN_FURTHER", os.devnull))  # by default no folder at all
_BLOCK = 1 << 20


@dataclass(frozen=True)
class RealDump:
    """One dump: a directory that phypan opens, and what else is known of it."""

    name: str
    path: Path

    @property
    def ram(self) -> Path:
        """The RAM image of the second boot."""
        return self.path / "ram"

    @property
    def device_tree(self) -> Path:
        """The device tree of the second boot."""
        return self.path / "boot2.dtb"

    @property
    def vmlinux(self) -> Path:
        """The crashed kernel with DWARF."""
        return unpacked(f"vmlinux-{self.name[:2]}")

    @property
    def vmcore_head(self) -> bytes:
        """The head of the second kernel's own /proc/vmcore: header, program headers, notes."""
        return (self.path / "vmcore.head").read_bytes()

    @property
    def loads(self) -> list[dict[str, Any]]:
        """Its PT_LOADs: paddr, vaddr, size, sha256 of the bytes."""
        return list(json.loads((self.path / "vmcore.loads.json").read_text()))

    @property
    def registers(self) -> list[dict[str, Any]]:
        """Every CPU's registers and SLB as QEMU knew them at the crash."""
        return list(json.loads((self.path / "registers.json").read_text()))

    @property
    def console(self) -> str:
        """What both boots printed."""
        return (self.path / "console.log").read_text(errors="replace")

    @property
    def truth(self) -> str:
        """What the guest printed of itself just before it crashed."""
        match = re.search(r"PHYPAN-TRUTH-BEGIN\n(.*?)PHYPAN-TRUTH-END", self.console, re.DOTALL)
        assert match
        return match[1]


def further() -> list[Path]:
    """Dump directories of further kernels, in the folder that PHYPAN_FURTHER names.

    There are tens of them, and each takes seconds in each test: they are not for every run.
    """
    finished = (path for path in FURTHER.glob("*") if not path.name.endswith(".incomplete"))
    return sorted(path for path in finished if (path / "ram").exists())


def debuginfo(path: Path) -> Path | None:
    """The vmlinux with DWARF of a further kernel that has no types; None where it is not here."""
    cell = path / "cell.json"
    name = json.loads(cell.read_text())["cell"]["kernel"] if cell.exists() else "unknown"
    found = FURTHER.parent / "pieces" / f"{name}-debug" / "vmlinux.debug"
    return found if found.exists() else None


@functools.cache
def get(name: str) -> RealDump:
    """The dump `name`, unpacked; FileNotFoundError when it is not here."""
    source = SHARED / name
    if not source.is_dir():
        raise FileNotFoundError(f"dumps of real kernels are not in {SHARED}")
    for file in source.iterdir():
        if file.suffix == ".zst":
            unpacked(f"{name}/{file.stem}")
        else:
            _link(file, CACHE / name / file.name)
    return RealDump(name, CACHE / name)


def unpacked(name: str) -> Path:
    """A file of the shared folder without its .zst, sparse."""
    source, target = SHARED / f"{name}.zst", CACHE / name
    if not source.exists():
        raise FileNotFoundError(f"{name} is not in {SHARED}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _unpack(source, target)
    return target


def _unpack(source: Path, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.incomplete")
    with source.open("rb") as packed, unfinished.open("wb") as out:
        reader = zstandard.ZstdDecompressor().stream_reader(packed)
        size = 0
        while block := reader.read(_BLOCK):
            size += len(block)
            if block.strip(b"\0"):
                out.write(block)
            else:
                out.seek(len(block), os.SEEK_CUR)
        out.truncate(size)
    unfinished.chmod(0o755 if target.parent.name == "bin" else 0o600)
    unfinished.rename(target)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        with contextlib.suppress(FileExistsError):
            target.symlink_to(source)
