"""sys: what crash shows when it starts, and what the kernel printed of itself."""

from __future__ import annotations

import re

import phypan
from tests.linux.test_hostile import damage, physical


def facts(dump: phypan.Dump) -> dict:
    return {row.item: row.value for row in phypan.run(dump, "sys")}


def seconds(clock: str) -> int:
    hours, minutes, rest = map(int, clock.split(":"))
    return 3600 * hours + 60 * minutes + rest


def test_it_is_what_crash_shows(opened, real_of, crash_says) -> None:
    text = crash_says(real_of(opened), "sys")
    theirs = dict(re.findall(r"^ *([A-Z ]+): (.*)$", text, re.MULTILINE))
    ours = facts(opened)
    assert theirs["CPUS"] == ours["CPUs"]
    # crash counts ticks, phypan has the clocks of the run queues
    assert abs(seconds(theirs["UPTIME"]) - seconds(ours["uptime"])) <= 1
    assert theirs["TASKS"] == ours["tasks"]
    assert theirs["NODENAME"] == ours["node"]
    assert theirs["RELEASE"] == ours["release"]
    assert theirs["VERSION"] == ours["version"]
    assert theirs["LOAD AVERAGE"] == ours["load average"]
    assert theirs["MACHINE"].split()[0] == ours["machine"].split()[0]
    assert theirs["MEMORY"].replace("GB", "GiB") == ours["memory"]
    assert ours["panic"] in theirs["PANIC"]
    # crash has the time of the crash in the zone of its host: the minutes are those of any
    assert ours["date"][13:19] == re.search(r":\d\d:\d\d", theirs["DATE"])[0]


def test_it_is_what_the_kernel_printed(kernel, truth_of) -> None:
    """Every kernel tells its release; those with types, or debuginfo, the rest too."""
    truth, ours = truth_of(kernel), facts(kernel)
    banner = re.search(r"Linux version (\S+) .* (#\d+ .*)", "\n".join(truth.log))
    assert (ours["release"], ours["version"]) == (banner[1], banner[2])
    assert ours["machine"].startswith("ppc64le" if kernel.byte_order == "little" else "ppc64 ")
    assert ours["MMU"].startswith("radix" if "radix" in kernel.source else "hash")
    if kernel.types is None:
        assert "tasks" not in ours
        assert any("without types" in problem.what for problem in kernel.problems)
        return
    line = re.search(r"Kernel command line: (.*)", "\n".join(truth.log))
    assert ours["command line"].strip() == line[1].strip()
    tainted = re.findall(
        r"(?:Not tainted|Tainted: ((?:\[?[A-Z]\]?[=A-Z_]*,? *)+)) ", truth.first_boot
    )
    letters = set(re.findall(r"\b[A-Z]\b", tainted[-1])) - {"G"} if tainted else set()
    assert letters <= set(ours["tainted"])


def test_the_panic_is_that_of_the_log(kernel, truth_of) -> None:
    said = re.findall(r"Kernel panic - not syncing: (.*)", "\n".join(truth_of(kernel).log))
    if said and kernel.vmcoreinfo is not None:
        assert facts(kernel)["panic"] in {text.strip() for text in said} | {None}


def test_where_names_are_destroyed_the_rest_is_shown(real) -> None:
    with phypan.open(real.path) as whole:
        expected = facts(whole)
        names = physical(whole.vmcoreinfo.symbol("init_uts_ns"))
        pids = physical(whole.symbols.address("init_pid_ns"))
    with phypan.open(real.path) as dump:
        damage(dump, {names: b"\xff\x1b[1m" * 80, pids: b"\x5a" * 256})
        ours = facts(dump)
        assert "\xff" not in (ours["release"] or "")
        assert {ours[i] for i in ("uptime", "memory", "panic")} == {
            expected[i] for i in ("uptime", "memory", "panic")
        }


def test_it_is_shown_as_crash_does(real, phypan_command) -> None:
    done = phypan_command("sys", real.path)
    assert (done.code, done.err) == (0, "")
    assert re.search(r"^      RELEASE: 6\.12\.107-phypan", done.out, re.MULTILINE)
    assert re.search(r"^ CRASHED TASK: \d+ \"phypan_crash\", task c[0-9a-f]{15}", done.out, re.M)
