"""The workshop: pieces that `make real` needs, each in a folder of the cache, made once.

A piece is made in NAME.incomplete and gets its name when it is whole, so that nothing is left half
done and whatever is there can be used. It is made anew when what it is made from has changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import debian
from debian import Archive, ArchiveError

ROOT = Path(__file__).resolve().parents[2]
STAMP = "piece.json"


def cache() -> Path:
    """The folder that everything lies in: PHYPAN_CACHE, or .cache in the checkout."""
    return Path(os.environ.get("PHYPAN_CACHE", ROOT / ".cache")).absolute() / "real-kernels"


@dataclass(frozen=True)
class Piece:
    """One thing that is needed.

    help     what it is, in a few words
    make     fills an empty folder, and returns what is worth knowing: versions
    needs    pieces that it is made from
    inputs   files of phypan that it is made from
    programs programs of this machine that it takes
    libraries Debian packages with the libraries that it takes
    default  whether it is made without being asked for
    """

    name: str
    help: str
    make: Callable[[Workshop, Path], dict[str, str]]
    needs: tuple[str, ...] = ()
    inputs: tuple[Path, ...] = ()
    programs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    default: bool = True


class Workshop:
    """Makes pieces in a cache folder."""

    def __init__(self, pieces: Iterable[Piece], folder: Path | None = None) -> None:
        self.pieces = {piece.name: piece for piece in pieces}
        self.folder = folder or cache()
        self._archives: dict[tuple[str, ...], Archive] = {}

    def archive(self, architecture: str, *suites: str) -> Archive:
        """Debian's archive for an architecture ("native" is this machine's)."""
        if architecture == "native":
            architecture = debian.native()
        key = (architecture, *suites)
        if key not in self._archives:
            self._archives[key] = Archive(self.folder, *key)
        return self._archives[key]

    def path(self, name: str) -> Path:
        """The folder of a piece, which may not be there yet."""
        return self.folder / "pieces" / name

    def log(self, name: str) -> Path:
        """Where the programs that make a piece print to."""
        path = self.folder / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def get(self, name: str) -> Path:
        """The folder of a piece, made with all it needs if it is not there."""
        piece = self.pieces[name]
        for need in piece.needs:
            self.get(need)
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        with (self.path(name).parent / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two of us make one piece once
            stamp = self._stamp(piece)
            if self._made(name).get("stamp") != stamp:
                self._make(piece, stamp)
        return self.path(name)

    def known(self, name: str) -> dict[str, str]:
        """What a piece that is there said of itself: versions."""
        return self._made(name)

    def _made(self, name: str) -> dict[str, str]:
        try:
            found = json.loads((self.path(name) / STAMP).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def described(self, name: str) -> str:
        """What piece.json says of a piece, in one line."""
        made = self._made(name)
        if not made:
            return "not there"
        versions = " ".join(f"{key} {value}" for key, value in made.items() if key not in _OWN)
        return f"{versions}, {int(made['bytes']) >> 20} MiB, made in {made['seconds']} s"

    def _stamp(self, piece: Piece) -> str:
        """Changes when what the piece is made from does."""
        digest = hashlib.sha256()
        for file in piece.inputs:
            digest.update(file.read_bytes())
        for need in piece.needs:
            digest.update(self._made(need).get("stamp", "").encode())
        return digest.hexdigest()

    def _make(self, piece: Piece, stamp: str) -> None:
        missing = {
            PACKAGES.get(program, program)
            for program in piece.programs
            if shutil.which(program) is None
        } | {library for library in piece.libraries if not debian.installed(library)}
        if missing:
            packages = " ".join(sorted(missing))
            raise ArchiveError(f"{piece.name} takes more: apt-get install {packages}")
        target, unfinished = self.path(piece.name), self.path(piece.name + ".incomplete")
        print(f"{piece.name}: {piece.help} ...", flush=True)
        self.log(piece.name).unlink(missing_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        began = time.monotonic()
        known = piece.make(self, unfinished)
        known |= {
            "stamp": stamp,
            "seconds": f"{time.monotonic() - began:.0f}",
            "bytes": str(size(unfinished)),
        }
        (unfinished / STAMP).write_text(json.dumps(known, indent=1))
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
        print(f"{piece.name}: {self.described(piece.name)}", flush=True)


_OWN = ("stamp", "seconds", "bytes")
PACKAGES = {  # program -> Debian's package, where the names differ
    "powerpc64le-linux-gnu-gcc": "gcc-powerpc64le-linux-gnu",
    "powerpc64-linux-gnu-gcc": "gcc-powerpc64-linux-gnu libc6-dev-ppc64-cross",
    "powerpc64-linux-gnu-g++": "g++-powerpc64-linux-gnu",
    "qemu-ppc64le-static": "qemu-user-static",
    "qemu-ppc64-static": "qemu-user-static",
    "pahole": "dwarves",
    "dpkg-source": "dpkg-dev",
    "makeinfo": "texinfo",
    "xz": "xz-utils",
    "modinfo": "kmod",
    "g++": "build-essential",
}


def size(folder: Path) -> int:
    """Bytes that the files in a folder take on the disk."""
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*") if not file.is_dir())
