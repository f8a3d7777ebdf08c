"""The second boot's files as a real file system, so that cat, dd, cp and echo work on them.

FUSE through mfusepy, which is libfuse through ctypes: the extra "mount". Files are read directly,
without the kernel's cache, for memory that was given back changes under the reader's hands.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping

from phypan.errors import PhypanError, Unsupported
from phypan.platform.files import File
from phypan.platform.second_boot import SecondBoot

SYSFS_SIZE = 4096  # bytes that stat() tells for a file whose content is made when it is read
STATE = "model/state.json"  # what the model knows and a kernel would not show


def mount(boot: SecondBoot, directory: str | os.PathLike[str]) -> None:
    """Show the files of `boot` in `directory` until that is unmounted.

    Raises Unsupported when FUSE is not there.
    """
    try:
        import mfusepy
    except (ImportError, OSError) as error:
        raise Unsupported(
            f"FUSE is not there ({error})",
            hint="pip install 'phypan[mount]', and install libfuse3 (Debian: fuse3)",
        ) from None
    if not os.path.isdir(directory):
        raise Unsupported("not a directory", where=os.fspath(directory), hint="make it first")
    operations = type("Operations", (Files, mfusepy.Operations), {})(boot)
    try:
        mfusepy.FUSE(
            operations,
            os.fspath(directory),
            foreground=True,
            nothreads=True,
            direct_io=True,
            fsname="phypan",
        )
    except RuntimeError as error:
        raise Unsupported(
            f"FUSE refuses to mount ({error})",
            where=os.fspath(directory),
            hint="is /dev/fuse there, and may this user mount?",
        ) from None


def _state(boot: SecondBoot) -> bytes:
    state = {
        "released": boot.released,
        "registered_anew": boot.rounds,
        "dump_waiting": boot.hypervisor.active is not None,
        "console": boot.lpar.log,
    }
    return json.dumps(state).encode() + b"\n"


class Files:
    """FUSE's operations on the files as they are now, and on the directories above them."""

    use_ns = True

    def __init__(self, boot: SecondBoot) -> None:
        self._boot = boot
        self._shown: Mapping[str, File] | None = None  # until something is written

    def _files(self) -> Mapping[str, File]:
        if self._shown is None:
            state = _state(self._boot)
            model = File(lambda offset, size: state[offset : offset + size], None, len(state))
            self._shown = {**self._boot.files(), STATE: model}
        return self._shown

    def _file(self, path: str) -> File:
        found = self._files().get(path.lstrip("/"))
        if found is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    def _names(self, path: str) -> set[str]:
        """What is in a directory; empty if there is none."""
        above = path.strip("/") + "/" if path != "/" else ""
        inside = (name for name in self._files() if name.startswith(above))
        return {name[len(above) :].split("/")[0] for name in inside}

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """What stat() tells."""
        if self._names(path):
            return {"st_mode": stat.S_IFDIR | 0o500, "st_nlink": 2}
        found = self._file(path)
        mode = (0o400 if found.read else 0) | (0o200 if found.write else 0)
        size = found.size or SYSFS_SIZE
        return {"st_mode": stat.S_IFREG | mode, "st_nlink": 1, "st_size": size}

    def readdir(self, path: str, fh: int) -> list[str]:
        """The names in a directory."""
        return [".", "..", *sorted(self._names(path))]

    def open(self, path: str, flags: int) -> int:
        """Refuse what the file does not do, to root too: so does sysfs."""
        found = self._file(path)
        reads, writes = flags & os.O_ACCMODE != os.O_WRONLY, flags & os.O_ACCMODE != os.O_RDONLY
        if (reads and found.read is None) or (writes and found.write is None):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """What is there now."""
        found = self._file(path)
        return found.read(offset, size) if found.read else b""

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Hand `data` to the kernel of the model; what it does not take is EINVAL."""
        found = self._file(path)
        if found.write is None:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        self._shown = None
        try:
            found.write(data)
        except PhypanError as error:
            raise OSError(errno.EINVAL, str(error)) from None
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        """Do nothing: a shell's ">" truncates, and such files take no notice."""
        self._file(path)
