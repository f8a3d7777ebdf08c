"""Kernels without BTF, as Debian 6.1: what works without debuginfo, what says why not."""

from __future__ import annotations

import pytest

import phypan
from tests import real_dumps, truth
from tests.plugins.analyses.test_dmesg import lines

PATHS = sorted(
    path
    for path in real_dumps.FURTHER.glob("debian-6.1-*")
    if (path / "ram").exists() or (path / "vmcore").exists()
)
pytestmark = pytest.mark.skipif(not PATHS, reason="PHYPAN_FURTHER names no dumps of Debian's 6.1")
# What is read out of the log, of registers, kallsyms, VMCOREINFO and page tables alone.
ALONE = {"info", "sys", "triage", "dmesg", "bt", "cpus", "pages", "explain", "search", "hptesave"}


@pytest.fixture(params=PATHS, ids=lambda path: path.name)
def path(request):
    """A dump: what was preserved of a partition, or QEMU's dump-guest-memory."""
    return request.param


@pytest.fixture
def debian(path):
    with phypan.open(path) as dump:
        yield dump


@pytest.fixture
def debugged(path):
    """The same with Debian's debuginfo."""
    file = real_dumps.debuginfo(path)
    if file is None:
        pytest.skip("the debug package was not fetched")
    with phypan.open(path, symbols=[file]) as dump:
        yield dump


def test_each_analysis_that_cannot_be_run_says_so(debian) -> None:
    assert (debian.types, debian.symbols.source) == (None, "kallsyms")
    refused = set()
    for name, analysis in phypan.analyses().items():
        if "types" not in analysis.needs:
            continue
        refused.add(name)
        with pytest.raises(phypan.Unsupported) as caught:
            phypan.run(debian, name)
        assert "the kernel carries no BTF, and no debuginfo is here" in str(caught.value)
        assert "-s VMLINUX" in caught.value.hint
    assert ALONE.isdisjoint(refused)
    (row,) = [row for row in phypan.run(debian, "triage") if row.finding.startswith("types: ")]
    assert set(row.evidence.removeprefix("analyses: ").split(", ")) == refused


def test_the_log_is_whole(debian, path) -> None:
    expected, ours = truth.read(path).log, lines(debian)
    assert len(ours) > 200
    assert ours == expected[: len(ours)]
    assert "Kernel panic" in "\n".join(ours)


def test_the_system_is_told(debian) -> None:
    found = {row.item: row.value for row in phypan.run(debian, "sys")}
    assert found["release"].startswith("6.1.0-")
    assert "kallsyms in the dump; types: none" in found["symbols"]
    assert found["panic"]
    assert any(problem.what == "without types" for problem in debian.problems)


def test_the_crash_is_told_and_with_debuginfo_the_same(debian, debugged) -> None:
    alone, helped = (
        {row.item: row.finding for row in phypan.run(dump, "triage")} for dump in (debian, debugged)
    )
    for item in ("class", "message", "signature", "function", "module", "called from", "interrupt"):
        assert alone.get(item) == helped.get(item), item
    assert "memory" in helped
    assert "memory" not in alone


def test_with_debuginfo_every_analysis_runs(debugged) -> None:
    assert debugged.types == "DWARF"
    for name, analysis in phypan.analyses().items():
        if "types" in analysis.needs and name in ("ps", "modules", "mounts", "files", "memory"):
            assert list(phypan.run(debugged, name)), name
    assert not [problem for problem in debugged.problems if problem.where == "modules"]


def test_the_debuginfo_of_another_kernel_is_refused(real_dump) -> None:
    with phypan.open(PATHS[0], symbols=[real_dump("le-hash8").vmlinux]) as dump:
        with pytest.raises(phypan.InputError, match="it is of another kernel: build id") as caught:
            _ = dump.types, dump.program
        assert "--force" in caught.value.hint
