"""bt: the frames that the kernel printed when it died, and those that crash prints."""

from __future__ import annotations

import re

import pytest

import phypan

SYSRQ = [
    *("sysrq_handle_crash", "__handle_sysrq", "write_sysrq_trigger", "proc_reg_write"),
    *("vfs_write", "ksys_write", "system_call_exception"),
]
CALL = re.compile(r"^\[([0-9a-f]{16})\] \[([0-9a-f]{16})\] \.?(\S+)\+(0x[0-9a-f]+)/(0x[0-9a-f]+)")


def stacks(dump: phypan.Dump, *pids: int, **options) -> dict:
    found: dict = {}
    for row in phypan.run(dump, "bt", pids=pids, **options):
        found.setdefault((row.pid, row.cpu), []).append(row)
    return found


def test_the_crashing_task_names_the_way_of_the_sysrq(opened) -> None:
    (frames,) = stacks(opened).values()
    assert {frame.comm for frame in frames} == {"phypan_crash"}
    names = [frame.function for frame in frames]
    assert names[:4] == [
        *("crash_fadump", "ppc_panic_fadump_handler", "atomic_notifier_call_chain", "panic")
    ]
    assert names[4:11] == SYSRQ
    last = frames[-1]
    assert last.interrupt in ("0xc00 system call", "0x3000 system call vectored")
    assert last.msr & 1 << 14, "from user mode"
    assert last.nip >> 60 == 0


def test_it_is_what_the_kernel_printed_when_it_died(kernel) -> None:
    """The frames of the first call trace in the log, by address, name and offset."""
    if "deadlock" in kernel.source:
        pytest.skip("the first trace is that of a task that waits")
    calls = []
    for row in phypan.run(kernel, "dmesg"):
        match = CALL.match(row.text.strip())
        if match and "(unreliable)" not in row.text:
            calls.append(match.groups())
        elif calls and not row.text.startswith("["):
            break
    if len(calls) < 3:
        pytest.skip("the kernel did not print its stack before the dump was taken")
    rows = [row for row in phypan.run(kernel, "bt", cpus=True) if row.function]
    ours = {
        (f"{r.sp:016x}", f"{r.pc:016x}", r.function, f"{r.offset:#x}", f"{r.size:#x}") for r in rows
    }
    known = {call[1] for call in ours}
    # The kernel says for a call that does not return what is behind it, phypan what called.
    behind = {f"{row.pc:016x}" for row in rows if row.offset == row.size}
    # panic() was at another place of itself when it printed
    rest = [call for call in calls if not call[2].startswith(("panic", "dump_stack"))]
    shared = [call for call in rest if call[1] in known]
    assert len(shared) >= min(3, len(rest))
    assert {call for call in shared if call[1] not in behind} <= ours


def test_a_cpu_in_user_mode_is_shown_as_that(opened) -> None:
    found = {frames[0].comm: frames for frames in stacks(opened, cpus=True).values()}
    assert set(found) == {"phypan_busy", "phypan_crash"}
    (frame,) = found["phypan_busy"]
    assert frame.function is None
    assert 0x10000000 <= frame.pc < 0x11000000


def test_it_is_what_crash_prints(opened, real_of, crash_says) -> None:
    """crash has its own idea of the innermost frame: it takes the link register for it."""
    theirs = re.findall(
        r"^ *#(\d+) \[([0-9a-f]{16})\] \.?(\S+) at ([0-9a-f]{16})",
        crash_says(real_of(opened), "bt -a"),
        re.MULTILINE,
    )
    assert len(theirs) > 10
    rows = [row for row in phypan.run(opened, "bt", cpus=True) if row.function]
    ours = [(str(r.frame), f"{r.sp:016x}", r.function, f"{r.pc:016x}") for r in rows]
    assert ours[0][:3] == theirs[0][:3]
    assert ours[1:] == theirs[1:]


def test_every_task_has_a_stack(opened) -> None:
    found = stacks(opened, all=True)
    assert len(found) > 40
    sleeping = [f for f in found.values() if f[0].function and f[0].comm != "phypan_crash"]
    ends = {frames[-1].function for frames in sleeping}
    assert ends <= {
        *("start_kernel_thread", "ret_from_kernel_thread", "system_call_common"),
        *("system_call_vectored_common", "start_here_common", "start_secondary_prolog"),
    }
    for frames in sleeping:
        assert "__schedule" in [frame.function for frame in frames] or frames[0].pid == 0
        assert [f.sp for f in frames] == sorted(f.sp for f in frames)


def test_tasks_by_pid(opened) -> None:
    pid = next(row.pid for row in phypan.run(opened, "ps") if row.comm == "phypan_alpha")
    (frames,) = stacks(opened, pid).values()
    assert "wait_for_partner" in [frame.function for frame in frames]
    with pytest.raises(phypan.Unsupported, match="no task 31999"):
        stacks(opened, 31999)


def test_registers_of_frames(opened) -> None:
    (frames,) = stacks(opened, registers=True).values()
    first = dict(text.split("=") for text in frames[0].registers)
    assert int(first["r1"], 16) == frames[0].sp
    last = dict(text.split("=") for text in frames[-1].registers)
    assert int(last["nip"], 16) == frames[-1].nip
    assert len(last) == 44


def test_lines_need_debuginfo(opened) -> None:
    (frames,) = stacks(opened, lines=True).values()
    panic = next(frame for frame in frames if frame.function == "panic")
    if opened.types == "DWARF":
        assert re.search(r"kernel/panic\.c:\d+$", panic.source)
        assert any(frame.inlined for frame in frames)
    else:
        assert panic.source is None


def test_functions_of_modules_are_named(kernel) -> None:
    if kernel.types is None or "null" not in kernel.source:
        pytest.skip("no function of a module is on the stack")
    names = {(row.function, row.module) for row in phypan.run(kernel, "bt", cpus=True)}
    assert any(module == "phypan_crash" for _, module in names)


def test_without_types_the_cpus_are_shown(kernel) -> None:
    if kernel.types is not None:
        pytest.skip("this kernel has types")
    found = stacks(kernel, cpus=True)
    assert len(found) == len(kernel.cpus)
    assert any(len(frames) > 4 for frames in found.values())
    assert any("without types" in problem.what for problem in kernel.problems)


def test_the_text_is_as_crash_has_it(opened) -> None:
    rows = list(phypan.run(opened, "bt"))
    lines = list(phypan.analyses()["bt"].text(rows))
    assert re.fullmatch(
        r'PID: \d+  TASK: c[0-9a-f]{15}  CPU: \d  COMMAND: "phypan_crash"', lines[0]
    )
    assert re.fullmatch(
        r" #0 \[c[0-9a-f]{15}\] crash_fadump\+0x\w+/0x\w+ at c[0-9a-f]{15}", lines[1]
    )
    assert any("--- interrupt" in line and "in user mode" in line for line in lines)
    assert any(re.search(r"MSR 8\w{15} <SF,.*PR.*>", line) for line in lines)
