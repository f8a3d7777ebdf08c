"""triage: class, culprit and signature of real crashes, and what is wrong beside them."""

from __future__ import annotations

import re

import pytest

import phypan
from phypan.formats.vmcoreinfo import Vmcoreinfo

SYSRQ = ("sysrq", "sysrq_handle_crash", "none: the kernel itself")
CRASHES = {  # by the name of a dump; the module's functions are made to fail
    "sysrq": SYSRQ,
    "null": ("NULL dereference", "phypan_null", "phypan_crash"),
    "warn": ("warning", "phypan_warn", "phypan_crash"),
    "bug": ("BUG", "phypan_bug", "phypan_crash"),
    "oom": ("out of memory", None, None),
    "softlockup": ("soft lockup", "phypan_softlockup", "phypan_crash"),
    "hungtask": ("hung task", "phypan_hungtask", "phypan_crash"),
    "stack": ("stack overflow", "phypan_stack", "phypan_crash"),
}


def findings(dump: phypan.Dump) -> dict[str, list[str]]:
    """The findings of each item; the offset in the function is that of one build."""
    found: dict[str, list[str]] = {}
    for row in phypan.run(dump, "triage"):
        assert row.item
        assert row.finding
        found.setdefault(row.item, []).append(row.finding)
    return found


def crash_of(dump: phypan.Dump) -> str:
    """The kind of crash, which the name of the dump has."""
    words = dump.source.split("/")[-1].split("-")
    return next((word for word in words if word in CRASHES), "sysrq")


def test_class_and_culprit_are_those_of_the_crash_that_was_made(kernel) -> None:
    crash = crash_of(kernel)
    kind, function, module = CRASHES[crash]
    found = findings(kernel)
    assert found["class"] == [kind]
    if function is not None:
        assert found["function"][0].split("+")[0] == function
        assert found["module"] == [module]
    assert found["signature"][0].startswith(f"{kind} / ")


def test_the_signature_is_that_of_the_crash_whatever_kernel_it_was(kernel) -> None:
    """On hash and radix, LE and BE, 4K and 64K pages, 6.1 to today."""
    signatures = {
        "sysrq": "sysrq / sysrq_handle_crash / kernel / 650f8d6205a5",
        "null": "NULL dereference / phypan_null / phypan_crash / 80095ad6f583",
        "warn": "warning / phypan_warn / phypan_crash / 56ec33cf42eb",
    }
    crash = crash_of(kernel)
    if crash not in signatures:
        pytest.skip(f"no other dump of this crash: {crash}")
    assert findings(kernel)["signature"] == [signatures[crash]]


def test_it_is_the_same_by_the_types_of_the_dump_and_by_dwarf(opened) -> None:
    found = findings(opened)
    assert (found["class"][0], found["function"][0].split("+")[0], found["module"][0]) == SYSRQ
    assert found["called from"] == [
        "__handle_sysrq < write_sysrq_trigger < proc_reg_write < vfs_write"
    ]
    assert found["message"] == ["sysrq triggered crash"]
    assert found["first fault"] == ["sysrq: Trigger a crash"]
    assert found["taint"] == ["no"]
    assert "uninterruptible" not in found
    assert "missing" not in found


def test_memory_is_free_as_the_guest_said(opened, real_of) -> None:
    said = dict(re.findall(r"(Mem\w+): +(\d+) kB", real_of(opened).truth))
    share, size = re.fullmatch(
        r"no pressure: ([\d.]+) % free, (\d+) MiB", findings(opened)["memory"][0]
    ).groups()
    assert abs(float(share) - 100 * int(said["MemFree"]) / int(said["MemTotal"])) < 3
    assert abs(int(size) - int(said["MemFree"]) / 1024) < 40


def test_a_fault_is_decoded_as_the_oops_has_it(kernel) -> None:
    log = "\n".join(row.text for row in phypan.run(kernel, "dmesg"))
    printed = re.search(r"DAR: ([0-9a-f]{16}) DSISR: ([0-9a-f]{8})", log)
    found = findings(kernel)
    if printed is None or "DAR" not in found:
        pytest.skip("no interrupt with an address is on the stack")
    assert (found["DAR"], found["DSISR"]) == ([printed[1]], [printed[2]])
    msr = re.search(r"MSR: +([0-9a-f]{16})", log)
    assert found["MSR"][0].startswith(msr[1])


def test_what_is_missing_is_said(kernel) -> None:
    said = findings(kernel).get("missing", [])
    assert ("types: the kernel has no BTF" in said) == (kernel.types is None)


def test_without_symbols_and_types_the_log_still_tells(real) -> None:
    from phypan.linux.symbols import Symbols

    with phypan.open(real.path) as dump:
        dump.kernel.__dict__.update(symbols=Symbols(), types=None)
        found = findings(dump)
    assert found["class"] == ["sysrq"]
    assert found["missing"] == ["types: the kernel has no BTF", "symbols: no kallsyms"]


def test_without_a_log_the_stack_still_tells(real) -> None:
    with phypan.open(real.path) as dump:
        lines = dump.vmcoreinfo.text.splitlines(keepends=True)
        text = b"".join(line for line in lines if b"prb" not in line and b"printk" not in line)
        dump.vmcoreinfo = Vmcoreinfo(text)
        found = findings(dump)
        assert any(problem.where == "kernel log" for problem in dump.problems)
    assert found["class"] == ["unknown"]
    assert found["function"][0].split("+")[0] == "sysrq_handle_crash"


def test_the_text_has_one_line_for_each_finding(real, phypan_command) -> None:
    done = phypan_command("triage", real.path)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "          CLASS: sysrq"
    assert all(re.fullmatch(r" *[A-Z ]+: \S.*", line) for line in lines)


def test_it_takes_less_than_three_seconds(real, phypan_command) -> None:
    """Of the processor, so that a busy machine does not fail it."""
    import os

    before = os.times()
    assert phypan_command("triage", real.path).code == 0
    after = os.times()
    assert (
        after.children_user + after.children_system
        < before.children_user + before.children_system + 3
    )


def test_a_partition_that_the_model_crashed(tmp_path) -> None:
    """A kernel of which only the log is there."""
    phypan.simulate(tmp_path / "crashed", memory="160M", boot_memory="16M", cpus=1)
    with phypan.open(tmp_path / "crashed") as dump:
        found = findings(dump)
    assert found["class"] == ["sysrq"]
    assert "symbols: no kallsyms" in found["missing"]
