"""The story of a crash by its log: messages as Linux prints them, in the order of real crashes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.formats.printk import Record
from phypan.linux import culprit, panic

PANIC = "Kernel panic - not syncing: "


def log(*texts: str, step: int = 10**6) -> list[Record]:
    return [Record(n, n * step, 6, 0, None, text) for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("sysrq", ["sysrq: Trigger a crash", PANIC + "sysrq triggered crash"]),
        ("sysrq", ["SysRq : Trigger a crash", "Unable to handle kernel paging request for data at "
                   "address 0x00000000", PANIC + "Fatal exception"]),
        ("NULL dereference", ["BUG: Kernel NULL pointer dereference on write at 0x00000020",
                              "Oops: Kernel access of bad area, sig: 11 [#1]",
                              PANIC + "Fatal exception"]),
        ("NULL dereference", ["Unable to handle kernel paging request for data at address "
                              "0x00000008", PANIC + "Fatal exception in interrupt"]),
        ("bad kernel access", ["BUG: Unable to handle kernel data access at 0xdeadbeef00000000",
                               "Oops: Kernel access of bad area, sig: 11 [#1]"]),
        ("BUG", ["kernel BUG at fs/inode.c:612!", "Oops: Exception in kernel mode, sig: 5 [#1]",
                 PANIC + "Fatal exception"]),
        ("soft lockup", ["watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [insmod:77]",
                         PANIC + "softlockup: hung tasks"]),
        ("hard lockup", ["watchdog: CPU 3 detected hard LOCKUP on other CPUs 1",
                         PANIC + "Hard LOCKUP"]),
        ("hung task", ["INFO: task dd:104 blocked for more than 120 seconds.",
                       PANIC + "hung_task: blocked tasks"]),
        ("out of memory", ["oom invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0",
                           PANIC + "System is deadlocked on memory"]),
        ("out of memory", ["memhog invoked oom-killer: gfp_mask=0x100cca, order=0", PANIC +
                           "Out of memory: compulsory panic_on_oom is enabled"]),
        ("stack overflow", ["Kernel attempted to write user page",
                            PANIC + "corrupted stack end detected inside scheduler"]),
        ("machine check", ["MCE: CPU0: machine check (Severe)  UE Load/Store",
                           PANIC + "Unrecoverable Machine check"]),
        ("RCU stall", ["rcu: INFO: rcu_sched self-detected stall on CPU", PANIC + "RCU Stall"]),
        ("warning", ["WARNING: CPU: 0 PID: 1 at kernel/smp.c:420 x+0x1/0x2",
                     PANIC + "kernel: panic_on_warn set ..."]),
        ("list corruption", ["list_del corruption. prev->next should be c1, but was c2",
                             "kernel BUG at lib/list_debug.c:59!", PANIC + "Fatal exception"]),
        ("no init", [PANIC + "Attempted to kill init! exitcode=0x0000000b"]),
        ("no root file system", [PANIC + "VFS: Unable to mount root fs on unknown-block(0,0)"]),
        ("panic", [PANIC + "because a driver said so"]),
    ],
)  # fmt: skip
def test_the_class_is_that_of_what_killed_the_kernel(kind, texts) -> None:
    noise = ["Linux version 6.12", "EXT4-fs (sda1): mounted"]
    death = panic.read(log(*noise, *texts, "Rebooting in 10 seconds.."))
    assert death.kind == kind
    ours = [text for text in texts if text.startswith(PANIC)]
    assert death.message == (ours[-1].removeprefix(PANIC) if ours else texts[-1])


def test_a_kernel_that_did_not_crash_has_no_class() -> None:
    death = panic.read(log("Linux version 6.12", "random: crng init done"))
    assert (death.kind, death.message, death.first, death.oops) == (None, None, None, None)


def test_what_was_survived_before_is_not_what_killed() -> None:
    """An hour before, a program was killed for memory, and a task was blocked."""
    old = log("INFO: task dd:104 blocked for more than 120 seconds.",
              "Out of memory: Killed process 5 (hog)", step=10**6)  # fmt: skip
    new = [Record(9, 3600 * 10**9, 6, 0, None, "sysrq: Trigger a crash"),
           Record(10, 3601 * 10**9, 6, 0, None, PANIC + "sysrq triggered crash")]  # fmt: skip
    death = panic.read([*old, *new])
    assert death.kind == "sysrq"
    assert death.first is new[0]
    assert death.blocked == 104


def test_what_a_program_writes_to_the_log_is_not_the_kernels() -> None:
    forged = Record(0, 0, 4, 1, None, "kernel BUG at mm/slub.c:1!")
    death = panic.read([forged, *log("sysrq: Trigger a crash", PANIC + "sysrq triggered crash")])
    assert death.kind == "sysrq"


def test_hardware_that_complained_is_told() -> None:
    death = panic.read(log("EEH: Frozen PHB#0-PE#10000 detected", "RTAS: event: 3, Type: Platform",
                           "sysrq: Trigger a crash", PANIC + "sysrq triggered crash"))  # fmt: skip
    assert [event.kind for event in death.hardware] == ["EEH", "hypervisor event"]
    assert death.kind == "sysrq"


OOPS = """BUG: Kernel NULL pointer dereference on write at 0x00000020
Oops: Kernel access of bad area, sig: 11 [#1]
CPU: 1 UID: 0 PID: 77 Comm: sh Tainted: G           O        6.12.0 #1
NIP:  c008000000010030 LR: c008000000010050 CTR: c008000000010000
REGS: c000000004a7b8d0 TRAP: 0300   Tainted: G           O         (6.12.0)
MSR:  800000000280b033 <SF,VEC,VSX,EE,FP,ME,IR,DR,RI,LE>  CR: 24004222  XER: 00000000
CFAR: c00800000001004c DAR: 0000000000000020 DSISR: 42000000 IRQMASK: 0
NIP [c008000000010030] driver_write+0x30/0x60 [driver]
LR [c008000000010050] driver_set+0x50/0x90 [driver]
Call Trace:
[c000000004a7bb60] [c000000004a7bb90] 0xc000000004a7bb90 (unreliable)
[c000000004a7bb90] [c000000000160d70] param_attr_store+0xa0/0x110
[c000000004a7bbe0] [c00000000015fd3c] .module_attr_store+0x3c/0x60
[c000000004a7bc00] [c0000000004f2e4c] driver_more+0x4/0x8 [driver]
Code: 60000000 60000000""".split("\n")


def test_the_oops_is_read() -> None:
    death = panic.read(log(*OOPS, PANIC + "Fatal exception"))
    assert death.oops.fields == {
        "NIP": "driver_write+0x30/0x60", "module": "driver", "trap": "0300",
        "MSR": "800000000280b033", "DAR": "0000000000000020", "DSISR": "42000000", "comm": "sh",
        "taint": "G           O", "cpu": "1", "pid": "77",
    }  # fmt: skip
    assert death.oops.calls == [
        ("param_attr_store+0xa0", None),
        ("module_attr_store+0x3c", None),
        ("driver_more+0x4", "driver"),
    ]


@given(st.lists(st.builds(
    Record, st.none(), st.none() | st.integers(0, 1 << 64), st.none(), st.sampled_from([None, 0]),
    st.none(), st.text(max_size=60) | st.sampled_from([*OOPS, PANIC, "Call Trace:"]),
), max_size=30))  # fmt: skip
def test_any_log_has_a_story(records) -> None:
    death = panic.read(records)
    assert death.first is None or death.first in records
    assert panic.read([]).kind is None
    assert culprit.signature(death, culprit.Culprit())


def test_a_long_line_is_not_read_for_ever() -> None:
    """Patterns that go back and forth would take minutes."""
    import time

    hostile = ["Tainted: " + "G " * 5000, "list_add" + "x" * 20000, "rcu" + "y" * 20000,
               "task " + ":1 " * 5000, "Comm: " + "Taint" * 4000, "EEH: PHB" + "#" * 20000,
               "Unable to handle kernel paging request for " + "a " * 10000]  # fmt: skip
    start = time.process_time()
    panic.read(log(*hostile, PANIC + "x"))
    assert time.process_time() - start < 5
