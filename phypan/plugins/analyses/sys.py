"""The header that crash shows: which system this was, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from phypan import Analysis, Dump, Problem, hookimpl


@dataclass(frozen=True)
class SysRow:
    """One fact; its value is None where the dump does not tell it."""

    item: str
    value: str | None


def sys(dump: Dump) -> Iterator[SysRow]:
    """Show the system and how it ended, as crash does when it starts."""
    for item, fact in (*_FACTS, *(_TYPED if dump.types else ())):
        yield SysRow(item, _guarded(dump, item, fact))
    if not dump.types:
        what, meaning = "without types", "load, tasks and the crashed task are not known"
        dump.problems.append(Problem(what, "sys", meaning))


def _guarded(dump: Dump, item: str, fact: Callable[[Dump], str | None]) -> str | None:
    """The fact; None, and a problem, if what it is read from is damaged."""
    from phypan.linux import walk

    try:
        return fact(dump)
    except walk.faults() as error:
        dump.problems.append(Problem(walk.reason(error), item, "it is not shown"))
        return None


def _symbols(dump: Dump) -> str | None:
    if not dump.symbols:
        return None
    source = "kallsyms in the dump" if dump.symbols.source == "kallsyms" else dump.symbols.source
    types = {"BTF": "BTF in the dump", "DWARF": "DWARF of the vmlinux"}.get(dump.types or "")
    return f"{source}; types: {types or 'none'}"


def _date(dump: Dump) -> str | None:
    if dump.crash_time is None:
        return None
    return datetime.fromtimestamp(dump.crash_time, UTC).isoformat(sep=" ")


def _uptime(dump: Dump) -> str | None:
    """By the clocks of the run queues, else by the last message in the log."""
    from phypan.linux import log

    nanoseconds = max(_clocks(dump), default=0) if dump.types else 0
    if not nanoseconds:
        times = [record.time for record in log.records(dump) if record.time is not None]
        nanoseconds = max(times, default=0)
    if not nanoseconds:
        return None
    seconds = nanoseconds // 10**9
    days, clock = divmod(seconds, 86400)
    time = f"{clock // 3600:02}:{clock // 60 % 60:02}:{clock % 60:02}"
    return f"{days} days, {time}" if days else time


def _clocks(dump: Dump) -> Iterator[int]:
    from drgn.helpers.linux.sched import cpu_rq

    from phypan.linux import tasks

    for cpu in tasks.online_cpus(dump):
        yield int(cpu_rq(dump.program, cpu).clock)


def _utsname(dump: Dump) -> list[str]:
    """sysname, nodename, release, version, machine, domainname: by VMCOREINFO alone."""
    info = dump.vmcoreinfo
    address = info.symbol("init_uts_ns") if info else dump.symbols.address("init_uts_ns")
    if address is None:
        return []
    offset = info.offset("uts_namespace.name") if info else None
    # before 5.17 VMCOREINFO had no offset: the name stood behind a reference count of 4 bytes
    data = dump.kernel.space.read(address + (4 if offset is None else offset), 6 * 65)
    fields = (data[at : at + 65].split(b"\0")[0] for at in range(0, len(data), 65))
    return [field.decode("utf-8", "backslashreplace") for field in fields]


def _uts(index: int) -> Callable[[Dump], str | None]:
    def fact(dump: Dump) -> str | None:
        found = _utsname(dump)
        return found[index] if len(found) > index else None

    return fact


def _machine(dump: Dump) -> str | None:
    from phypan.formats import registers

    names = _utsname(dump)
    machine = names[4] if names else ("ppc64" if dump.byte_order == "big" else "ppc64le")
    pvr = next((pvr for cpu in dump.cpus if (pvr := (cpu.firmware or {}).get("PVR"))), None)
    processor = f" ({registers.processor(pvr)})" if pvr else ""
    return f"{machine}{processor}"


def _mmu(dump: Dump) -> str | None:
    era = dump.spaces.era
    return None if era is None else f"{era.mmu}, {dump.page_size // 1024}K pages"


def _cpus(dump: Dump) -> str | None:
    if not dump.types:
        return f"{sum(cpu.online for cpu in dump.cpus)} with registers" if dump.cpus else None
    from phypan.linux import tasks

    return str(len(tasks.online_cpus(dump)))


def _memory(dump: Dump) -> str | None:
    if not dump.types:
        return f"{dump.memory.size / (1 << 30):.1f} GiB in the dump"
    from drgn.helpers.linux.mm import totalram_pages

    return f"{int(totalram_pages(dump.program)) * dump.page_size / (1 << 30):.1f} GiB"


def _panic(dump: Dump) -> str | None:
    from phypan.linux import log, panic

    return panic.read(log.records(dump)).message


def _command_line(dump: Dump) -> str | None:
    from phypan.linux.walk import text

    return text(dump.program["saved_command_line"])


def _load(dump: Dump) -> str | None:
    from drgn.helpers.linux.sched import loadavg

    return ", ".join(f"{load:.2f}" for load in loadavg(dump.program))


def _tasks(dump: Dump) -> str | None:
    from phypan.linux import tasks

    return str(sum(1 for _ in tasks.each(dump)))


def _tainted(dump: Dump) -> str | None:
    from drgn.helpers.linux.panic import tainted

    return tainted(dump.program).replace(" ", "") or "no"


def _crashed(dump: Dump) -> str | None:
    from phypan.linux import tasks

    task = tasks.crashed(dump)
    return f'{task.pid} "{task.comm}", task {int(task.task):016x}, CPU {task.cpu}'


_FACTS: tuple[tuple[str, Callable[[Dump], str | None]], ...] = (
    ("symbols", _symbols),
    ("dump", lambda dump: dump.source),
    ("date", _date),
    ("uptime", _uptime),
    ("node", _uts(1)),
    ("release", _uts(2)),
    ("version", _uts(3)),
    ("build id", lambda dump: dump.vmcoreinfo.build_id if dump.vmcoreinfo else None),
    ("machine", _machine),
    ("MMU", _mmu),
    ("CPUs", _cpus),
    ("memory", _memory),
    ("panic", _panic),
)
_TYPED: tuple[tuple[str, Callable[[Dump], str | None]], ...] = (
    ("command line", _command_line),
    ("load average", _load),
    ("tasks", _tasks),
    ("tainted", _tainted),
    ("crashed task", _crashed),
)


def text(rows: Iterable[SysRow]) -> Iterator[str]:
    """One fact a line, as crash has them."""
    for row in rows:
        yield f"{row.item.upper():>13}: {'unknown' if row.value is None else row.value}"


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The header."""
    return [Analysis(sys, SysRow, text=text)]
