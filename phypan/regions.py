"""Regions: where the firmware put what it preserved, out of everything that says so.

The property /rtas/ibm,kernel-dump is the authority: the firmware wrote it. The text in
release_region (or debugfs's fadump_region) is a witness: the old kernel prints it from a header
that it has just made anew. Where they disagree the property is followed and a Problem says so.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from phypan.errors import BadRecord, InputError, Problem, os_errors
from phypan.extents import Extent
from phypan.formats import device_tree, fadump, kernel_dump, regsave, release_region
from phypan.formats.fadump import DebugRegion
from phypan.formats.kernel_dump import KernelDump, Section, SectionType
from phypan.formats.release_region import ReleaseRegion
from phypan.memory import Memory
from phypan.stores import Store

MAX_WITNESS = device_tree.MAX_SIZE  # bytes of a file that describes a dump
_PROPERTIES = frozenset(  # what is read of a /proc/device-tree
    "ibm,kernel-dump reg device_type #address-cells #size-cells "
    "ibm,lmb-size ibm,dynamic-memory ibm,dynamic-memory-v2".split()
)
_KINDS = {
    "CPU": SectionType.CPU_STATE,
    "HPTE": SectionType.HPTE,
    "DUMP": SectionType.REAL_MODE_REGION,
}
Text = ReleaseRegion | Sequence[DebugRegion]


@dataclass(frozen=True)
class Regions:
    """What was preserved, and where it lies in the second boot's memory.

    kernel_dump   the sections; made up from the text where there was no property
    property      the raw property, None if it was made up
    device_tree   the whole flattened tree, if one was given
    memory        (start, size) of each stretch of the partition's memory, None if unknown
    """

    kernel_dump: KernelDump
    property: bytes | None = None
    device_tree: bytes | None = None
    memory: Sequence[tuple[int, int]] | None = None
    problems: tuple[Problem, ...] = ()


@dataclass
class _Witnesses:
    """What the files say: of properties and trees the first counts."""

    property: bytes | None = None
    where: str = ""
    device_tree: bytes | None = None
    memory: Sequence[tuple[int, int]] | None = None
    texts: list[tuple[str, Text]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def take_property(self, value: bytes | None, name: str) -> None:
        if self.property is None:
            self.property, self.where = value, name
        elif value is not None and value != self.property:
            what = f"another ibm,kernel-dump than in {self.where}"
            self.problems.append(Problem(what, name, "the first that was given was followed"))


def read_regions(paths: Iterable[str | os.PathLike[str]], ram: Store) -> Regions:
    """The regions that the files at `paths` tell of, for the RAM image `ram`.

    Each may be a flattened device tree, a /proc/device-tree directory, the raw property, or the
    text of release_region or fadump_region. Raises InputError when none of them tells.
    """
    found, names = _Witnesses(), [os.fspath(path) for path in paths]
    for name in names:
        _read_one(Path(name), found)
    dump, followed, texts = _from_property(found), "the property", found.texts
    if dump is None and texts:
        (followed, text), *texts = texts
        dump = _from_text(text, ram, followed, found.problems)
    if dump is None:
        raise InputError(
            "no dump is described",
            where=", ".join(names) or None,
            hint="give the device tree of the second boot, its rtas/ibm,kernel-dump, "
            "or the text of release_region with --regions",
        )
    for name, text in texts:
        found.problems += _disagreements(dump, followed, text, name)
    return Regions(dump, found.property, found.device_tree, found.memory, tuple(found.problems))


def _from_property(found: _Witnesses) -> KernelDump | None:
    if found.property is None:
        return None
    try:
        dump = kernel_dump.read(found.property)
    except BadRecord as error:
        if not found.texts:
            raise BadRecord(str(error), where=found.where, hint=error.hint) from error
        found.problems.append(Problem(str(error), found.where, "the text was followed"))
        return None
    found.problems += [*dump.problems, *kernel_dump.section_problems(dump)]
    return dump


def _read_one(path: Path, found: _Witnesses) -> None:
    if os.path.isdir(path):
        _read_directory(path, found)
        return
    with os_errors(InputError, path), path.open("rb") as file:
        data = file.read(MAX_WITNESS + 1)
    if len(data) > MAX_WITNESS:
        raise InputError("too large to describe a dump", where=str(path))
    try:
        _recognise(data, str(path), found)
    except BadRecord as error:
        raise BadRecord(str(error), where=str(path), hint=error.hint) from error


def _recognise(data: bytes, name: str, found: _Witnesses) -> None:
    if data.startswith(device_tree.MAGIC):
        root = device_tree.read(data)
        value = device_tree.kernel_dump(root)
        if value is None:
            what, meaning = "no rtas/ibm,kernel-dump", "no dump was waiting in this boot"
            found.problems.append(Problem(what, name, meaning))
        if found.device_tree is None or found.property is None:
            found.device_tree, found.memory = data, device_tree.memory(root) or None
        found.take_property(value, name)
    elif data.isascii() and b"\0" not in data:
        text = data.decode("ascii")
        regions = fadump.read_debug_regions(text)
        found.texts.append((name, regions or release_region.read(text)))
    else:
        found.take_property(data, name)


def _read_directory(path: Path, found: _Witnesses) -> None:
    """A /proc/device-tree, or a copy of one: directories are nodes, files are properties.

    Two levels are enough for what is asked of it.
    """
    with os_errors(InputError, path):
        folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir()]
        nodes = tuple(device_tree.Node(entry.name, _properties(entry)) for entry in folders)
        root = device_tree.Node("/", _properties(path), nodes)
    value = device_tree.kernel_dump(root)
    if value is None:
        raise InputError(
            "no rtas/ibm,kernel-dump in it",
            where=str(path),
            hint="the property is there from a crash until the dump is invalidated",
        )
    found.memory = found.memory or device_tree.memory(root) or None
    found.take_property(value, str(path))


def _properties(path: Path) -> dict[str, bytes]:
    """Those that are asked for, of the files in `path`."""
    found = {}
    for name in _PROPERTIES:
        file = path / name
        if file.is_file():
            with file.open("rb") as opened:
                found[name] = opened.read(MAX_WITNESS)
    return found


def _disagreements(dump: KernelDump, followed: str, text: Text, name: str) -> Iterator[Problem]:
    """Where a text says otherwise than what is followed."""
    meaning = f"{followed} was followed"
    if isinstance(text, ReleaseRegion) and text.offsets:
        why = "the kernel prints a header that it has just made anew"
        yield Problem("offsets instead of addresses", name, f"{why}; {meaning}")
        return
    told = _sections(text) if isinstance(text, ReleaseRegion) else _from_debug(text)
    for kind in _KINDS.values():
        theirs = [section for section in told if section.type == kind]
        for said, section in itertools.zip_longest(theirs, dump.of_type(kind)):
            ours = (section.destination, section.dumped) if section else None
            if said and ours and ours[0] == said.destination and said.dumped in (0, ours[1]):
                continue
            what = f"{kind.name}: {_place(said)}, but {_place(section)} in {followed}"
            yield Problem(what, name, meaning)


def _place(section: Section | None) -> str:
    return f"{section.dumped:#x} bytes at {section.destination:#x}" if section else "nothing"


def _from_text(text: Text, ram: Store, name: str, problems: list[Problem]) -> KernelDump:
    """Sections made up from a text alone."""
    if isinstance(text, ReleaseRegion):
        problems += release_region.problems(text)
        sections = _from_regions(
            text.at(_find_save_area(text, ram, name)) if text.offsets else text
        )
    else:
        sections = _from_debug(text)
    dump = KernelDump(sections, kernel_dump.Status.PERFORMED)
    problems += kernel_dump.section_problems(dump)
    return dump


def _from_debug(regions: Sequence[DebugRegion]) -> tuple[Section, ...]:
    """One for each line; low memory begins at 0 where the line does not say."""
    return tuple(
        Section(
            _KINDS[region.name], region.source or 0, region.size, region.destination, region.dumped
        )
        for region in regions
    )


def _from_regions(text: ReleaseRegion) -> tuple[Section, ...]:
    """Sections with lengths; those that are missing follow from the layout.

    The areas follow each other without a gap: CPU state, HPTEs, 256 MiB of low memory
    (phyp_dump.c, register_dump_area()).
    """
    cpu, hpte, low = text.cpu, text.hpte, text.dump
    cpu = replace(cpu, length=cpu.length or max(0, hpte.start - cpu.start))
    hpte = replace(hpte, length=hpte.length or max(0, low.start - hpte.start))
    low = replace(low, length=low.length or release_region.LOW_MEMORY)
    return _sections(ReleaseRegion(cpu, hpte, low, text.rest))


def _sections(text: ReleaseRegion) -> tuple[Section, ...]:
    return tuple(
        Section(kind, 0, pair.length, pair.start, dumped=pair.length)
        for kind, pair in zip(_KINDS.values(), (text.cpu, text.hpte, text.dump), strict=True)
    )


def _find_save_area(text: release_region.ReleaseRegion, ram: Store, name: str) -> int:
    """Physical address of the save area: it begins with a register save area, on a page.

    The areas are at the top of memory, so the last one that is found is the right one.
    """
    last = ram.size - text.dump.start - release_region.LOW_MEMORY
    memory = Memory([Extent(0, ram.size, ram, 0)])
    found = None
    for address in memory.find(regsave.MAGIC, 0, last + len(regsave.MAGIC)):
        if address % 4096 == 0:
            found = address
    if found is None:
        raise InputError(
            "offsets instead of addresses, and no register save area in memory",
            where=name,
            hint="give the device tree or its rtas/ibm,kernel-dump as well",
        )
    return found
