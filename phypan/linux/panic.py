"""How the kernel died, by its log: the message, the class of the crash, the first fault, the oops.

The texts are those that Linux prints: kernel/panic.c, kernel/watchdog.c, kernel/hung_task.c,
kernel/sched/core.c, mm/oom_kill.c, lib/bug.c, lib/list_debug.c, and of arch/powerpc
kernel/traps.c, process.c, watchdog.c, mce.c, eeh*.c, mm/fault.c, platforms/pseries/ras.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from phypan.formats.printk import Record
from phypan.linux import oom

# Classes of crashes, and what is printed of them. One that contains another stands behind it.
_CLASSES = {
    "sysrq": r"[Ss]ys[Rr]q ?: (?:SysRq : )?Trigger a crash|sysrq triggered crash",
    "stack overflow": r"[Ss]tack overflow|corrupted stack end detected|Thread overran stack|"
    r"Bad kernel stack pointer|beyond (?:kernel )?stack",
    "NULL dereference": r"[Kk]ernel NULL pointer dereference|"
    r"Unable to handle kernel paging request for [a-z ]+at address (?:0x)?0{5,}[0-9a-f]{1,3}\b",
    "list corruption": r"list_(?:add|del)\S* corruption",
    "use of freed memory": r"KASAN: |BUG: KFENCE|Poison overwritten|Redzone overwritten|"
    r"refcount_t: (?:underflow|addition on 0)",
    "bad kernel access": r"Unable to handle kernel |Bad kernel (?:data )?access|"
    r"kernel tried to execute|Bad paging request",
    "BUG": r"[Kk]ernel BUG at ",
    "hard lockup": r"[Hh]ard LOCKUP",
    "soft lockup": r"soft ?lockup",
    "RCU stall": r"rcu\S*: .*detected stall",
    "hung task": r"blocked for more than \d+ seconds|hung_task: blocked tasks",
    "out of memory": r"Out of memory|invoked oom-killer|deadlocked on memory",
    "machine check": r"MCE: |Machine check",
    "EEH": r"EEH: (?:Frozen|Detected|This PCI device has failed|PHB\S* failure)",
    "hypervisor event": r"RTAS: event|EPOW <|Unrecoverable error .*RTAS",
    "system reset": r"System Reset",
    "no init": r"Attempted to kill init|No working init found",
    "no root file system": r"Unable to mount root fs",
    "warning": r"^WARNING: |panic_on_warn",
}
_PATTERNS = [(name, re.compile(pattern)) for name, pattern in _CLASSES.items()]
# What does not kill by itself: a class of a crash only if the panic says so.
_SURVIVED = frozenset({"out of memory", "RCU stall", "hung task", "soft lockup", "warning"})
HARDWARE = frozenset({"machine check", "EEH", "hypervisor event"})
_PANIC = re.compile(r"Kernel panic - not syncing: ?(.*)")
_OOPS = re.compile(r"Oops: .*")
_TOGETHER = 5 * 10**9  # nanoseconds between faults that are of one crash
_FIELDS = {
    "NIP": re.compile(r"NIP \[[0-9a-f]{16}\] (\S+)(?: \[(\S+)\])?"),
    "trap": re.compile(r"TRAP: ([0-9a-f]+)"),
    "MSR": re.compile(r"MSR: +([0-9a-f]{16})"),
    "DAR": re.compile(r"DAR: ([0-9a-f]+)"),
    "DSISR": re.compile(r"DSISR: ([0-9a-f]+)"),
    "cpu": re.compile(r"^CPU: (\d+)"),
    "pid": re.compile(r"\bPID: (\d+)"),
    "comm": re.compile(r"Comm: (.*?) (?:Not tainted|Tainted|Kdump)"),
    "taint": re.compile(r"Tainted: ((?:[A-Z] *)+) "),
    "workqueue": re.compile(r"Workqueue: (.*)"),
}
_CALL = re.compile(
    r"^\[[0-9a-f]{16}\] \[[0-9a-f]{16}\] (?P<name>\S+?)(?:/0x[0-9a-f]+)?(?: \[(?P<module>\S+)\])?"
    r"(?P<unsure> \(unreliable\))?$"
)
_BLOCKED = re.compile(r"task (?P<comm>.*):(?P<pid>\d+) blocked for more than (?P<seconds>\d+)")


@dataclass(frozen=True)
class Event:
    """Something in the log that has to do with a crash: its class, and the message."""

    kind: str
    record: Record


@dataclass
class Oops:
    """What the kernel printed of its registers and stack.

    fields  NIP (function and offset), module, trap, MSR, DAR, DSISR, cpu, pid, comm, taint, as
            printed before the trace; behind it are those of what called the kernel
    calls   (function and offset, module) of each frame, innermost first; unreliable ones left out
    """

    fields: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, str | None]] = field(default_factory=list)


@dataclass
class Death:
    """The story of a crash as the log tells it.

    message  behind "Kernel panic - not syncing:", else the oops; None if neither was printed
    kind     the class; None if nothing of a crash was printed
    first    the message that the trouble began with
    blocked  pid of the first task that was reported as blocked
    oopses   how often the kernel faulted from then on
    hog      the process that had most memory, by the list that is printed when none is left
    """

    message: str | None = None
    kind: str | None = None
    first: Record | None = None
    events: list[Event] = field(default_factory=list)
    oops: Oops | None = None
    blocked: int | None = None
    oopses: int = 0
    hog: oom.Process | None = None

    @property
    def hardware(self) -> list[Event]:
        """Machine checks, EEH and RTAS events."""
        return [event for event in self.events if event.kind in HARDWARE]


def read(records: Iterable[Record]) -> Death:
    """What the log says."""
    records = list(records)
    death = Death(events=list(_events(records)))
    panics = [(record, m[1]) for record in records if (m := _PANIC.search(record.text))]
    oopses = [m[0] for record in records if (m := _OOPS.search(record.text))]
    death.message = panics[0][1] if panics else oopses[-1] if oopses else None
    before = panics[0][0] if panics else None
    death.kind, death.first = _cause(death.events, death.message, before)
    if death.kind is None and panics:
        death.kind, death.first = "panic", panics[0][0]
    if death.first is not None:
        since = next(n for n, record in enumerate(records) if record is death.first)
        death.oops = _oops(records[since:])
        death.oopses = sum(_OOPS.search(record.text) is not None for record in records[since:])
    blocked = [m["pid"] for record in records if (m := _BLOCKED.search(record.text))]
    death.blocked = int(blocked[0]) if blocked else None
    death.hog = oom.of_log(records)
    return death


def classify(text: str) -> str | None:
    """The class of crash that a message of the kernel is about; None if it is about none."""
    return next((name for name, pattern in _PATTERNS if pattern.search(text)), None)


def _events(records: Iterable[Record]) -> Iterator[Event]:
    for record in records:
        # Not what programs have written, nor what a file system says of its superblock.
        ours = record.facility in (None, 0) and not _CALL.match(record.text.strip())
        kind = classify(record.text) if ours else None
        if kind is not None:
            yield Event(kind, record)


def _cause(
    events: Sequence[Event], message: str | None, end: Record | None
) -> tuple[str | None, Record | None]:
    """(class, first message) of what killed the kernel, and not of what it survived before.

    end  the panic; None where an oops was the last that was printed
    """
    told = classify(message) if message else None
    ends = [number for number, event in enumerate(events) if event.record is end]
    events = events[: ends[0]] if ends else events
    if told in _SURVIVED or told == "sysrq":
        same = [event.record for event in events if event.kind == told]
        if told == "hung task":  # the task that was blocked first is behind the others
            return told, same[0] if same else end
        return told, same[-1] if same else end
    killed = [e for e in events if e.kind not in _SURVIVED | HARDWARE or e.kind == told]
    if killed:
        first = _first_of_last(killed)
        return (told or first.kind), first.record
    if told is not None:
        return told, end
    survived = [event for event in events if end is not None]
    return (survived[-1].kind, survived[-1].record) if survived else (None, None)


def _first_of_last(events: Sequence[Event]) -> Event:
    """The first of the events that came close together before the end."""
    first = events[-1]
    for event in reversed(events):
        if first.record.time is None or event.record.time is None:
            break
        if first.record.time - event.record.time > _TOGETHER:
            break
        first = event
    return first


def _oops(records: Iterable[Record]) -> Oops:
    """The registers and the first call trace."""
    lines = [line for record in records for line in record.text.split("\n")]
    oops = Oops()
    for line in takewhile(lambda line: not line.startswith("Call Trace:"), lines):
        for name, pattern in _FIELDS.items():
            match = pattern.search(line)
            if match and name not in oops.fields:
                oops.fields[name] = match[1].strip()
                if name == "NIP" and match[2]:
                    oops.fields["module"] = match[2]
    for line in _first_trace(lines):
        call = _CALL.match(line)
        if call and not call["unsure"]:
            oops.calls.append((call["name"].lstrip("."), call["module"]))
    return oops


def _first_trace(lines: Sequence[str]) -> Iterator[str]:
    started = False
    for line in lines:
        text = line.strip()
        if started and not _CALL.match(text):
            return
        if started:
            yield text
        started = started or text.startswith("Call Trace:")
