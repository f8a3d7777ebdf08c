"""Debuginfo files: whether they are of the crashed kernel, and the symbols in them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from phypan.errors import BadRecord, InputError, os_errors
from phypan.linux.symbols import Table

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

_BANNER = re.compile(rb"Linux version [ -~]{10,500}\n\0")
_KINDS = frozenset({0, 1, 2})  # STT_NOTYPE, STT_OBJECT, STT_FUNC
_RESERVED = 0xFF00  # SHN_LORESERVE: not a section
_EXECUTABLE = 4  # SHF_EXECINSTR
ROOT = Path("/usr/lib/debug")


@dataclass(frozen=True)
class DebugFile:
    """An ELF file with debuginfo.

    build_id  in hexadecimal; None if it has none
    is_kernel whether it is a vmlinux; else it is a module
    banner    linux_banner, as it is in memory; None where the file has no data
    """

    path: Path
    build_id: str | None
    is_kernel: bool
    banner: bytes | None


def inspect(path: Path) -> DebugFile:
    """What a file is; InputError if it cannot be read, BadRecord if it is no ELF file."""
    found: DebugFile = _with(path, lambda elf: _inspect(path, elf))
    return found


def _with(path: Path, use: Callable[[ELFFile], Any]) -> Any:
    """What `use` makes of the ELF file at `path`. Only here do elftools' errors become phypan's."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    with os_errors(InputError, path), path.open("rb") as file:
        try:
            return use(ELFFile(file))
        except (ELFError, ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
            hint = "a vmlinux or a .debug file is wanted; unpack vmlinuz with extract-vmlinux"
            raise BadRecord(f"not an ELF file: {error}", where=str(path), hint=hint) from error


def _inspect(path: Path, elf: ELFFile) -> DebugFile:
    identifier = None
    for section in elf.iter_sections(type="SHT_NOTE"):
        for note in section.iter_notes():  # type: ignore[attr-defined]
            if note["n_type"] == "NT_GNU_BUILD_ID":
                identifier = note["n_desc"]
    is_kernel = elf.get_section_by_name(".init.text") is not None and elf["e_type"] != "ET_REL"
    return DebugFile(path, identifier, is_kernel, _banner(elf.stream, elf) if is_kernel else None)


def _banner(file: IO[bytes], elf: ELFFile) -> bytes | None:
    section = elf.get_section_by_name(".rodata")
    if section is None or section["sh_type"] == "SHT_NOBITS":
        return None
    file.seek(section["sh_offset"])
    found = _BANNER.search(file.read(section["sh_size"]))
    return found[0].rstrip(b"\0") if found else None


def symbols(path: Path) -> Table | None:
    """The symbols of a vmlinux in order of address; None if it has none."""
    found = _with(path, lambda elf: sorted(_symbols(elf)))
    if not found:
        return None
    return Table([address for address, _ in found], [name for _, name in found])


def _symbols(elf: ELFFile) -> Iterator[tuple[int, str]]:
    """(effective address, type and name) of each symbol of code or data."""
    section = elf.get_section_by_name(".symtab")
    if section is None:
        return
    order = "<" if elf.little_endian else ">"
    names = elf.get_section(section["sh_link"]).data()
    executable = {n for n, s in enumerate(elf.iter_sections()) if s["sh_flags"] & _EXECUTABLE}
    # Not elftools' symbols: they take seconds for the hundred thousands of a kernel.
    for at, info, _, place, value, _ in struct.iter_unpack(order + "IBBHQQ", section.data()):
        end = names.find(b"\0", at)
        if info & 0xF not in _KINDS or not 0 < place < _RESERVED or end <= at:
            continue
        letter = "T" if place in executable else "D"
        kind = letter if info >> 4 else letter.lower()
        yield value, kind + names[at:end].decode("ascii", "backslashreplace")


def usual_places(build_id: str | None, release: str | None) -> Iterator[Path]:
    """Where distributions put the debuginfo of a kernel."""
    if build_id:
        yield ROOT / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    if release:
        for pattern in (
            "/usr/lib/debug/boot/vmlinux-{}",
            "/usr/lib/debug/boot/vmlinux-{}.debug",
            "/usr/lib/debug/lib/modules/{}/vmlinux",
            "/usr/lib/debug/lib/modules/{}/vmlinux.debug",
            "/usr/lib/debug/usr/lib/modules/{}/vmlinux",
            "/lib/modules/{}/build/vmlinux",
            "/lib/modules/{}/vmlinux",
            "/boot/vmlinux-{}",
        ):
            if "/" not in release:
                yield Path(pattern.format(release))
