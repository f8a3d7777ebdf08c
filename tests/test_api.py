"""The public API: open, convert, run, render, and what it says when it cannot."""

from __future__ import annotations

import gc
import io
import os

import pytest

import phypan
from phypan import api
from phypan.dump import Dump
from phypan.errors import InputError, OutputError, PluginError, Unsupported
from phypan.hooks import Analysis, Renderer, Source, Writer
from phypan.manager import Registry
from phypan.memory import Extent, Memory
from phypan.stores import BytesStore
from tests import strangers, synthetic
from tests.strangers import Point, Row, module
from tests.synthetic import Partition


@pytest.fixture
def stranger(monkeypatch):
    """Have a stranger's plugin in the registry of the process for one test."""

    def install(**offers: object) -> None:
        strangers.install(monkeypatch, [Point("stranger", lambda: module(**offers))])
        monkeypatch.setattr(api, "_loaded", Registry())

    return install


def empty() -> Dump:
    return Dump("test", Memory([Extent(0, 100, BytesStore(bytes(100)), 0)]))


def test_the_session_of_the_package_documentation(folder) -> None:
    Partition().save_to(folder)
    with phypan.open(folder / "ram", regions=[folder / "ibm,kernel-dump"]) as dump:
        assert len(dump.memory.read(0x20000, 4096)) == 4096
        assert dump.cpus[0]["NIA"] == 0xC000000000010000
        assert dump.vmcoreinfo["OSRELEASE"] == "6.12.0-synthetic"
        assert dump.problems == []
        assert phypan.convert(dump, folder / "vmcore").path == folder / "vmcore"
    with pytest.raises(InputError, match="closed"):
        dump.memory.read(0, 1)


def test_paths_may_be_text(folder) -> None:
    Partition().save_to(folder)
    with phypan.open(str(folder / "ram"), regions=[str(folder / "ibm,kernel-dump")]) as dump:
        assert phypan.convert(dump, str(folder / "vmcore"))


def test_convert_opens_a_path_itself_and_closes_it(folder) -> None:
    crashed = Partition().save_to(folder / "crashed")
    gc.collect()  # what other tests left
    before = len(os.listdir("/proc/self/fd"))
    phypan.convert(crashed, folder / "vmcore")
    phypan.convert(folder / "vmcore", folder / "again", registers="firmware")
    assert len(os.listdir("/proc/self/fd")) == before
    assert (folder / "again").exists()


def test_a_source_can_be_chosen(folder) -> None:
    crashed = Partition().save_to(folder / "crashed")
    with phypan.open(crashed, source="directory") as dump:
        assert dump.cpus
    with pytest.raises(Unsupported, match="no source 'what'") as caught:
        phypan.open(crashed, source="what")
    assert "directory, elf, " in caught.value.hint
    assert ", ram" in caught.value.hint
    with pytest.raises(Unsupported):
        phypan.open(crashed, source="elf")
    with pytest.raises(phypan.BadRecord, match="not a 64-bit ELF file"):
        phypan.open(crashed / "ram", source="elf")


def test_a_format_that_is_not_there(folder) -> None:
    with pytest.raises(Unsupported, match="no format 'tar'"):
        phypan.convert(empty(), folder / "x", format="tar")
    assert os.listdir(folder) == [], "nothing was begun"


def test_what_cannot_be_opened_says_why(folder) -> None:
    for path, said in (
        (folder / "none", "No such file"),
        (folder, "nothing that phypan knows"),
        ("/dev/null", "neither a file nor a block device"),
        (folder / ("x" * 300), "File name too long"),
        ("a\0b", "null"),
    ):
        with pytest.raises(InputError, match=said):
            phypan.open(path)


def test_a_file_without_contents(folder) -> None:
    (folder / "empty").touch()
    with pytest.raises(InputError, match="nothing that phypan knows"):
        phypan.open(folder / "empty")


def test_an_envelope_is_opened_and_what_is_inside_probed_anew(stranger, folder) -> None:
    closed = []

    class Store(BytesStore):
        def close(self) -> None:
            closed.append(self.name)

    core = synthetic.core("big", [(0, b"x" * 64)])

    def inside(given):
        head = core[:4096]
        return phypan.Input(given.path, Store(core, "inside"), head, given.regions)

    stranger(sources=[Source("box", "a box", lambda g: 95 * g.head.startswith(b"box"), inside)])
    (folder / "file").write_bytes(b"box and what is in it")
    with phypan.open(folder / "file") as dump:
        assert dump.memory.read(0, 64) == b"x" * 64
    assert closed == ["inside"]


def test_envelopes_without_end_are_refused(stranger, folder) -> None:
    stranger(sources=[Source("box", "", lambda given: 95, lambda given: given)])
    (folder / "file").touch()
    with pytest.raises(InputError, match="more than 8 envelopes"):
        phypan.open(folder / "file")


def test_a_source_that_opens_something_else_is_a_fault_of_the_plugin(stranger, folder) -> None:
    stranger(sources=[Source("odd", "", lambda given: 95, lambda given: "a dump")])
    (folder / "file").touch()
    with pytest.raises(PluginError, match="odd: it opened a str"):
        phypan.open(folder / "file")


def test_a_writer_that_fails_leaves_only_the_unfinished_file(stranger, folder) -> None:
    def write(dump, output, progress):
        output.write_at(0, b"half")
        raise OutputError("it broke", where="there")

    stranger(writers=[Writer("bad", "", write)])
    with pytest.raises(OutputError, match="there: it broke"):
        phypan.convert(empty(), folder / "x", format="bad")
    assert os.listdir(folder) == ["x.incomplete"]


def test_options_reach_the_writer(stranger, folder) -> None:
    seen = []

    def write(dump, output, progress, *, level: int = 1):
        seen.append(level)

    stranger(writers=[Writer("mine", "", write)])
    phypan.convert(empty(), folder / "x", format="mine", level=7)
    assert seen == [7]
    assert "mine" in phypan.writers()


def test_an_analysis_yields_rows_of_its_kind(stranger) -> None:
    stranger(analyses=[strangers.analysis("count")])
    rows = phypan.run(empty(), "count", count=3)
    assert (rows.name, rows.row) == ("count", Row)
    assert list(rows) == [Row(0), Row(1), Row(2)]
    assert "count" in phypan.analyses()


def test_an_analysis_that_yields_something_else_is_a_fault_of_the_plugin(stranger) -> None:
    stranger(analyses=[Analysis(lambda dump: [7], Row, name="odd")])
    with pytest.raises(PluginError, match="odd: it yielded int, not Row"):
        list(phypan.run(empty(), "odd"))


def broken(*arguments: object, **options: object) -> list[object]:
    """Fail, as a stranger's code may anywhere."""
    return [{}["pid"]]


def broken_later(dump):
    """Yield one row, and fail."""
    yield Row(1)
    broken()


WHERE = r"bad: it raised KeyError: 'pid' \(.*test_api.py, line \d+\)"


@pytest.mark.parametrize("failing", [broken, broken_later])
def test_an_analysis_that_fails_is_an_error_that_says_where(stranger, failing) -> None:
    stranger(analyses=[Analysis(failing, Row, name="bad")])
    with pytest.raises(PluginError, match=WHERE) as caught:
        list(phypan.run(empty(), "bad"))
    assert isinstance(caught.value.__cause__, KeyError)


def test_rows_before_a_failure_are_handed_on(stranger) -> None:
    stranger(analyses=[Analysis(broken_later, Row, name="bad")])
    assert next(iter(phypan.run(empty(), "bad"))) == Row(1)


def test_options_that_an_analysis_does_not_have_are_no_fault_of_its(stranger) -> None:
    stranger(analyses=[strangers.analysis("count")])
    with pytest.raises(Unsupported, match=r"options of count: .*'cuont'"):
        phypan.run(empty(), "count", cuont=3)


def test_sources_writers_and_renderers_that_fail_are_errors_too(stranger, folder) -> None:
    stranger(
        sources=[Source("bad", "", lambda given: 95, broken)],
        writers=[Writer("bad", "", broken)],
        renderers=[Renderer("bad", "", broken)],
        analyses=[strangers.analysis("count")],
    )
    (folder / "file").touch()
    with pytest.raises(PluginError, match=WHERE):
        phypan.open(folder / "file")
    with pytest.raises(PluginError, match=WHERE):
        phypan.convert(empty(), folder / "x", format="bad")
    with pytest.raises(PluginError, match=WHERE):
        phypan.render(phypan.run(empty(), "count"), empty(), renderer="bad")


@pytest.mark.parametrize("need", ["cpus", "vmcoreinfo", "hptesave", "no_such_thing"])
def test_an_analysis_says_what_it_lacks(stranger, need) -> None:
    stranger(analyses=[Analysis(strangers.rows, Row, frozenset({need}), "picky")])
    with pytest.raises(Unsupported, match=f"picky needs {need}") as caught:
        phypan.run(empty(), "picky")
    assert caught.value.exit_code == 2
    assert "phypan info" in caught.value.hint


def test_an_analysis_that_is_not_there() -> None:
    with pytest.raises(Unsupported, match="no analysis 'what'") as caught:
        phypan.run(empty(), "what")
    assert "info" in caught.value.hint


def test_rows_are_rendered_to_any_file(stranger) -> None:
    stranger(analyses=[strangers.analysis("count")])
    out = io.StringIO()
    phypan.render(phypan.run(empty(), "count", count=2), empty(), file=out)
    assert out.getvalue() == "NUMBER\n     0\n     1\n"
    with pytest.raises(Unsupported, match="no renderer 'what'"):
        phypan.render(phypan.run(empty(), "count"), empty(), renderer="what")


def test_plugins_are_listed() -> None:
    for _ in range(2):
        assert "phypan.plugins.sources.elf" in {plugin.name for plugin in phypan.list_plugins()}
