"""VMCOREINFO: what a Linux kernel says about itself for the readers of its dump.

Linux Documentation/admin-guide/kdump/vmcoreinfo.rst; kernel/vmcore_info.c (kernel/crash_core.c,
kernel/kexec.c). Lines of KEY=VALUE; SYMBOL() and KERNELOFFSET are hexadecimal without a prefix,
NUMBER(), SIZE(), OFFSET(), LENGTH() decimal (an architecture may print some in hexadecimal).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes

NOTE_NAME = b"VMCOREINFO\0"
MAX_SIZE = 1 << 16  # bytes: the kernel gives the text one page, at the most one of 64K
START = b"OSRELEASE="  # the first line of every kernel's
NOTE_HEADER = 24  # bytes: three words, the name and its padding
_SHORT = 256


@dataclass(frozen=True)
class Vmcoreinfo(Mapping[str, str]):
    """The text, and its lines by key: info["OSRELEASE"], info["SYMBOL(_stext)"]."""

    text: bytes

    @cached_property
    def _lines(self) -> dict[str, str]:
        lines = self.text.decode("ascii", "backslashreplace").split("\n")
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def __getitem__(self, key: str) -> str:
        return self._lines[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def _number(self, key: str, base: int = 10) -> int | None:
        value = self._lines.get(key)
        if value is None:
            return None
        try:
            return int(value, 16 if value.startswith("0x") else base)
        except ValueError:
            return None

    def symbol(self, name: str) -> int | None:
        """The effective address of SYMBOL(name); None if the kernel does not say."""
        return self._number(f"SYMBOL({name})", 16)

    def size(self, name: str) -> int | None:
        """SIZE(name) in bytes; None if the kernel does not say."""
        return self._number(f"SIZE({name})")

    def offset(self, name: str) -> int | None:
        """OFFSET(struct.member) in bytes; None if the kernel does not say."""
        return self._number(f"OFFSET({name})")

    def length(self, name: str) -> int | None:
        """LENGTH(name), in elements; None if the kernel does not say."""
        return self._number(f"LENGTH({name})")

    def number(self, name: str) -> int | None:
        """NUMBER(name); None if the kernel does not say."""
        return self._number(f"NUMBER({name})")

    @property
    def page_size(self) -> int | None:
        """PAGESIZE in bytes; None if missing or not a page size of POWER."""
        size = self._number("PAGESIZE")
        return size if size in (4096, 16384, 65536, 262144) else None

    @property
    def release(self) -> str | None:
        """OSRELEASE, as uname -r prints it."""
        return self._lines.get("OSRELEASE")

    @property
    def build_id(self) -> str | None:
        """BUILD-ID in hexadecimal."""
        return self._lines.get("BUILD-ID")

    @property
    def crash_time(self) -> int | None:
        """CRASHTIME, seconds since 1970."""
        return self._number("CRASHTIME")

    def without(self, *keys: str) -> Vmcoreinfo:
        """The same text with the lines of `keys` left out."""
        unwanted = tuple(f"{key}=".encode() for key in keys)
        lines = self.text.splitlines(keepends=True)
        return Vmcoreinfo(b"".join(line for line in lines if not line.startswith(unwanted)))


def read(text: Bytes) -> Vmcoreinfo:
    """The VMCOREINFO in `text`, up to the first NUL or to where another one begins."""
    for size in (_SHORT, MAX_SIZE):  # what is no VMCOREINFO is mostly short
        data = bytes(text[:size])
        end = min(at for at in (data.find(b"\0"), data.find(START, 1), len(data)) if at >= 0)
        if end < len(data):
            break
    return Vmcoreinfo(data[:end])


def plausible(info: Vmcoreinfo) -> bool:
    """Whether it is one: a log that quotes the first line knows no page size and no symbol."""
    return bool(info.release and info.page_size and info.symbol("_stext"))


def note_order(head: Bytes) -> ByteOrder | None:
    """The byte order of the note whose header is the 24 bytes before the text; None: no note."""
    data = bytes(head)
    if len(data) != NOTE_HEADER or not data.endswith(NOTE_NAME + b"\0"):
        return None
    for order in STRUCT_ORDER:
        if int.from_bytes(data[:4], order) == len(NOTE_NAME):
            return order
    return None
