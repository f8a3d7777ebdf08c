"""What real kernels printed when they crashed in ways that were made: class, culprit, signature."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from phypan.formats.printk import Record
from phypan.linux import culprit, fault, panic
from phypan.linux.culprit import Culprit

LOGS = Path(__file__).resolve().parent.parent / "golden" / "crash-logs"
OURS = "phypan_crash"
CRASHES = {  # class, function, module: by the source of the module and of drivers/tty/sysrq.c
    "sysrq": ("sysrq", "sysrq_handle_crash", None),
    "null": ("NULL dereference", "phypan_null", OURS),
    "recursive-fault": ("NULL dereference", "phypan_null", OURS),
    "warn": ("warning", "phypan_warn", OURS),
    "bug": ("BUG", "phypan_bug", OURS),
    "soft-lockup": ("soft lockup", "phypan_soft_lockup", OURS),
    "process-soft-lockup": ("soft lockup", None, None),
    "deadlock": ("hung task", "phypan_deadlock", OURS),
    "stack-overflow": ("stack overflow", "phypan_stack_overflow", OURS),
    "out-of-memory": ("out of memory", None, None),
    "machine-check": ("machine check", "phypan_machine_check", OURS),
}
ALL = sorted(path.stem for path in LOGS.glob("*.log"))


def crash_of(name: str) -> str:
    """The kind of crash, with which the name of a log ends."""
    return max((kind for kind in CRASHES if name.endswith(f"-{kind}")), key=len)


def read(name: str) -> panic.Death:
    lines = (LOGS / f"{name}.log").read_text().splitlines()
    found = (re.fullmatch(r"\[ *(\d+)\.(\d{6})\] (.*)", line) for line in lines)
    records = [
        Record(None, int(m[1] + m[2]) * 1000, None, None, None, m[3])
        for m in found
        if m is not None
    ]
    assert len(records) > 0.9 * len(lines)
    return panic.read(records)


@pytest.mark.parametrize("name", ALL)
def test_class_and_culprit_are_those_of_the_crash_that_was_made(name) -> None:
    death = read(name)
    kind, function, module = CRASHES[crash_of(name)]
    assert death.kind == kind
    if kind == "hung task":  # who waits is in memory; the log has the stack of the watchdog
        return
    found = culprit.of_log(death)
    assert (found.function, found.module) == (function, module)


def test_every_kind_of_crash_is_here_and_some_of_several_kernels() -> None:
    kinds = [crash_of(name) for name in ALL]
    assert set(kinds) == set(CRASHES)
    assert sum(kinds.count(kind) > 1 for kind in set(kinds)) >= 6


def test_signatures_are_equal_for_the_same_crash_and_differ_between_others() -> None:
    """On hash and radix, LE and BE, 6.1 and 6.12."""
    of: dict[str, set[str]] = {}
    for name in ALL:
        death = read(name)
        of.setdefault(crash_of(name), set()).add(culprit.signature(death, culprit.of_log(death)))
    assert {kind: len(found) for kind, found in of.items()} == dict.fromkeys(CRASHES, 1)
    # a NULL dereference in an interrupt, and another while that is reported, is one of the first
    assert of["recursive-fault"] == of["null"]
    assert len(set().union(*of.values())) == len(CRASHES) - 1
    assert of["null"] == {"NULL dereference / phypan_null / phypan_crash / 80095ad6f583"}


@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("-null")])
def test_the_registers_of_a_fault_are_in_the_log(name) -> None:
    class NoCpus:
        crashing_cpu = None

    found = fault.of(NoCpus(), Culprit(), read(name))
    assert (found.trap, found.dar, found.dsisr) == (0x300, 0x20, 0x42000000)
    assert dict(fault.describe(NoCpus(), found)) == {
        "interrupt": "0x300 data storage",
        "MSR": f"{found.msr:016x} SF,EE,ME,IR,DR,RI{',LE' * (not name.startswith('be'))}",
        "DAR": "0000000000000020 NULL plus 0x20",
        "DSISR": "42000000 no translation, store",
    }


@pytest.mark.parametrize("kind", ["sysrq", "deadlock", "out-of-memory", "stack-overflow"])
def test_a_kernel_that_panicked_by_itself_had_no_fault(kind) -> None:
    class NoCpus:
        crashing_cpu = None

    for name in ALL:
        if crash_of(name) == kind:
            assert fault.of(NoCpus(), Culprit(), read(name)) is None


def test_the_process_that_took_all_memory_is_named() -> None:
    for name in ALL:
        hog = read(name).hog
        assert (hog is not None) == name.endswith("out-of-memory")
        if hog:
            assert hog.comm == "tail"
            assert 2**30 < hog.resident * 65536 < 1.25 * 2**30


def test_faults_that_followed_the_first_are_counted() -> None:
    assert read("le-radix-recursive-fault").oopses == 2
    assert read("le-radix-null").oopses == 1
    assert read("be-hash-sysrq").oopses == 0


def test_tasks_that_the_kernel_found_blocked() -> None:
    death = read("le-hash-deadlock")
    assert death.blocked is not None
    assert f"phypan_crash:{death.blocked} blocked" in death.first.text
