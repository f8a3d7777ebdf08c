"""Regions: where the firmware put what it preserved, out of everything that says so.

The property /rtas/ibm,kernel-dump is the authority: the firmware wrote it. The text in
release_region (or debugfs's fadump_region) is a witness: the old kernel prints it from a header
that it has just made anew. Where they disagree the property is followed and a Problem says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from phypan.errors import BadRecord, InputError, Problem, os_errors
from phypan.formats import device_tree, fadump, kernel_dump, regsave, release_region
from phypan.formats.kernel_dump import KernelDump, Section, SectionType
from phypan.memory import Extent, Memory
from phypan.stores import Store

MAX_WITNESS = 64 << 20  # bytes


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
    property: bytes | None = None
    device_tree: bytes | None = None
    memory: Sequence[tuple[int, int]] | None = None
    texts: list[tuple[str, release_region.ReleaseRegion]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_regions(paths: Iterable[str | os.PathLike[str]], ram: Store) -> Regions:
    """The regions that the files at `paths` tell of, for the RAM image `ram`.

    Each may be a flattened device tree, a /proc/device-tree directory, the raw property, or the
    text of release_region or fadump_region. Raises InputError when none of them tells.
    """
    found = _Witnesses()
    for path in paths:
        _read_one(Path(path), found)
    if found.property is not None:
        dump = kernel_dump.read(found.property)
        found.problems += [*dump.problems, *kernel_dump.section_problems(dump)]
        for name, text in found.texts:
            found.problems += _disagreements(dump, text, name)
    elif found.texts:
        name, text = found.texts[0]
        found.problems += release_region.problems(text)
        dump = _from_text(text, ram, name)
    else:
        raise InputError(
            "no dump is described",
            where=", ".join(os.fspath(path) for path in paths) or None,
            hint="give the device tree of the second boot, its rtas/ibm,kernel-dump, "
            "or the text of release_region with --regions",
        )
    return Regions(dump, found.property, found.device_tree, found.memory, tuple(found.problems))


def _read_one(path: Path, found: _Witnesses) -> None:
    if path.is_dir():
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
        found.device_tree, found.memory = data, device_tree.memory(root) or None
        found.property = device_tree.kernel_dump(root) or found.property
        if found.property is None:
            found.problems.append(
                Problem("no rtas/ibm,kernel-dump", name, "no dump was waiting in this boot")
            )
    elif data.startswith(kernel_dump.VERSION.to_bytes(4, "big")):
        found.property = data
    else:
        text = data.decode("ascii", "replace")
        regions = fadump.read_debug_regions(text)
        found.texts.append((name, _from_debug(regions) if regions else release_region.read(text)))


def _read_directory(path: Path, found: _Witnesses) -> None:
    """A /proc/device-tree, or a copy of one: directories are nodes, files are properties.

    Two levels are enough for what is asked of it.
    """
    with os_errors(InputError, path):
        folders = [entry for entry in sorted(path.iterdir()) if entry.is_dir()]
        nodes = tuple(device_tree.Node(entry.name, _properties(entry)) for entry in folders)
        root = device_tree.Node("/", _properties(path), nodes)
    found.property = device_tree.kernel_dump(root)
    if found.property is None:
        raise InputError(
            "no rtas/ibm,kernel-dump in it",
            where=str(path),
            hint="the property is there from a crash until the dump is invalidated",
        )
    found.memory = device_tree.memory(root) or None


def _properties(path: Path) -> dict[str, bytes]:
    files = (entry for entry in path.iterdir() if entry.is_file())
    return {file.name: file.read_bytes() for file in files}


def _from_debug(regions: list[fadump.DebugRegion]) -> release_region.ReleaseRegion:
    pairs = {r.name: release_region.Pair(r.destination, r.size) for r in reversed(regions)}
    missing = release_region.Pair(0, 0)
    cpu, hpte, dump = (pairs.get(name, missing) for name in ("CPU", "HPTE", "DUMP"))
    return release_region.ReleaseRegion(cpu, hpte, dump, None)


def _disagreements(
    dump: KernelDump, text: release_region.ReleaseRegion, name: str
) -> Iterator[Problem]:
    """Where the text says otherwise than the property."""
    if text.offsets:
        yield Problem(
            "offsets instead of addresses",
            name,
            "the kernel prints a header that it has just made anew; the property was followed",
        )
        return
    told = (
        (SectionType.CPU_STATE, text.cpu),
        (SectionType.HPTE, text.hpte),
        (SectionType.REAL_MODE_REGION, text.dump),
    )
    for kind, pair in told:
        section = next(iter(dump.of_type(kind)), None)
        place = (section.destination, section.dumped) if section else None
        if place is None or place[0] != pair.start or (pair.length and place[1] != pair.length):
            firmware = "nothing" if place is None else f"{place[1]:#x} bytes at {place[0]:#x}"
            yield Problem(
                f"{kind.name}: {pair.length:#x} bytes at {pair.start:#x}, {firmware} "
                "in ibm,kernel-dump",
                name,
                "the property was followed",
            )


def _from_text(text: release_region.ReleaseRegion, ram: Store, name: str) -> KernelDump:
    """Sections made up from the text alone; lengths that are missing follow from the layout.

    The areas follow each other without a gap: CPU state, HPTEs, 256 MiB of low memory
    (phyp_dump.c, register_dump_area()).
    """
    if text.offsets:
        text = text.at(_find_save_area(text, ram, name))
    cpu, hpte, low = text.cpu, text.hpte, text.dump
    cpu = replace(cpu, length=cpu.length or max(0, hpte.start - cpu.start))
    hpte = replace(hpte, length=hpte.length or max(0, low.start - hpte.start))
    low = replace(low, length=low.length or release_region.LOW_MEMORY)
    sections = tuple(
        Section(kind, 0, pair.length, pair.start, dumped=pair.length)
        for kind, pair in (
            (SectionType.CPU_STATE, cpu),
            (SectionType.HPTE, hpte),
            (SectionType.REAL_MODE_REGION, low),
        )
    )
    return KernelDump(sections, kernel_dump.Status.PERFORMED)


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
