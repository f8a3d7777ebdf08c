"""The command line: exit codes, one-line errors, output that goes anywhere, a fast start."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import click
import pytest

import phypan
from phypan import __main__, api, cli, manager
from phypan.cli import shared
from phypan.hooks import Analysis, Writer
from phypan.manager import Registry
from tests import strangers, synthetic
from tests.strangers import Point, Row, module
from tests.synthetic import Partition


@pytest.fixture
def crashed(folder):
    """A dump directory."""
    return Partition().save_to(folder / "crashed")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process: (exit code, output, error output)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["phypan", *map(str, arguments)])
        code = __main__.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_info_is_a_table(run, crashed) -> None:
    code, out, err = run("info", crashed)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["SECTION", "ITEM", "VALUE"]
    assert "6.12.0-synthetic" in out


@pytest.mark.parametrize("option", [["-r", "json"], ["--render", "json"]])
def test_info_is_json_of_a_versioned_schema(run, crashed, option) -> None:
    code, out, _ = run("info", crashed, *option)
    said = json.loads(out)
    assert code == 0
    assert set(said) == {"schema", "analysis", "source", "rows", "problems"}
    assert (said["schema"], said["analysis"]) == (1, "info")
    assert all(set(row) == {"section", "item", "value"} for row in said["rows"])
    assert said["problems"] == []


def test_convert_writes_a_file_and_says_what_was_wrong(run, crashed, folder) -> None:
    assert run("convert", crashed, folder / "v") == (0, "", "")
    partition = Partition()
    partition.ram[partition.save : partition.save + 8] = bytes(8)
    partition.save_to(folder / "bad")
    code, out, err = run("convert", folder / "bad", folder / "w")
    assert (code, out) == (0, "")
    assert all(line.startswith("phypan: problem: ") for line in err.splitlines())
    assert "registers are lost" in err
    assert (folder / "w").exists()


def test_an_image_with_regions(run, crashed, folder) -> None:
    arguments = ("info", crashed / "ram", "--regions", crashed / "ibm,kernel-dump")
    assert run(*arguments)[0] == 0
    assert run(*arguments, "--regions", crashed / "ibm,kernel-dump", "--source", "ram")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said", "hint"),
    [
        (["info", "nothing"], 1, "phypan: nothing: No such file or directory", "check the path"),
        (["info", "."], 1, "phypan: .: nothing that phypan knows", "--regions"),
        (["info", "empty"], 1, "phypan: empty: nothing that phypan knows", "--regions"),
        (
            ["info", "crashed", "-r", "what"],
            2,
            "phypan: no renderer 'what'",
            "there are: csv, html, json,",
        ),
        (["info", "crashed", "--source", "what"], 2, "phypan: no source 'what'", "there are:"),
        (["info", "crashed/ram", "--regions", "nothing"], 1, "phypan: nothing: No such", "check"),
        (["convert", "crashed", "."], 1, "phypan: .: is a directory", "name a file in it"),
        (["convert", "crashed", "empty"], 1, "phypan: empty: exists already", "--force"),
        (["convert", "crashed", "x/y"], 1, "phypan: x/y.incomplete: No such file", "directory"),
        (["convert", "crashed", "v", "--format", "tar"], 2, "phypan: no format 'tar'", "elf"),
        (["convert", "cut", "v"], 1, "phypan: ELF header", "cut short"),
    ],
)
def test_an_error_is_one_line_and_a_hint(
    run, crashed, monkeypatch, arguments, code, said, hint
) -> None:
    monkeypatch.chdir(crashed.parent)
    (crashed.parent / "empty").touch()
    (crashed.parent / "cut").write_bytes(synthetic.core("big", [(0, b"x")])[:150])
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    first, second = err.splitlines()
    assert first.startswith(said)
    assert second.startswith("hint: ")
    assert hint in second


@pytest.mark.parametrize(
    "arguments",
    [
        ["what"],
        ["info"],
        ["info", "a", "b"],
        ["info", "--what", "a"],
        ["convert", "a"],
        ["convert", "a", "b", "--format"],
        ["--what"],
    ],
)
def test_wrong_usage_is_exit_code_2(run, arguments) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Error: " in err
    assert "Traceback" not in err


def test_without_a_command_it_says_what_there_is(run) -> None:
    code, out, err = run()
    assert code == 2
    assert "convert" in out + err


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_tells_each_command_with_a_line(run, option) -> None:
    code, out, _ = run(option)
    assert code == 0
    for command in ("convert", "info", "plugins"):
        (line,) = [line for line in out.splitlines() if line.startswith(f"  {command} ")]
        assert len(line.split()) > 3
        assert run(command, option)[0] == 0


def test_the_version(run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.strip().endswith(phypan.__version__)


def test_plugins_are_listed_with_what_they_offer(run) -> None:
    for _ in range(2):
        code, out, _ = run("plugins")
        assert code == 0
        assert "phypan.plugins.sources.elf (built in)\n    source elf\n" in out


def stranger(monkeypatch, **offers) -> None:
    strangers.install(monkeypatch, [Point("stranger", lambda: module(**offers))])
    monkeypatch.setattr(api, "_loaded", Registry())


def test_a_strangers_analysis_is_a_command_with_its_options(run, crashed, monkeypatch) -> None:
    stranger(monkeypatch, analyses=[strangers.analysis("count")])
    assert run("count", crashed, "--count", "0x2") == (0, "NUMBER\n     0\n     1\n", "")
    assert run("count", crashed)[1] == "NUMBER\n     0\n"
    assert run("count", crashed, "--count", "many")[0] == 2
    code, out, _ = run("count", "--help")
    assert code == 0
    assert "how far" in out
    assert "Count up." in out
    assert "count" in run("--help")[1]


def test_a_faulty_plugin_stops_nothing_and_is_listed(run, crashed, monkeypatch) -> None:
    def fails():
        raise RuntimeError("\x1b[31mit broke")

    strangers.install(monkeypatch, [Point("bad", fails)])
    monkeypatch.setattr(api, "_loaded", Registry())
    assert run("info", crashed)[0] == 0
    assert "bad (strange 1.0)\n    left out: RuntimeError: \\x1b[31mit broke\n" in run("plugins")[1]


def test_commands_of_the_command_line_are_no_names_for_analyses() -> None:
    assert set(cli.cli.commands) <= manager.RESERVED | set(phypan.analyses())


def test_what_is_missing_for_an_analysis_is_exit_code_2(run, crashed, monkeypatch) -> None:
    picky = Analysis(strangers.rows, Row, frozenset({"hptesave"}), "picky")
    stranger(monkeypatch, analyses=[picky])
    code, _, err = run("picky", crashed)
    assert code == 2
    assert "picky needs hptesave" in err


def test_an_interrupt_is_one_line(run, crashed, monkeypatch, folder) -> None:
    def write(dump, output, progress):
        raise KeyboardInterrupt

    stranger(monkeypatch, writers=[Writer("slow", "", write)])
    code, _, err = run("convert", crashed, folder / "v", "--format", "slow")
    assert (code, err.strip()) == (1, "phypan: stopped")
    assert sorted(os.listdir(folder)) == ["crashed", "v.incomplete"]


def test_an_option_of_no_known_type_is_a_fault_of_the_plugin(run, crashed, monkeypatch) -> None:
    def odd(dump, *, what: dict[str, int] | None = None):
        return ()

    stranger(monkeypatch, analyses=[Analysis(odd, Row, name="odd")])
    code, _, err = run("odd", crashed)
    assert code == 1
    assert "an option cannot be" in err


def test_control_characters_and_markup_of_a_dump_reach_no_terminal(phypan_command, folder) -> None:
    """A release, a path and a note that somebody made up; also on a terminal, through rich."""
    evil = b"\x1b[2J[red]6.1\x07[/]"
    text = synthetic.VMCOREINFO.replace(b"6.12.0-synthetic", evil)
    note = synthetic.note(b"VMCOREINFO", 0, text, "big")
    told = json.dumps({"problems": [["\x1b[1mwhat", "where\r", "\u202emeaning"]]}).encode()
    note += synthetic.note(b"PHYPAN", 0x50485004, told, "big")
    path = folder / "dump\x1b[31m"
    path.write_bytes(synthetic.core("big", [(0, b"x" * 64)], note))
    done = phypan_command("info", path)
    assert done.code == 0
    converted = phypan_command("convert", path, folder / "v")
    missing = phypan_command("info", str(path) + "\n")
    for output in (done.out, converted.err, missing.err):
        assert not set(output) & {"\x1b", "\x07", "\r", "\u202e"}
    assert "\\x1b[2J[red]6.1\\x07[/]" in done.out
    assert "\\x1b[1mwhat" in converted.err
    assert missing.err.count("\n") == 2

    master, slave = pty.openpty()
    command = [sys.executable, "-m", "phypan", "info", path]
    with subprocess.Popen(
        command, stdout=slave, stderr=slave, env={**os.environ, "COLUMNS": "300"}
    ) as child:
        os.close(slave)
        shown = b""
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:
                break
            if not block:
                break
            shown += block
        child.wait()
    os.close(master)
    assert b"\x1b[2J" not in shown
    assert b"\x07" not in shown
    assert b"\\x1b[2J[red]6.1\\x07[/]" in shown, "and rich took it for no markup"


def shell(line: str, folder) -> tuple[int, str, str]:
    """A shell's line; PHYPAN stands for the command."""
    line = line.replace("PHYPAN", f"'{sys.executable}' -m phypan")
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=folder, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("PHYPAN info crashed | true; exit ${PIPESTATUS[0]}", 1, ""),
        ("PHYPAN info crashed | head -1 >/dev/null; exit ${PIPESTATUS[0]}", None, ""),
        ("PHYPAN info crashed >/dev/full", 1, "phypan: standard output: No space left on device\n"),
        ("PHYPAN info crashed >&-", 0, ""),
        ("PHYPAN info crashed >/dev/null 2>&-", 0, ""),
        ("PHYPAN info nothing 2>&-", 1, ""),
        ("PHYPAN info nothing 2>/dev/full", 1, ""),
        ("PHYPAN info crashed >&- 2>&- <&-", 0, ""),
    ],
)
def test_output_may_go_anywhere(crashed, line, code, said) -> None:
    got, _, err = shell(line, crashed.parent)
    assert code is None or got == code
    assert err == said


def test_a_locale_that_cannot_show_a_name_shows_it_escaped(crashed) -> None:
    crashed.rename(crashed.parent / "日本")
    line = "LC_ALL=C.UTF-8 PYTHONIOENCODING=ascii PHYPAN info "
    got, out, err = shell(line + "日本", crashed.parent)
    assert (got, err) == (0, "")
    assert "dump directory \\u65e5\\u672c" in out
    got, _, err = shell(line + "日本2", crashed.parent)
    assert got == 1
    assert err.startswith("phypan: ")
    assert "No such file or directory" in err


def test_a_name_that_is_no_text_is_a_name(crashed) -> None:
    os.rename(crashed, os.path.join(os.fsencode(crashed.parent), b"\xff\xfe"))
    got, out, err = shell("PHYPAN info $'\\xff\\xfe'", crashed.parent)
    assert (got, err) == (0, "")
    assert "\\udcff\\udcfe" in out


HEAVY = ("numpy", "numba", "drgn", "rich", "construct", "asyncio", "phypan.assemble")
START = """
import sys
sys.argv = ["phypan", *sys.argv[1:]]
from phypan.__main__ import main
main()
print(*sorted(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["info", "--help"]])
def test_the_start_imports_nothing_slow(arguments) -> None:
    """What makes `phypan --help` fast is what it leaves alone; no clock is needed to see that."""
    done = subprocess.run(
        [sys.executable, "-c", START, *arguments], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert loaded.isdisjoint(HEAVY)
    assert not {name for name in loaded if name.startswith("phypan.plugins.sources.")}
    assert len(loaded) < 400, "Python and click alone are some 300"


def test_the_command_is_installed_as_phypan() -> None:
    from importlib.metadata import entry_points

    (point,) = [p for p in entry_points(group="console_scripts") if p.name == "phypan"]
    assert point.load() is __main__.main


def test_every_command_has_help_for_every_option() -> None:
    context = click.Context(cli.cli)
    for name in cli.cli.list_commands(context):
        command = cli.cli.get_command(context, name)
        for parameter in command.get_params(context):
            if isinstance(parameter, click.Option) and parameter.name not in ("format_name",):
                assert parameter.help, f"{name} {parameter.opts[0]}"


@pytest.mark.parametrize("told", [shared.progress_bar, shared.status])
def test_without_rich_nothing_is_shown_and_nothing_fails(monkeypatch, told) -> None:
    """As on the console of a RAM disk that holds what a capture needs, and no more."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with told() as show:
        assert show.__module__ == "phypan.cli.shared"
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.setitem(sys.modules, name, None)
    with told() as show:
        show(*(("text",) if told is shared.status else (1, 2)))
