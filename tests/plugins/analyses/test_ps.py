"""ps: the tasks that the guest listed, by the dump's own types and by DWARF the same."""

from __future__ import annotations

import re

import pytest

import phypan

STATES = {"S": "IN", "R": "RU", "D": "UN", "I": "ID", "Z": "ZO", "T": "ST"}


def rows(dump: phypan.Dump, **options) -> dict:
    return {row.pid: row for row in phypan.run(dump, "ps", **options) if row.pid}


def test_it_lists_what_the_guest_listed(opened, truth_of) -> None:
    ours = rows(opened)
    listed = {pid: name for pid, name, _, _ in truth_of(opened).processes}
    assert len(listed) > 40
    gone = {pid for pid in listed if pid not in ours}
    assert all(listed[pid] == "ps" for pid in gone), "only what was over by then"
    came = {row.comm for pid, row in ours.items() if pid not in listed}
    assert came == {"phypan_crash"} or came == {"phypan_crash", "kworker/0:2"}
    for pid, row in ours.items():
        # a worker's name has what it works on behind it
        assert (
            re.sub(r"-.*", "", listed.get(pid, row.comm))[:12] == re.sub(r"-.*", "", row.comm)[:12]
        )


def test_it_lists_what_the_guest_listed_on_every_kernel(kernel, truth_of) -> None:
    if kernel.types is None:
        with pytest.raises(phypan.Unsupported, match="no BTF"):
            phypan.run(kernel, "ps")
        return
    ours = rows(kernel)
    listed = truth_of(kernel).processes
    assert len(listed) > 40
    lost = {pid for pid, _, _, _ in listed} - set(ours)
    assert len(lost) <= 3, "short-lived ones"
    for pid, name, state, parent in listed:
        if pid in lost:
            continue
        assert ours[pid].comm[:12] == name[:12] or ours[pid].kernel
        assert parent in (ours[pid].ppid, -1)  # not every guest printed it
        if ours[pid].comm.startswith("phypan_") and state == "S":
            assert ours[pid].st == STATES[state]


def test_who_was_on_a_cpu(opened) -> None:
    active = [row for row in phypan.run(opened, "ps") if row.active]
    assert {row.comm for row in active} == {"phypan_busy", "phypan_crash"}
    assert {row.cpu for row in active} == {0, 1}


def test_memory_is_that_of_user_processes(opened) -> None:
    for row in phypan.run(opened, "ps"):
        assert (row.vsz == 0) == row.kernel
        assert (row.rss > 0) == (not row.kernel)


def test_the_tree_has_children_below_their_parents(opened) -> None:
    found = list(phypan.run(opened, "ps", tree=True))
    assert {row.task for row in found} == {row.task for row in phypan.run(opened, "ps")}
    above: list[int] = []
    for row in found:
        del above[row.depth :]
        if row.depth:
            assert row.ppid == above[-1]
        above.append(row.pid)
    depths = {row.comm: row.depth for row in found}
    assert depths["phypan_alpha"] == depths["init"] + 1


CRASH_LINE = re.compile(
    r"([> ]) +(\d+) +(\d+) +(\d+) +([0-9a-f]{16}) +(\S\S) +([\d.]+) +(\d+) +(\d+) +(.*)",
    re.MULTILINE,
)


def test_it_is_what_crash_prints(opened, real_of, crash_says) -> None:
    theirs = [match.groups() for match in CRASH_LINE.finditer(crash_says(real_of(opened), "ps"))]
    assert len(theirs) > 40
    text = phypan.analyses()["ps"].text
    lines = list(text(phypan.run(opened, "ps")))
    assert lines[0] == "      PID    PPID  CPU       TASK        ST  %MEM      VSZ      RSS  COMM"
    ours = [CRASH_LINE.fullmatch(line).groups() for line in lines[1:]]
    for one, two in zip(sorted(ours), sorted(theirs), strict=True):
        assert one[:6] + one[7:] == two[:6] + two[7:]
        # crash knows of a little more memory on some dumps
        assert abs(float(one[6]) - float(two[6])) < 0.11


def test_the_same_by_types_of_the_dump_and_by_dwarf(real) -> None:
    with phypan.open(real.path) as first, phypan.open(real.path, symbols=[real.vmlinux]) as second:
        assert (first.types, second.types) == ("BTF", "DWARF")
        for name in ("ps", "bt", "modules", "sys"):
            options = {"all": True} if name == "bt" else {}
            one, two = (list(phypan.run(dump, name, **options)) for dump in (first, second))
            if name == "sys":
                one, two = one[2:], two[2:]  # where symbols and types are from
            assert one == two


def test_nothing_in_a_name_reaches_a_terminal(kernel, phypan_command) -> None:
    if not kernel.source.endswith("6.12-le64k-radix-sysrq"):
        pytest.skip("no process of this guest has a name that would do harm")
    done = phypan_command("ps", kernel.source.split()[-1])
    assert "a[red]\\x1b[1mb" in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize("renderer", ["json", "jsonl", "csv", "markdown", "html"])
def test_it_is_shown_in_every_way(opened, renderer) -> None:
    import io

    out = io.StringIO()
    phypan.render(phypan.run(opened, "ps"), opened, renderer=renderer, file=out)
    assert out.getvalue().replace("\\", "").count("phypan_alpha") == 1


def test_what_is_missing_and_what_helps_is_said(tmp_path, phypan_command) -> None:
    folder = tmp_path / "crashed"
    phypan.simulate(folder, memory="160M", boot_memory="16M", cpus=1)
    done = phypan_command("ps", folder)
    assert done.code == 2
    assert "ps needs types" in done.err
    assert "-s VMLINUX" in done.err
