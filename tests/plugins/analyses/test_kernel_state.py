"""Memory, mounts, files, interrupts, network, slab, run queues, timers: what the guest printed."""

from __future__ import annotations

import re
import struct

import pytest

import phypan


def rows(dump: phypan.Dump, name: str, **options) -> list:
    if dump.types is None:
        pytest.skip("this kernel has no types")
    return list(phypan.run(dump, name, **options))


def section(truth, name: str) -> list[str]:
    found = truth.section(name)
    if not found:
        pytest.skip(f"the guest printed no {name}")
    return found


# -- memory --------------------------------------------------------------------------------------


def test_memory_is_what_the_guest_saw(kernel, truth_of) -> None:
    lines = (re.match(r"(\S+): +(\d+)", line) for line in section(truth_of(kernel), "meminfo"))
    said = {match[1]: int(match[2]) * 1024 for match in lines if match}
    ours = {row.item: row.size for row in rows(kernel, "memory")}
    assert ours["total"] == said["MemTotal"]
    assert ours["swap"] == said["SwapTotal"]
    assert ours["commit limit"] == said["CommitLimit"]
    assert ours["huge pages"] == said["HugePages_Total"] // 1024 * said["Hugepagesize"]
    if "out-of-memory" in kernel.source:
        return
    # from the time when it was printed to the crash some more was used
    near = {"free": "MemFree", "cached": "Cached", "slab": "Slab", "anonymous": "AnonPages"}
    for item, name in near.items():
        assert abs(ours[item] - said[name]) < 0.03 * said["MemTotal"], item


def test_memory_is_what_crash_prints(opened, real_of, crash_says) -> None:
    text = crash_says(real_of(opened), "kmem -i")
    theirs = {m[1]: int(m[2]) for m in re.finditer(r"^ +([A-Z ]+?) +(\d+) ", text, re.MULTILINE)}
    ours = {row.item: row.pages for row in rows(opened, "memory")}
    names = {
        "total": "TOTAL MEM",
        "free": "FREE",
        "used": "USED",
        "buffers": "BUFFERS",
        "cached": "CACHED",
        "slab": "SLAB",
        "huge pages": "TOTAL HUGE",
        "swap": "TOTAL SWAP",
        "commit limit": "COMMIT LIMIT",
    }
    assert {name: ours[name] for name in names} == {a: theirs[b] for a, b in names.items()}


# -- slab ----------------------------------------------------------------------------------------


def test_slab_caches_are_those_of_slabinfo(kernel, truth_of) -> None:
    lines = [line.split() for line in section(truth_of(kernel), "slabinfo")[2:]]
    said = {line[0]: line for line in lines}
    ours = {row.name: row for row in rows(kernel, "slab", empty=True)}
    assert len(said) > 20
    assert set(said) <= set(ours)
    near = 0
    for name, line in said.items():
        _, _, total, _, per_slab, pages = line[:6]
        assert ours[name].slab_size == int(pages) * kernel.page_size
        assert ours[name].total % int(per_slab) == 0 or ours[name].slabs == 0
        near += ours[name].total == int(total)
    assert near > 0.8 * len(said), "few have grown since"


def test_slab_says_what_it_cannot_count(opened) -> None:
    found = rows(opened, "slab")
    assert {"task_struct", "dentry", "kmalloc-64"} <= {row.name for row in found}
    assert {row.total for row in found} == {None}
    assert any("SLUB_DEBUG" in problem.what for problem in opened.problems)


# -- files and mounts ----------------------------------------------------------------------------


def test_mounts_are_those_of_the_guest(kernel, truth_of) -> None:
    said = [line.split() for line in section(truth_of(kernel), "mounts")]
    ours = {row.id: row for row in rows(kernel, "mounts")}
    for line in said:
        end = line.index("-")
        row = ours.pop(int(line[0]))
        assert (row.parent, row.directory) == (int(line[1]), line[4])
        assert (row.type, row.device) == (line[end + 1], line[end + 2])
        assert row.read_only == line[5].startswith("ro")
    assert {row.type for row in ours.values()} <= {"nullfs"}, "which /proc does not show"


def test_mounts_are_what_crash_prints(opened, real_of, crash_says) -> None:
    theirs = re.findall(
        r"^(c[0-9a-f]{15}) (c[0-9a-f]{15}) (\S+) +(\S+) +(\S+)",
        crash_says(real_of(opened), "mount"),
        re.MULTILINE,
    )
    assert len(theirs) == 7
    found = rows(opened, "mounts")
    ours = [(f"{r.mount:x}", f"{r.superblock:x}", r.type, r.device, r.directory) for r in found]
    assert sorted(ours) == sorted(theirs)
    in_namespace = rows(opened, "mounts", pid=1)
    assert [row.mount for row in in_namespace] == [row.mount for row in found]


def test_open_files_are_those_of_the_guest(kernel, truth_of) -> None:
    said = [line.split(maxsplit=2) for line in section(truth_of(kernel), "files")]
    pids = tuple({int(pid) for pid, _, _ in said})
    ours = {(row.pid, row.fd): row for row in rows(kernel, "files", pids=pids)}
    assert len(said) > 12
    for pid, fd, path in said:
        assert ours[int(pid), fd].path == path
    assert {ours[pid, "cwd"].path for pid in pids} == {"/"}


def test_files_of_the_shells(opened) -> None:
    found = rows(opened, "files", all=True)
    of_alpha = {row.fd: row for row in found if row.comm == "phypan_alpha"}
    assert of_alpha["7"].path == "/tmp/phypan.dat"
    assert of_alpha["8"].path == "/tmp/dir.a/dir.b/alpha.log"
    assert of_alpha["8"].position == len("started-alpha\n")
    assert of_alpha["7"].kind == "file"
    assert of_alpha["cwd"].kind == "directory"


# -- interrupts, run queues, timers --------------------------------------------------------------


def test_interrupts_are_those_of_the_guest(kernel, truth_of) -> None:
    lines = section(truth_of(kernel), "interrupts")
    cpus = len(lines[0].split())
    found = (re.match(r" *(\d+): +((?:\d+ +)+)(\S.*)", line) for line in lines)
    said = {int(match[1]): match for match in found if match}
    ours = {row.irq: row for row in rows(kernel, "irq", used=True)}
    assert set(said) == set(ours)
    for number, match in said.items():
        counts = [int(count) for count in match[2].split()]
        assert len(counts) == cpus
        assert all(a >= b for a, b in zip(ours[number].counts, counts, strict=False)), (
            "it came more often until the crash"
        )
        rest = match[3]
        assert rest.startswith(ours[number].chip)
        assert all(name in rest for name in ours[number].names)


def test_interrupts_are_what_crash_prints(opened, real_of, crash_says) -> None:
    theirs = re.findall(
        r'^ *(\d+) +([0-9a-f]{16}) +(?:([0-9a-f]{16}) +"(.*)"|\(unused\))',
        crash_says(real_of(opened), "irq"),
        re.MULTILINE,
    )
    assert len(theirs) > 20
    ours = [
        (str(r.irq), f"{r.desc:x}", f"{r.action:x}" if r.action else "", ", ".join(r.names))
        for r in rows(opened, "irq")
    ]
    assert ours == theirs


def test_what_ran_is_what_crash_prints(opened, real_of, crash_says) -> None:
    text = crash_says(real_of(opened), "runq")
    theirs = re.findall(
        r"CPU (\d+) RUNQUEUE: ([0-9a-f]{16})\n +CURRENT: PID: (\d+) +TASK: ([0-9a-f]{16})", text
    )
    assert len(theirs) == 2
    found = rows(opened, "runqueue")
    current = [row for row in found if row.queue == "current"]
    ours = [(str(r.cpu), f"{r.runqueue:x}", str(r.pid), f"{r.task:x}") for r in current]
    assert ours == theirs
    waiting = [row for row in found if row.queue != "current"]
    assert len(waiting) == text.count("] PID:")


def test_timers_are_pending_and_named(opened, real_of, crash_says) -> None:
    found = rows(opened, "timers")
    assert {row.cpu for row in found} == {0, 1}
    wheel = [row for row in found if row.unit == "jiffies"]
    assert {"delayed_work_timer_fn", "process_timeout"} <= {row.function for row in wheel}
    assert "tick_nohz_handler" in {row.function for row in found if row.unit == "ns"}
    theirs = re.findall(
        r"^ +(\d+) +(-?\d+) +([0-9a-f]{16}) +[0-9a-f]{16} +<\.?(\S+)>",
        crash_says(real_of(opened), "timer"),
        re.MULTILINE,
    )
    assert len(theirs) > 5
    ours = {(str(r.expires), str(r.left), f"{r.timer:x}", r.function) for r in wheel}
    assert set(theirs) <= ours


# -- network -------------------------------------------------------------------------------------


def test_devices_are_those_of_the_guest(kernel, truth_of) -> None:
    text = "\n".join(section(truth_of(kernel), "interfaces"))
    said = re.split(r"^(?=\d+: )", text, flags=re.MULTILINE)[1:]
    ours = {row.index: row for row in rows(kernel, "net")}
    assert len(said) == len(ours)
    for block in said:
        match = re.match(r"(\d+): ([^:@]+)\S*: <(.*)> mtu (\d+)", block)
        row = ours[int(match[1])]
        assert (row.name, row.mtu) == (match[2], int(match[4]))
        assert ("UP" in row.flags) == ("UP" in match[3].split(","))
        assert re.search(r"link/\S+ (\S+)", block)[1] == row.mac
        assert set(re.findall(r"inet6? (\S+)/", block)) == set(row.addresses)


def ends_of(line: str, order: str) -> tuple[str, str]:
    """(local, remote) address of a line of /proc/net/tcp or tcp6, as an analysis shows them."""
    import ipaddress

    ends = []
    for field in line.split()[1:3]:
        address, port = field.split(":")
        words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
        raw = struct.pack(f"{'<' if order == 'little' else '>'}{len(words)}I", *words)
        ip = ipaddress.ip_address(raw)
        mapped = getattr(ip, "ipv4_mapped", None)
        text = f"::ffff:{mapped}" if mapped else str(ip)
        ends.append(f"[{text}]:{int(port, 16)}" if len(raw) == 16 else f"{text}:{int(port, 16)}")
    return ends[0], ends[1]


def test_sockets_are_those_of_the_guest(kernel, truth_of) -> None:
    lines = section(truth_of(kernel), "sockets")
    tcp = [line for line in lines if re.match(r" *\d+: [0-9A-F]+:", line)]
    said = {int(line.split()[9]): ends_of(line, kernel.byte_order) for line in tcp}
    said.pop(0, None)  # one that nobody has any more
    ours = {row.inode: row for row in rows(kernel, "sockets")}
    assert len(said) >= 4
    for inode, ends in said.items():
        assert (ours[inode].local, ours[inode].remote) == ends
    assert any(row.local == "/dev/log" and row.family == "unix" for row in ours.values())
