"""triage: class, culprit and signature of real crashes, and what is wrong beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import phypan
from phypan.formats.vmcoreinfo import Vmcoreinfo

SYSRQ = ("sysrq", "sysrq_handle_crash", "none: the kernel itself")
OURS = "phypan_crash"  # the module that crashes
CRASHES = {  # what `phypan simulate --crash` makes: class, function, module; None: there is none
    "sysrq": SYSRQ,
    "null": ("NULL dereference", "phypan_null", OURS),
    "recursive-fault": ("NULL dereference", "phypan_null", OURS),
    "warn": ("warning", "phypan_warn", OURS),
    "bug": ("BUG", "phypan_bug", OURS),
    "soft-lockup": ("soft lockup", "phypan_soft_lockup", OURS),
    "hard-lockup": ("hard lockup", "phypan_hard_lockup", OURS),
    "deadlock": ("hung task", "phypan_deadlock", OURS),
    "stack-overflow": ("stack overflow", "phypan_stack_overflow", OURS),
    "out-of-memory": ("out of memory", None, None),
    "machine-check": ("machine check", "phypan_machine_check", OURS),
    "nmi": ("system reset", None, None),
}
SIGNATURES = {
    "sysrq": "sysrq / sysrq_handle_crash / kernel / 650f8d6205a5",
    "null": "NULL dereference / phypan_null / phypan_crash / 80095ad6f583",
    "recursive-fault": "NULL dereference / phypan_null / phypan_crash / 80095ad6f583",
    "warn": "warning / phypan_warn / phypan_crash / 56ec33cf42eb",
    "bug": "BUG / phypan_bug / phypan_crash / 6b62244aac28",
    "soft-lockup": "soft lockup / phypan_soft_lockup / phypan_crash / d9e1078e796e",
    "hard-lockup": "hard lockup / phypan_hard_lockup / phypan_crash / bbeda822a2aa",
    "deadlock": "hung task / phypan_deadlock / phypan_crash / 9a03dedac4b3",
    "stack-overflow": "stack overflow / phypan_stack_overflow / phypan_crash / 95098399c3f9",
    "out-of-memory": "out of memory / tail / process / 1f121fc0de7d",
    "machine-check": "machine check / phypan_machine_check / phypan_crash / 1305a27f03c3",
    "nmi": "system reset / unknown / kernel / a4ea72c2ec5f",
}


def findings(dump: phypan.Dump) -> dict[str, list[str]]:
    """The findings of each item; the offset in the function is that of one build."""
    found: dict[str, list[str]] = {}
    for row in phypan.run(dump, "triage"):
        assert row.item
        assert row.finding
        found.setdefault(row.item, []).append(row.finding)
    return found


def folder_of(dump: phypan.Dump) -> Path:
    return Path(dump.source.split()[-1])


def crash_of(dump: phypan.Dump) -> str:
    """The kind of crash that was made."""
    meta = folder_of(dump) / "meta.json"
    return json.loads(meta.read_text())["crash"] if meta.exists() else "sysrq"


def expected(dump: phypan.Dump) -> tuple[str, str | None, str | None]:
    """Class, function and module.

    A host that stopped the whole guest for a while makes a soft lockup of whatever it was doing,
    also in a process, which is no fault of the kernel's.
    """
    kind, function, module = CRASHES[crash_of(dump)]
    console = (folder_of(dump) / "console.log").read_text(errors="replace")
    stuck = re.search(r"soft lockup - CPU#\d+ stuck for \d+s! \[(.*):\d+\]", console)
    if kind == "soft lockup" and stuck and stuck[1] != OURS:
        return kind, None, None
    return kind, function, module


def test_class_and_culprit_are_those_of_the_crash_that_was_made(kernel) -> None:
    kind, function, module = expected(kernel)
    found = findings(kernel)
    assert found["class"] == [kind]
    if function is None:
        assert found["function"][0].startswith(("none", "unknown"))
        assert "module" not in found
    else:
        assert found["function"][0].split("+")[0] == function
        assert found["module"] == [module]


def test_the_signature_is_that_of_the_crash_whatever_kernel_it_was(kernel) -> None:
    """On hash and radix, LE and BE, 4K and 64K pages, 6.1 to today."""
    if expected(kernel) != CRASHES[crash_of(kernel)]:
        pytest.skip("the host stopped this guest while it ran a process")
    assert findings(kernel)["signature"] == [SIGNATURES[crash_of(kernel)]]


def test_signatures_of_different_culprits_are_different() -> None:
    assert len(set(SIGNATURES.values())) == len(set(CRASHES.values()))
    assert SIGNATURES.keys() == CRASHES.keys()


def test_the_rest_is_told_of_crashes_that_have_it(kernel) -> None:
    crash, found = crash_of(kernel), findings(kernel)
    if crash == "out-of-memory":
        name, size = re.match(r"(.*) \(\d+\): (\d+) MiB", found["largest process"][0]).groups()
        assert name == "tail"
        assert int(size) > 1000
        assert "it ran out: tail invoked oom-killer" in found["memory"][0]
        assert found["memory"][-1].startswith("pressure: ")
    if crash == "deadlock":
        names = {re.match(r"(\w+) \(\d+\)", text)[1] for text in found["uninterruptible"]}
        assert names == {"phypan_crash", "phypan_other"}
        assert [re.search(r"task (\w+):\d+", text)[1] for text in found["hung task"]] == [
            *("phypan_crash", "phypan_other")
        ]
    if crash == "machine-check":
        assert found["interrupt"] == ["0x200 machine check"]
        assert found["machine check"]
        assert "machine check" in found["taint"][0]
    if crash == "recursive-fault":
        assert found["more faults"][0].startswith("2 oopses")
        assert found["called from"][0].startswith("irq_work_single < ")
    if crash in ("sysrq", "deadlock", "out-of-memory", "stack-overflow"):
        assert "interrupt" not in found


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
    if printed is None or "DSISR" not in found:
        pytest.skip("no fault with an address and a cause")
    assert found["DAR"][0].split()[0] == printed[1]
    assert found["DSISR"][0].split()[0] == printed[2]
    msr = re.search(r"MSR: +([0-9a-f]{16})", log)
    assert found["MSR"][0].startswith(msr[1])


def test_what_is_missing_is_said(kernel) -> None:
    said = findings(kernel).get("missing", [])
    what = "types: the kernel has no BTF; -s VMLINUX gives them"
    assert (what in said) == (kernel.types is None)


def test_what_is_lost_without_types_is_named(kernel) -> None:
    """All analyses that need them, and each of them says so itself."""
    if kernel.types is not None:
        pytest.skip("it has types")
    (row,) = [row for row in phypan.run(kernel, "triage") if row.finding.startswith("types: ")]
    lost = row.evidence.removeprefix("analyses: ").split(", ")
    assert {"ps", "modules", "files", "mounts"} <= set(lost)
    for name, analysis in phypan.analyses().items():
        assert (name in lost) == ("types" in analysis.needs)
        if name in lost:
            with pytest.raises(phypan.Unsupported, match=f"{name} needs types: the kernel carries"):
                phypan.run(kernel, name)


def test_without_symbols_and_types_the_log_still_tells(real) -> None:
    from phypan.linux.symbols import Symbols

    with phypan.open(real.path) as dump:
        dump.kernel.__dict__.update(symbols=Symbols(), types=None)
        found = findings(dump)
    assert found["class"] == ["sysrq"]
    assert found["missing"] == [
        "types: the kernel has no BTF; -s VMLINUX gives them",
        "symbols: no kallsyms; -s VMLINUX gives them",
    ]


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
    assert "symbols: no kallsyms; -s VMLINUX gives them" in found["missing"]
