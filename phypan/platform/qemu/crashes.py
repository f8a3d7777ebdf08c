"""The ways to crash: what the guest does, and what its kernel says then.

Each is a shell script that the guest's first process runs as /bin/phypan_crash. Most write to the
module phypan_crash (guest/module), which was built for the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from phypan.errors import Unsupported

MODULE = "phypan_crash"
_SWITCH = f"/sys/module/{MODULE}/parameters/crash"
_NMI = "sleep 1000"  # the host does it


@dataclass(frozen=True)
class Crash:
    """One way.

    help    what happens, in a few words
    script  shell lines, run as root
    says    regular expression: what the kernel prints of it, and of nothing else; empty if it calls
            the firmware before it prints a word
    module  whether it takes the module
    nmi     whether the host sends a system reset interrupt when the guest is ready
    options further options of QEMU's machine
    """

    name: str
    help: str
    script: str
    says: str
    module: bool = False
    nmi: bool = False
    options: str = ""


def _by_module(name: str, help_: str, says: str, options: str = "", **settings: int) -> Crash:
    """A crash that the module makes, after these settings of /proc/sys/kernel."""
    lines = [f"echo {value} > /proc/sys/kernel/{key}" for key, value in settings.items()]
    lines += ["echo 1 > /proc/sys/kernel/panic_on_oops", f"echo {name} > {_SWITCH}"]
    return Crash(name, help_, "\n".join(lines), says, module=True, options=options)


_ALL = (
    Crash(
        "sysrq",
        "sysrq-trigger: the kernel is told to crash",
        "echo c > /proc/sysrq-trigger",
        r"sysrq: Trigger a crash",
    ),
    _by_module(
        "null",
        "a store to address 0x20 in a module",
        r"Kernel NULL pointer dereference on write at 0x0*20",
    ),
    _by_module("bug", "BUG() in a module", r"kernel BUG at .*phypan_crash\.c"),
    _by_module(
        "warn",
        "WARN() in a module, with panic_on_warn",
        r"panic_on_warn set",
        panic_on_warn=1,
    ),
    _by_module(
        "soft-lockup",
        "a CPU stays in the kernel for seconds, with softlockup_panic",
        r"Kernel panic - not syncing: softlockup: hung tasks",
        watchdog_thresh=2,
        softlockup_panic=1,
    ),
    _by_module(
        "hard-lockup",
        "a CPU keeps interrupts disabled for seconds, with hardlockup_panic",
        r"detected (hard LOCKUP on other CPUs|Hard LOCKUP)|Hard LOCKUP",
        watchdog_thresh=2,
        hardlockup_panic=1,
    ),
    _by_module(
        "deadlock",
        "two tasks wait for each other's mutex, with hung_task_panic",
        r"Kernel panic - not syncing: hung_task: blocked tasks",
        hung_task_timeout_secs=5,
        hung_task_panic=1,
    ),
    _by_module(
        "stack-overflow",
        "recursion in a module goes past the end of the stack",
        r"corrupted stack end detected inside scheduler",
    ),
    Crash(
        "out-of-memory",
        "a process takes all memory, with panic_on_oom",
        "echo 1 > /proc/sys/vm/panic_on_oom\ntail /dev/zero",
        r"Kernel panic - not syncing: Out of memory",
    ),
    _by_module(
        "recursive-fault",
        "a fault in an interrupt, and another one while it is reported",
        r"sig: 11 \[#2\]",  # after that, with fadump, it says no more
    ),
    _by_module(
        "machine-check",
        "a load from a real address that nothing answers at; QEMU checks for POWER9 and later",
        r"Machine check",
        # QEMU writes no error log for the firmware's handler, without which Linux goes on for ever.
        options="cap-fwnmi=off",
    ),
    Crash(
        "nmi",
        "the host sends a system reset interrupt",
        _NMI,
        "",
        nmi=True,
    ),
)
CRASHES: Mapping[str, Crash] = {crash.name: crash for crash in _ALL}


def named(name: str) -> Crash:
    """The crash of this name; Unsupported if there is none."""
    try:
        return CRASHES[name]
    except KeyError:
        known = ", ".join(CRASHES)
        raise Unsupported(f"no kind of crash {name!r}", hint=f"there are: {known}") from None
