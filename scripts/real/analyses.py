"""Checks of what phypan says of the crashed kernel: next to the guest's own words, and to peers."""

from __future__ import annotations

import logging
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from case import Case, NotApplicable, same_processes

import phypan

if TYPE_CHECKING:
    import drgn

_KERNEL = 0xC000000000000000
_NO_TRANSLATION = "crash does not walk radix tables of 4K pages, in the kernel's own vmcore neither"


def _rows(case: Case, name: str, **options: Any) -> list[Any]:
    """The rows of an analysis; by BTF and by DWARF they are the same, where there are both."""
    by_dwarf, dump = case.with_debuginfo, case.opened
    needs = phypan.analyses()[name].needs
    if dump.types is None and by_dwarf is not None:
        return list(phypan.run(by_dwarf, name, **options))
    if dump.types is None and "types" in needs:
        raise NotApplicable("the kernel carries no BTF, and its debug package was not fetched")
    rows = list(phypan.run(dump, name, **options))
    if by_dwarf is not None:
        others = list(phypan.run(by_dwarf, name, **options))
        different = [pair for pair in zip(rows, others, strict=False) if pair[0] != pair[1]]
        assert not different, f"by the dump and by DWARF: {different[0]}"
        assert len(rows) == len(others), f"{len(rows)} by the dump, {len(others)} by DWARF"
    return rows


def program(case: Case) -> drgn.Program:
    """phypan's vmcore, opened by drgn itself with the kernel's DWARF."""
    try:
        import drgn
    except ImportError as error:
        raise NotApplicable("drgn is not installed") from error
    logging.getLogger("drgn").setLevel(logging.ERROR)  # modules of hashed kernels: it says so
    found = drgn.Program()
    found.set_core_dump(case.vmcore)
    found.load_debug_info([case.debuginfo])
    return found


def by_drgn(found: drgn.Program) -> dict[int, str]:
    """Names of all tasks by process id, as drgn sees them."""
    from drgn.helpers.linux.pid import for_each_task

    return {int(t.pid): t.comm.string_().decode("utf-8", "replace") for t in for_each_task(found)}


def translation(case: Case) -> str:
    """Addresses that the guest told of translate to what is there: kernel and module."""
    space = case.opened.spaces["kernel"]
    told = re.findall(r"^([0-9a-f]{16}) \S (\S+)$", case.truth["symbols"], re.MULTILINE)
    symbols = {name: int(address, 16) for address, name in told}
    assert "_stext" in symbols, "the guest told of no symbols"
    if "linux_banner" in symbols:  # which takes CONFIG_KALLSYMS_ALL
        text = bytes(space.read(symbols["linux_banner"], 14))
        assert text == b"Linux version ", f"linux_banner reads {text!r}"
    info = case.opened.vmcoreinfo
    names = info.symbol("init_uts_ns") if info else None
    assert names is not None, "no VMCOREINFO"
    release = case.truth["uname"].split()[2].encode()
    assert release in bytes(space.read(names, 400)), "init_uts_ns has another release"
    base = re.search(r"^phypan_crash .* (0x[0-9a-f]+)", case.truth["modules"], re.MULTILINE)
    assert base, "the module is not loaded"
    assert bytes(space.read(int(base[1], 16), 64)).strip(b"\0"), "no text of the module"
    return f"era {case.opened.spaces.era.name if case.opened.spaces.era else 'unknown'}"


def hpt(case: Case) -> str:
    """Every kernel entry of the hashed page table maps what the kernel's page tables map."""
    spaces = case.opened.spaces
    if "hpt" not in spaces:
        raise NotApplicable("a radix guest has no hashed page table")
    pages = [page for page in spaces.hash_table.pages(spaces.scheme) if page.context == 0]
    addresses = [page.address + 0x321 for page in pages]
    expected = [page.entry.real + 0x321 for page in pages]
    assert len(pages) > 50, f"{len(pages)} entries of the kernel"
    for name in ("hpt", "kernel"):
        found = [int(physical) for physical in spaces[name].translate_many(addresses).physical]
        wrong = [n for n, physical in enumerate(found) if physical != expected[n]]
        assert not wrong, (
            f"{len(wrong)} of {len(pages)}, first {addresses[wrong[0]]:#x}: the entry maps "
            f"{expected[wrong[0]]:#x}, {name} {found[wrong[0]]:#x}"
        )
    regions = {spaces.era.region_of(address).name for address in addresses if spaces.era}
    return f"{len(pages)} entries in {', '.join(sorted(regions))}"


def vtop(case: Case) -> str:
    """crash's vtop translates addresses of the linear map, vmalloc, vmemmap and IO alike."""
    if not case.crash_translates:
        raise NotApplicable(_NO_TRANSLATION)
    space = case.opened.spaces["kernel"]
    for address in case.addresses:
        command = f"vtop {address:x}"
        said = case.crash_says(command)
        found = re.search(rf"^ *{address:x}  +([0-9a-f]+|\(not mapped\))", said, re.M)
        assert found, f"{command}: {' '.join(said.split())[:200]}"
        ours = space.translate(address).physical
        words = "(not mapped)" if ours is None else f"{ours:x}"
        assert found[1] == words, f"{address:#x} is {words}, by crash {found[1]}"
    return f"{len(case.addresses)} addresses"


def ps(case: Case) -> str:
    """`phypan ps` lists the guest's processes; its tasks are those of crash and drgn."""
    rows = _rows(case, "ps")
    ours = {row.pid: row.comm for row in rows if row.pid}
    same_processes(case, ours)
    witnesses = ["the guest"]
    for name, ask in (("crash", _ps_of_crash), ("drgn", lambda case: by_drgn(program(case)))):
        try:
            theirs = {pid: comm for pid, comm in ask(case).items() if pid}
        except NotApplicable:
            continue
        assert ours.keys() == theirs.keys(), f"{name}: other tasks {ours.keys() ^ theirs.keys()}"
        odd = [pid for pid in ours if _plain(ours[pid]) != _plain(theirs[pid])]
        assert not odd, f"{name}: {theirs[odd[0]]!r} is {ours[odd[0]]!r}"
        witnesses.append(name)
    return f"{len(rows)} tasks as {', '.join(witnesses)}"


def _plain(comm: str) -> str:
    """A name without what a terminal should not be given, which each shows in its own way."""
    return re.split(r"[^ -~]|\\|\?", comm)[0].rstrip()


def _ps_of_crash(case: Case) -> dict[int, str]:
    row = r"^[> ]+(\d+) +\d+ +\d+ +[0-9a-f]{16} +\S+ +\S+ +\d+ +\d+ +(\[.*\]|.*)$"
    found = re.findall(row, case.crash_says("ps"), re.MULTILINE)
    assert found, "crash lists no tasks"
    return {int(pid): re.sub(r"^\[(.*)\]$", r"\1", comm) for pid, comm in found}


def dmesg(case: Case) -> str:
    """`phypan dmesg` is what the guest printed, and what makedumpfile and crash find."""
    from phypan.platform.qemu import crashes

    rows = _rows(case, "dmesg")
    text = [line.rstrip() for line in phypan.analyses()["dmesg"].text(rows)]  # type: ignore[misc]
    for line in range(20):
        assert any(f"phypan-log: numbered line {line} value={line * line}" in t for t in text)
    pattern = crashes.named(case.cell.crash).says
    assert any(re.search(pattern, line) for line in text), f"{pattern} is not in it"
    console = re.findall(r"^\[ *\d+\.\d{6}\] .*", case.first_boot, re.MULTILINE)
    known = set(text)
    # Console and processes write to one terminal: some lines are cut in two there.
    lost = [line for line in console if line.rstrip() not in known]
    assert len(lost) <= len(console) // 20, f"{len(lost)} lines of the console, first {lost[0]!r}"
    witnesses = ["the console"]
    for name, ask, shown in (
        ("makedumpfile", dmesg_of_makedumpfile, _as_makedumpfile),
        ("crash", _log_of_crash, _as_crash),
    ):
        try:
            theirs = [shown(line) for line in ask(case).splitlines()]
        except NotApplicable:
            continue
        mine = [shown(line) for line in text]
        other = next((pair for pair in zip(mine, theirs, strict=False) if pair[0] != pair[1]), None)
        assert other is None, f"{name}: {other}"
        assert len(mine) == len(theirs), f"{name}: {len(theirs)} lines, ours {len(mine)}"
        witnesses.append(name)
    return f"{len(rows)} messages as {', '.join(witnesses)}"


def _as_makedumpfile(line: str) -> str:
    """Without time and caller, as for crash; what cannot be printed by the numbers of its bytes."""
    line = re.sub(
        r"^(?:\[ *\d+\.\d{6}\](?: \[ *[TC]\d+\](?= |$))? ?| {26}| {15})", "", line.rstrip()
    )
    return "".join(c if _printable(c) else "".join(f"\\x{b:02x}" for b in c.encode()) for c in line)


def _printable(character: str) -> bool:
    return character.isascii() and (character.isprintable() or character.isspace())


def _as_crash(line: str) -> str:
    """Without the time, printed once for several lines; dots for what cannot be printed."""
    line = re.sub(r"^(?:\[ *\d+\.\d{6}\] ?| {15})", "", line.rstrip())
    return "".join(c if _printable(c) else "." * len(c.encode()) for c in line)


def _log_of_crash(case: Case) -> str:
    return case.crash_says("log")


def dmesg_of_makedumpfile(case: Case) -> str:
    """What makedumpfile --dump-dmesg writes of phypan's vmcore."""
    program = case.shop.path("makedumpfile") / "makedumpfile"
    if not program.exists():
        raise NotApplicable("the piece makedumpfile is not there")
    if case.cell.byte_order == "big":
        raise NotApplicable("makedumpfile reads dumps of its own byte order only")
    target = case.scratch / "dmesg"
    if not target.exists():
        said = case.peer(program, "--dump-dmesg", case.vmcore, target)
        assert target.exists(), f"makedumpfile says: {' '.join(said.split())[-300:]}"
    return target.read_text("utf-8", "replace")


_CALL = re.compile(
    r"\[([0-9a-f]{16})\] \[([0-9a-f]{16})\] \.?([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+(.*)"
)
_FEW = 3
_Call = tuple[int | None, int]  # GPR1, address
_ENDS = ("panic", "vpanic", "die", "dump_stack", "dump_stack_lvl", "show_stack")


def bt(case: Case) -> str:
    """`phypan bt` shows the stack that the kernel printed as it died, and that crash shows."""
    rows = _rows(case, "bt")
    ours = [(row.sp, row.pc) for row in rows]
    interrupted = {outer.sp for row, outer in pairwise(rows) if row.interrupt}
    witnesses, silent = [], []
    for name, calls in (("the kernel", _calls_printed), ("crash", _calls_of_crash)):
        try:
            theirs = calls(case, ours)
        except NotApplicable as reason:
            silent.append(str(reason))
            continue
        # Of a function that was interrupted crash shows what some callee, an earlier one, saved.
        theirs = [call for call in theirs if name != "crash" or call[0] not in interrupted]
        lost = [f"{call[2]} at {call[1]:#x}" for call in theirs if call[:2] not in ours]
        assert not lost, f"{name} shows {', '.join(lost)}, not in it"
        assert len(theirs) >= _FEW, f"{name} shows {len(theirs)} calls"
        witnesses.append(name)
    if not witnesses:
        raise NotApplicable("; ".join(silent))
    return f"{len(rows)} frames as {', '.join(witnesses)}"


def _calls_printed(case: Case, _: list[_Call]) -> list[tuple[int, int, str]]:
    """(GPR1, address, function) of the last call trace on the console, from panic() outwards."""
    said = case.first_boot[case.first_boot.index("PHYPAN: about to crash") :]
    traces = said.split("Call Trace:")[1:]
    if not traces:
        raise NotApplicable("the kernel printed no call trace")
    found = [call.groups() for call in map(_CALL.search, traces[-1].split("\n")) if call]
    calls = [
        (int(sp, 16), int(pc, 16), name) for sp, pc, name, rest in found if "unrel" not in rest
    ]
    last = max((n for n, call in enumerate(calls) if call[2] in _ENDS), default=-1)
    return [call for call in calls[last + 1 :] if call[1] >= _KERNEL]


def _calls_of_crash(case: Case, ours: list[_Call]) -> list[tuple[int, int, str]]:
    """The same of crash's bt."""
    if case.dump.crash_info is None:
        # Others are offline after a panic, and crash gives each online CPU the next note.
        raise NotApplicable("the kernel, which has no fadump, did not say who was online")
    if len(ours) < _FEW:
        raise NotApplicable("the CPU was not in the kernel")
    row = r"^ *#\d+ \[([0-9a-f]{16})\] (\S+) at ([0-9a-f]{16})(?!.*unreliable)"
    frames = re.findall(row, case.crash_says("bt"), re.MULTILINE)
    calls = [(int(sp, 16), int(pc, 16), name) for sp, name, pc in frames]
    # crash takes the link register for the place of the innermost frame, and after an oops it
    # begins in what handled that.
    first = max(calls[0][0], ours[0][0] or 0) if calls else 0
    return [call for call in calls if call[0] > first]


def modules(case: Case) -> str:
    """`phypan modules` equals /proc/modules: names, sizes, addresses; and crash's mod."""
    rows = _rows(case, "modules")
    told = [line.split() for line in case.truth["modules"].splitlines()]
    expected = {words[0]: (int(words[1]), int(words[5], 16)) for words in told}
    ours = {row.name: (int(row.size), int(row.base)) for row in rows}
    assert ours == expected, f"{ours}, the guest said {expected}"
    try:
        if not case.crash_translates:
            raise NotApplicable(_NO_TRANSLATION)
        row = r"^ *([0-9a-f]{16})  (\S+) "
        theirs = {
            name: int(at, 16) for at, name in re.findall(row, case.crash_says("mod"), re.MULTILINE)
        }
        assert theirs == {r.name: int(r.module) for r in rows}, f"crash: {theirs}"
    except NotApplicable:
        pass
    return f"{len(rows)} modules"


def locks(case: Case) -> str:
    """`phypan locks` names the tasks that the kernel's watchdog found blocked, as a deadlock."""
    rows = _rows(case, "locks")
    if case.cell.crash != "deadlock":
        raise NotApplicable("no lock was waited for to order")
    blocked = set(re.findall(r"INFO: task (\S+):(\d+) blocked for more", case.first_boot))
    ours = {(row.comm, str(row.pid)) for row in rows if row.deadlock is not None}
    assert blocked, "the watchdog told of no task"
    assert blocked <= ours, f"the kernel said {blocked}, in deadlocks are {ours}"
    assert {row.owner for row in rows} == {row.pid for row in rows}, "who waits for whom"
    return " and ".join(f"{row.comm} waits for {row.name}" for row in rows)
