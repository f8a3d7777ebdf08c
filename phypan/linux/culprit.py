"""Which function brought the kernel down, and a signature of the crash that names it.

The innermost frames of a dead kernel are always the same: the panic itself, and the way to it. What
is looked for is what they were called for: the function that was interrupted by a fault, or that
called BUG() or panic().
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from phypan.formats.pt_regs import MSR_PR, PtRegs
from phypan.linux.panic import Death
from phypan.linux.stack import Frame

if TYPE_CHECKING:
    from phypan.dump import Dump

# Functions on the way from a fault to the end, or in which everybody waits.
_MACHINERY = re.compile(
    r"""
    v?panic | crash_fadump | (__)?crash_kexec | crash_save_\w+ | ppc_panic_\w+ | pseries_panic |
    (\w+_)?notifier_call_chain | notify_die | __?die(_\w+)? | die | oops_\w+ | make_task_dead |
    (__)?bad_page_fault | (__+)?do_page_fault | handle_page_fault | \w+_access_common\w* |
    do_bad_\w+ | (do_)?program_check\w* | (__)?_?exception(_\w+)? | unknown_\w+ | report_bug |
    (do_)?enter_rtas\w* | rtas_\w+ | (__)?warn(_\w+)? | __warn_printk | check_panic_on_warn |
    dump_stack\w* | show_\w+ | nmi_panic | (__)?nmi_\w+ | \w*system_reset\w* | smp_handle_nmi_ipi |
    \w*machine_check\w* | watchdog_\w+ | softlockup\w* | soft_nmi_\w+ | wd_\w+ |
    do_panic_on_target_cpu | panic_other_cpus_\w+ | ret_from_\w+ | start_text | \w*_common(_\w+)? |
    (__)?schedule(_\w+)? | schedule | __switch_to | preempt_schedule\w* | io_schedule\w* |
    (__)?mutex_lock\w* | (__)?ww_mutex_lock\w* | (__)?(down|up)(_\w+)? | rwsem_\w+ |
    (__)?wait_for_\w+ | do_wait_for_common | wait_on_\w+ | bit_wait\w* | __wait_on_\w+ |
    (\w*_)?raw_spin_\w+ | (native_)?queued_spin_\w+ | (__)?percpu_down\w* | context_switch |
    (__)?hrtimer_\w+ | timer_interrupt | arch_local_irq_restore | do_IRQ | __do_irq |
    interrupt_\w+ | exc_\w+ | (__)?irq_\w+ | (__)?out_of_memory | oom_\w+ | dump_header |
    \w*sleep(_range\w*)? |
    cond_resched | __cond_resched | (__)?might_\w+ | rcu_\w+ | trace_\w+ | (__)?printk | _printk
    """,
    re.VERBOSE,
)
# What handles a fault that the kernel does not survive, or warns of.
_DYING = re.compile(
    r"(__)?die | oops_\w+ | (__)?bad_page_fault | _exception(_\w+)? | (__)?report_bug | __warn |"
    r"\w*machine_check\w* | unrecoverable_\w+ | kernel_bad_stack",
    re.VERBOSE,
)
# A CPU does not go on: what matters is where a watchdog found it.
_STUCK = frozenset({"soft lockup", "hard lockup", "RCU stall"})
# The kernel's own doing: whoever asked last for memory, or was interrupted, is not to blame.
_NOBODY = frozenset({"out of memory", "system reset"})
# Where the way from user space begins: nothing above it is to blame.
_ENTRY = re.compile(r"system_call\w*|ret_from_\w+|start_kernel_thread|kthread|sys_\w+|\w*ksys_\w+")
_SUFFIX = re.compile(r"\.(?:constprop|isra|part|cold|llvm|lto_priv)(?:\.\d+)*")


@dataclass(frozen=True)
class Culprit:
    """The function that is suspected, with what it was called from.

    function  its name, without what the compiler put behind it; None if none is known
    module    None for the kernel itself
    offset    in the function, as printed; None if not known
    chain     it and its callers, innermost first
    regs      the registers that were interrupted by the fault it began with; None if none was
    """

    function: str | None = None
    module: str | None = None
    offset: str | None = None
    chain: tuple[str, ...] = ()
    regs: PtRegs | None = None


def plain(name: str) -> str:
    """A function's name without what compilers and ABIs put before and behind it."""
    return _SUFFIX.sub("", name.split("+", maxsplit=1)[0].lstrip("."))


def of_stack(dump: Dump, frames: Sequence[Frame], kind: str | None) -> Culprit:
    """The culprit on a stack; without a function if there is none on it."""
    named = [_named(dump, number, frame) for number, frame in enumerate(frames)]
    start = _behind_fault(frames, named, kind)
    chain = [each for each in named[start:] if each is not None]
    found = _repeated(chain) if kind == "stack overflow" else _first(chain, inside=not start)
    return replace(found, regs=frames[start - 1].interrupt if start else None)


def of_log(death: Death) -> Culprit:
    """The culprit by the registers and the trace that the kernel printed."""
    oops = death.oops
    if oops is None or death.kind in _NOBODY:
        return Culprit()
    calls = list(oops.calls)
    if "NIP" in oops.fields:
        calls.insert(0, (oops.fields["NIP"], oops.fields.get("module")))
    chain = [
        (plain(name), module, _offset(name))
        for name, module in calls
        if not name.startswith("0x")  # of a process
    ]
    return _repeated(chain) if death.kind == "stack overflow" else _first(chain)


def find(dump: Dump, frames: Sequence[Frame], death: Death) -> Culprit:
    """By the stack; by what the kernel printed where that is closer to the cause."""
    if death.kind in _NOBODY:
        return Culprit()
    found, printed = of_stack(dump, frames, death.kind), of_log(death)
    if printed.function is None:
        return found
    # A watchdog prints the registers of the CPU that is stuck, and may run on another one. The
    # symbols of a module may be missing here, but not in the log.
    better = death.kind in _STUCK or (printed.module is not None and found.module is None)
    return replace(printed, regs=found.regs) if found.function is None or better else found


def _offset(text: str) -> str:
    """The offset of "name+0x10/0x80"."""
    return text.partition("+")[2].partition("/")[0]


Named = tuple[str, str | None, str]  # function, module, offset


def _named(dump: Dump, number: int, frame: Frame) -> Named | None:
    symbol = dump.symbols.caller(frame.pc) if number else dump.symbols.at(frame.pc)
    if symbol is None:
        return None
    return plain(symbol.name), symbol.module, f"{frame.pc - symbol.address:#x}"


def _behind_fault(frames: Sequence[Frame], named: Sequence[Named | None], kind: str | None) -> int:
    """The first frame behind the fault that began it; 0 if it was none.

    Of several, one within the report of another, that is the outermost.
    """
    start = before = 0
    for number, frame in enumerate(frames[:-1]):
        if frame.interrupt is None or frame.interrupt["msr"] & MSR_PR:
            continue
        handler = (each[0] for each in named[before : number + 1] if each is not None)
        if kind in _STUCK:
            return number + 1
        if any(_DYING.fullmatch(name) for name in handler):
            start = number + 1
        before = number + 1
    return start


def _first(chain: Sequence[Named], *, inside: bool = True) -> Culprit:
    """The innermost function that is more than machinery, if it is on this side of the entry.

    inside  whether the chain may begin with the entry: of the function that a fault interrupted
            it is known that it is to blame
    """
    for number, (name, module, _) in enumerate(chain):
        if _ENTRY.fullmatch(name) and (inside or number):
            break
        if module is not None or not _MACHINERY.fullmatch(name):
            return _made(chain[number:])
    return Culprit()


def _repeated(chain: Sequence[Named]) -> Culprit:
    """The function that calls itself."""
    counted = Counter(name for name, _, _ in chain)
    name, times = counted.most_common(1)[0] if counted else ("", 0)
    if times < 3:
        return _first(chain)
    return _made([each for each in chain if each[0] == name][:1])


def _made(chain: Sequence[Named]) -> Culprit:
    if not chain:
        return Culprit()
    name, module, offset = chain[0]
    callers = []
    for caller, _, _ in chain:
        if _ENTRY.fullmatch(caller):
            break
        callers.append(caller)
    return Culprit(name, module, offset or None, tuple(callers))


def signature(death: Death, culprit: Culprit) -> str:
    """What is the same for the same crash on another build, machine, MMU or byte order.

    Class, function and module, and a short digest of them; nothing that has an address or a number.
    Where memory ran out it is the largest process and not a function.
    """
    if death.kind == "out of memory" and death.hog is not None:
        name = re.sub(r"\W?\d+", "", death.hog.comm) or "unknown"
        parts = [death.kind, name, "process"]
    else:
        kind = death.kind or "unknown"
        parts = [kind, culprit.function or "unknown", culprit.module or "kernel"]
    digest = sha256("\0".join(parts).encode()).hexdigest()[:12]
    return f"{' / '.join(parts)} / {digest}"
