"""What is in this dump: the first thing to ask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from phypan import Analysis, Dump, Hole, hookimpl

_MAX_PIECES = 64  # stretches of memory that are shown; filtered dumps have thousands


@dataclass(frozen=True)
class InfoRow:
    """One fact."""

    section: str
    item: str
    value: str


def info(dump: Dump) -> Iterator[InfoRow]:
    """What is in a dump: kernel, memory and its holes, CPUs, what the firmware saved, problems."""
    for section, facts in (
        ("dump", _dump(dump)),
        ("kernel", _kernel(dump)),
        ("firmware", _firmware(dump)),
        ("memory", _memory(dump)),
        ("cpus", _cpus(dump)),
    ):
        for item, value in facts:
            yield InfoRow(section, item, value)
    for problem in dump.problems:
        yield InfoRow("problem", problem.where, f"{problem.what}; {problem.meaning}")


def _dump(dump: Dump) -> Iterator[tuple[str, str]]:
    yield "source", dump.source
    if dump.crash_time is not None:
        yield "time of the crash", _time(dump.crash_time)
    yield "complete", "no: memory that belongs to it is missing" if dump.incomplete else "yes"


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ")
    except (ValueError, OverflowError, OSError):  # no such year
        return f"{seconds} seconds since 1970"


def _kernel(dump: Dump) -> Iterator[tuple[str, str]]:
    yield "byte order", f"{dump.byte_order}-endian"
    yield "page size", f"{dump.page_size // 1024}K"
    text = dump.vmcoreinfo
    if text is None:
        return
    yield "release", text.release or "unknown"
    if text.build_id:
        yield "build id", text.build_id
    radix = text.number("RADIX_MMU")
    if radix is not None:
        yield "MMU", "radix" if radix else "hash"
    yield from _page_tables(dump)
    banner = _banner(dump)
    if banner:
        yield "banner", banner


def _page_tables(dump: Dump) -> Iterator[tuple[str, str]]:
    era = dump.spaces.era
    yield "page tables", era.name if era else "unknown"
    for fact in dump.spaces.evidence:
        yield "evidence", fact


# Possessive, and the number looked for ahead: memory may be full of almost banners.
_BANNER = re.compile(rb"Linux version (?=[ -~]{10,480}? #\d)[ -~]{10,512}+\n\0")


def _banner(dump: Dump) -> str | None:
    """linux_banner, which ends in a newline and a NUL: the log's copy does not."""
    for address in dump.memory.find(b"Linux version ", 0, 1 << 28):
        text = dump.memory.view(address, min(512, dump.memory.at(address).size))
        found = _BANNER.match(text)
        if found:
            return found[0][:-2].decode("ascii")
    return None


def _firmware(dump: Dump) -> Iterator[tuple[str, str]]:
    from phypan.formats.kernel_dump import Status

    saved = dump.kernel_dump
    if saved is not None:
        names = [flag.name for flag in Status if saved.status & flag and flag.name]
        yield "status", f"{saved.status:#06x} {' '.join(names)}".rstrip()
        for section in saved.sections:
            yield (
                section.name,
                f"{section.dumped:#x} of {section.length:#x} bytes from {section.source:#x} "
                f"at {section.destination:#x}",
            )
    if dump.hptesave is not None:
        yield "HPTE save area", f"{len(dump.hptesave.entries)} entries"
    header = dump.crash_info
    if header is not None:
        cpu = "an unknown CPU" if header.crashing_cpu is None else f"CPU {header.crashing_cpu}"
        yield "crash info header", f"version {header.version}, written by {cpu}"


def _memory(dump: Dump) -> Iterator[tuple[str, str]]:
    yield "readable", f"{dump.memory.size:#x} bytes ({dump.memory.size / (1 << 20):.0f} MiB)"
    pieces = dump.memory.pieces(0, dump.memory.end)
    for piece in islice(pieces, _MAX_PIECES):
        where = f"{piece.start:#x}-{piece.end - 1:#x}"
        if isinstance(piece, Hole):
            yield where, f"{piece.state.value}: {piece.why}"
        else:
            yield where, "present"
    more = sum(1 for _ in pieces)
    if more:
        yield "and more", f"{more} stretches and holes behind that"


def _cpus(dump: Dump) -> Iterator[tuple[str, str]]:
    for cpu in dump.cpus:
        regs = cpu.regs()
        state = "crashed" if cpu.crashing else "online" if cpu.online else "offline"
        saved = f"{len(cpu.firmware)} registers from firmware" if cpu.firmware else "pt_regs"
        text = f"{state}, NIP {regs['nip']:016x}, GPR1 {regs['gpr1']:016x}, MSR {regs['msr']:016x}"
        yield f"CPU {cpu.number}", f"{text}, {saved}"
        for name, (firmware, kernel) in cpu.differences().items():
            yield f"CPU {cpu.number} {name}", f"firmware {firmware:016x}, kernel {kernel:016x}"


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The summary."""
    return [Analysis(info, InfoRow)]
