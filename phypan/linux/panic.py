"""How the kernel died, by its log: the message, the class of the crash, the first fault, the oops.

The texts are those that Linux prints: kernel/panic.c, arch/powerpc/kernel/{traps,process}.c and
mm/fault.c, kernel/watchdog.c, kernel/hung_task.c, mm/oom_kill.c, lib/bug.c, arch/powerpc/kernel/
watchdog.c, eeh*.c, rtasd.c and mce.c. Of several that fit, the one that was printed first is the
cause, and what came later its consequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from phypan.formats.printk import Record

# (class, pattern): a sharper one stands before one that it contains
_CLASSES: Sequence[tuple[str, re.Pattern[str]]] = [
    (name, re.compile(pattern))
    for name, pattern in (
        ("sysrq", r"sysrq: (?:SysRq : )?Trigger a crash|SysRq : Trigger a crash"),
        ("stack overflow", r"Kernel stack overflow|stack overflow|do_IRQ: stack overflow|"
                           r"corrupted stack end detected|Thread overran stack|"
                           r"Bad kernel stack pointer"),
        ("NULL dereference", r"BUG: [Kk]ernel NULL pointer dereference|"
                             r"Unable to handle kernel NULL pointer|"
                             r"Unable to handle kernel paging request for [a-z ]+"
                             r"at address (?:0x)?0000000000000[0-9a-f]{3}\b"),
        ("bad kernel access", r"BUG: Unable to handle kernel|Unable to handle kernel|"
                              r"Kernel attempted to (?:access|execute|read|write)|"
                              r"Bad kernel (?:access|data access)"),
        ("BUG", r"kernel BUG at |Kernel BUG at |invalid opcode"),
        ("use of freed memory", r"KASAN:|BUG: KFENCE|Poison overwritten|Redzone overwritten"),
        ("list corruption", r"list_(?:add|del) corruption"),
        ("hard lockup", r"Watchdog CPU:?\d+ Hard LOCKUP|Watchdog detected hard LOCKUP|"
                        r"watchdog: CPU \d+ (?:self-detected )?hard LOCKUP|Hard LOCKUP"),
        ("soft lockup", r"soft lockup"),
        ("RCU stall", r"rcu.*(?:self-)?detected stall"),
        ("hung task", r"blocked for more than \d+ seconds|hung_task: blocked tasks"),
        ("out of memory", r"Out of memory|oom-killer|[Ss]ystem is deadlocked on memory"),
        ("machine check", r"MCE: .*|Machine check"),
        ("EEH", r"EEH: (?:Frozen|Detected|This PCI device has failed|PHB#\S+ failure)"),
        ("no init", r"Attempted to kill init|No working init found"),
        ("no root", r"Unable to mount root fs"),
        ("hypervisor event", r"RTAS: event|EPOW|ibm,os-term"),
    )
]  # fmt: skip
# What is no crash by itself, unless the kernel was told to panic of it.
_WARNINGS = frozenset({"out of memory", "RCU stall", "hung task", "soft lockup", "EEH"})
_HARDWARE = frozenset({"machine check", "EEH", "hypervisor event"})
_PANIC = re.compile(r"Kernel panic - not syncing: ?(.*)")
_OOPS = re.compile(r"Oops: (.*)")
_FIELD = {
    "nip": re.compile(r"NIP \[([0-9a-f]{16})\] (\S+)"),
    "lr": re.compile(r"LR \[([0-9a-f]{16})\] (\S+)"),
    "registers": re.compile(r"NIP: +([0-9a-f]{16}) LR: +([0-9a-f]{16})"),
    "trap": re.compile(r"TRAP: ([0-9a-f]+)"),
    "msr": re.compile(r"MSR: +([0-9a-f]{16})"),
    "dar": re.compile(r"DAR: ([0-9a-f]+)"),
    "dsisr": re.compile(r"DSISR: ([0-9a-f]+)"),
    "comm": re.compile(r"Comm: (.*?) (?:Not tainted|Tainted|Kdump)"),
    "tainted": re.compile(r"Tainted: ([A-Z ]+?)  +"),
    "hardware": re.compile(r"Hardware name: (.*)"),
    "workqueue": re.compile(r"Workqueue: (.*)"),
}
_CALL = re.compile(r"^\[([0-9a-f]{16})\] \[([0-9a-f]{16})\] (\S+?)(?:/0x[0-9a-f]+)?(?: \[(\S+)\])?"
                   r"( \(unreliable\))?$")  # fmt: skip


@dataclass(frozen=True)
class Event:
    """Something in the log that has to do with a crash."""

    kind: str  # one of the classes above
    record: Record


@dataclass
class Oops:
    """What the kernel printed of its registers and stack when it died.

    calls  function and offset of each frame, as printed; those marked unreliable left out
    """

    fields: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)


@dataclass
class Death:
    """The story of a crash as the log tells it."""

    message: str | None = None  # behind "Kernel panic - not syncing:", else of the oops
    kind: str | None = None
    first: Record | None = None  # the message that the trouble began with
    events: list[Event] = field(default_factory=list)
    oops: Oops | None = None

    @property
    def hardware(self) -> list[Event]:
        """Machine checks, EEH and RTAS events."""
        return [event for event in self.events if event.kind in _HARDWARE]


def read(records: Iterable[Record]) -> Death:
    """What the log says."""
    records = list(records)
    death = Death(events=list(_events(records)))
    panics = [match[1] for record in records if (match := _PANIC.search(record.text))]
    oopses = [match[0] for record in records if (match := _OOPS.search(record.text))]
    death.message = (panics or oopses or [None])[0]
    event = _cause(death, panics)
    if event is not None:
        death.kind, death.first = event.kind, event.record
    elif panics:
        death.kind = "panic"
    start = event.record if event else None
    death.oops = _oops(records, start)
    return death


def _events(records: Iterable[Record]) -> Iterator[Event]:
    for record in records:
        if record.facility not in (None, 0):  # what programs have written
            continue
        for kind, pattern in _CLASSES:
            if pattern.search(record.text):
                yield Event(kind, record)
                break


def _cause(death: Death, panics: Sequence[str]) -> Event | None:
    """The event that the crash comes from: the first that kills, else what the panic is about."""
    fatal = [event for event in death.events if event.kind not in _WARNINGS | _HARDWARE]
    for text in panics:
        named = [kind for kind, pattern in _CLASSES if pattern.search(text)]
        if named:
            same = [event for event in death.events if event.kind == named[0]]
            # a panic of an oops says only that: what came first tells more
            return (fatal or same)[0] if named[0] not in _WARNINGS else same[0]
    if fatal:
        return fatal[0]
    last = [event for event in death.events if event.kind in _WARNINGS | _HARDWARE]
    return last[-1] if last and panics else None


def _oops(records: Sequence[Record], start: Record | None) -> Oops | None:
    """The registers and the first call trace from `start` on."""
    at = next((n for n, record in enumerate(records) if record is start), 0)
    oops = Oops()
    tracing = done = False
    for record in records[at:]:
        for line in record.text.split("\n"):
            for name, pattern in _FIELD.items():
                match = pattern.search(line)
                if match and name not in oops.fields:
                    oops.fields[name] = match[match.lastindex or 0]
            call = _CALL.match(line.strip())
            if line.startswith("Call Trace"):
                done, tracing = bool(oops.calls), not oops.calls
            elif tracing and call and not done and not call[5]:
                oops.calls.append(call[3].lstrip("."))
            elif tracing and not call and oops.calls:
                tracing = False
    return oops if oops.calls or "nip" in oops.fields else None
