"""Diagnosis: a small text about a dump that phypan gets wrong, for a bug report.

It says what the dump is made of and what phypan made of it: headers, layouts, sizes, addresses of
areas, evidence and problems. Of memory and registers it has no content, so that it can be given
away; folders and the names of what is in them, other than phypan's own, are left out.
"""

from __future__ import annotations

import os
import platform
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import phypan
from phypan import api
from phypan.formats import ppc_notes
from phypan.formats.kernel_dump import Status
from phypan.spaces import detect
from phypan.spaces.clues import collect
from phypan.spaces.eras import ERAS

_LIBRARIES = "numpy numba drgn construct pluggy pyelftools".split()
_DUMP_FILES = """
    ram boot2.dtb ibm,kernel-dump release_region fadump_region hpt registers.json vmcore
    vmcore.kernel console.log meta.json""".split()
_MAGIC = {
    b"\x7fELF\x02\x01": "ELF, 64 bits, little-endian",
    b"\x7fELF\x02\x02": "ELF, 64 bits, big-endian",
    b"\x7fELF": "ELF of another kind",
    b"KDUMP   ": "a kdump-compressed dump",
    b"DISKDUMP": "a diskdump",
    b"makedumpfile": "a flattened dump",
    b"\xd0\x0d\xfe\xed": "a flattened device tree",
}
_SHOWN_HOLES = 64
_SHOWN_REASONS = 2
_AREAS = {  # phypan's notes
    getattr(ppc_notes, name): name
    for name in vars(ppc_notes)
    if name.startswith("NT_") and name.split("_", 1)[1].isupper()
}
Lines = Iterator[str]


def doctor(
    path: str | os.PathLike[str],
    *others: str | os.PathLike[str],
    regions: Iterable[str | os.PathLike[str]] = (),
    source: str | None = None,
    hpt: str | os.PathLike[str] | None = None,
    keys: Iterable[str | os.PathLike[str]] = (),
) -> str:
    """The text about the dump at `path`, which may be one that does not open.

    others   as for open(), like the rest
    regions
    source
    hpt

    An exception that is none of phypan's own becomes part of it: it is the bug.
    """
    given = tuple(Path(region) for region in regions)
    lines = [
        "phypan doctor",
        *_section("phypan", _versions),
        *_section("input", _input, Path(path)),
    ]
    try:
        dump = phypan.open(path, *others, regions=given, source=source, hpt=hpt, keys=keys)
    except phypan.PhypanError as error:
        return _text([*lines, "", "[open]", f"error: {_without_folders(str(error), path)}"])
    except Exception:  # noqa: BLE001 - it is what the report is about
        return _text([*lines, "", "[open]", *_bug()])
    with dump:
        for name, tell in _SECTIONS.items():
            lines += _section(name, tell, dump)
    return _without_folders(_text(lines), path)


def _text(lines: Iterable[str]) -> str:
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines) + "\n"


def _without_folders(text: str, path: str | os.PathLike[str]) -> str:
    """The text with nothing but the last part of the path."""
    for known in sorted({os.fspath(path), os.path.abspath(path)}, key=len, reverse=True):
        text = text.replace(known, Path(known).name)
    return text


def _section(name: str, tell: Callable[..., Lines], *arguments: object) -> list[str]:
    """A section; whatever goes wrong in it is its last line."""
    lines = ["", f"[{name}]"]
    try:
        lines += tell(*arguments)
    except phypan.PhypanError as error:
        lines.append(f"error: {error}")
    except Exception:  # noqa: BLE001 - it is what the report is about
        lines += _bug()
    return lines


def _bug() -> list[str]:
    """The exception that is being handled, with places in phypan and the libraries it uses."""
    kind, error, trace = sys.exc_info()
    places = []
    for frame in traceback.extract_tb(trace):
        file = Path(frame.filename)
        places.append(f"{file.parent.name}/{file.name}:{frame.lineno} {frame.name}")
    return [f"bug: {kind.__name__ if kind else '?'}: {error}", *(f"    {p}" for p in places[-12:])]


def _versions() -> Lines:
    yield f"phypan {phypan.__version__}"
    yield f"Python {platform.python_version()} on {platform.machine()} {sys.byteorder}-endian"
    for name in _LIBRARIES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name}: not there"
    for plugin in api.list_plugins():
        if plugin.origin != "built in":
            why = f", left out: {plugin.failure}" if plugin.failure else ""
            yield f"plugin {plugin.name} of {plugin.origin}{why}"


def _input(path: Path) -> Lines:
    if path.is_dir():
        names = {file.name for file in path.iterdir()}
        for name in _DUMP_FILES:
            if name in names:
                yield f"{name}: {(path / name).stat().st_size} bytes"
        yield f"{len(names - set(_DUMP_FILES))} other files"
        return
    if not path.exists():
        yield "not there"
        return
    with phypan.FileStore(path) as store:
        data = sum(length for _, length in store.data(0, store.size))
        yield f"{store.size} bytes, {data} of them not in holes of the file"
        head = bytes(store.view(0, min(store.size, 16)))
        known = [what for magic, what in _MAGIC.items() if head.startswith(magic)]
        yield f"begins as {known[0]}" if known else "begins with no signature that phypan knows"


def _opened(dump: phypan.Dump) -> Lines:
    yield f"source: {dump.source}"
    yield f"byte order: {dump.byte_order}, page size: {dump.page_size}"
    yield f"complete: {not dump.incomplete}, time of the crash known: {dump.crash_time is not None}"


def _firmware(dump: phypan.Dump) -> Lines:
    saved = dump.kernel_dump
    if saved is None:
        yield "no ibm,kernel-dump"
    else:
        flags = [flag.name for flag in Status if saved.status & flag and flag.name]
        yield f"ibm,kernel-dump version {saved.version}, status {saved.status:#06x} {flags}"
        for section in saved.sections:
            yield (
                f"{section.name}: source {section.source:#x}, {section.length:#x} bytes asked, "
                f"{section.dumped:#x} dumped, at {section.destination:#x}, "
                f"errors {section.error_flags:#06x}, request {section.request_flags:#x}"
            )
    header = dump.crash_info
    if header is not None:
        yield f"crash info header version {header.version}, {header.order}-endian"
    if dump.hptesave is not None:
        yield f"HPTE save area: {len(dump.hptesave.entries)} entries"
    for kind, area in sorted(dump.raw.items()):
        yield f"{_AREAS.get(kind, hex(kind))}: {len(area)} bytes"


def _memory(dump: phypan.Dump) -> Lines:
    pieces = list(dump.memory.pieces(0, dump.memory.end))
    present = sum(isinstance(piece, phypan.Extent) for piece in pieces)
    yield f"{dump.memory.size:#x} bytes in {present} pieces"
    for piece in pieces[:_SHOWN_HOLES]:
        state = f"{piece.state.value}: {piece.why}" if isinstance(piece, phypan.Hole) else "present"
        yield f"{piece.start:#x}-{piece.end - 1:#x} {state}"
    if len(pieces) > _SHOWN_HOLES:
        yield f"{len(pieces) - _SHOWN_HOLES} more"


def _cpus(dump: phypan.Dump) -> Lines:
    """How many of what, and no value of any."""
    kinds = Counter(
        (
            "crashed" if cpu.crashing else "online" if cpu.online else "offline",
            len(cpu.firmware or ()),
            cpu.kernel is not None,
            tuple((note.name.decode("ascii", "replace"), note.type) for note in cpu.notes),
            tuple(cpu.differences()),
        )
        for cpu in dump.cpus
    )
    for (state, firmware, kernel, notes, different), count in kinds.items():
        yield f"{count} {state}: {firmware} registers of firmware, pt_regs {kernel}, notes {notes}"
        if different:
            yield f"    firmware and kernel differ in {' '.join(different)}"


def _kernel(dump: phypan.Dump) -> Lines:
    """VMCOREINFO, which is made of layouts: symbols, sizes, offsets."""
    if dump.vmcoreinfo is None:
        yield "no VMCOREINFO"
        return
    yield from dump.vmcoreinfo.text.decode("ascii", "replace").splitlines()


def _spaces(dump: phypan.Dump) -> Lines:
    """What the page tables were taken for, and why; every era that was tried has its reason."""
    spaces = dump.spaces
    yield f"era: {spaces.era.name if spaces.era else 'none that is known'}"
    for reason in spaces.evidence:
        yield f"evidence: {reason}"
    yield from _tried(dump)
    yield f"spaces: {' '.join(spaces)}"


def _tried(dump: phypan.Dump) -> Lines:
    """The kinds of page tables there are for this MMU and page size, with what contradicts each."""
    clues = collect(dump)
    if clues.root is None:
        return
    for verdict in (detect.judge(era, clues, dump.spaces.resident) for era in ERAS):
        against = verdict.against[:_SHOWN_REASONS]
        more = len(verdict.against) - len(against)
        why = "; ".join(against) + (f"; {more} more" if more else "")
        yield f"tried: {verdict.era.name}: {len(verdict.evidence)} for it, against it: {why or '-'}"


def _debuginfo(dump: phypan.Dump) -> Lines:
    """Where names and types of the kernel come from; no value of any variable."""
    yield f"types: {dump.types or 'none'}"
    yield f"symbols: {dump.symbols.source or 'none'}"


def _problems(dump: phypan.Dump) -> Lines:
    yield from (str(problem) for problem in dump.problems)
    if not dump.problems:
        yield "none"


_SECTIONS: dict[str, Callable[[phypan.Dump], Lines]] = {
    "open": _opened,
    "firmware": _firmware,
    "memory": _memory,
    "cpus": _cpus,
    "kernel": _kernel,
    "spaces": _spaces,
    "debuginfo": _debuginfo,
    "problems": _problems,
}
