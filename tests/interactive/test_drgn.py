"""drgn's command line through phypan, and plain drgn with phypan's plugin."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

import phypan
from phypan.interactive import drgn_plugin

drgn = pytest.importorskip("drgn")

ROOT = Path(__file__).resolve().parent.parent.parent
FACTS = """
alpha = next(t for t in for_each_task(prog) if t.comm.string_() == b"phypan_alpha")
page = virt_to_page(prog, prog["init_task"].address_)
asleep, crashed = stack_trace(alpha), prog.crashed_thread().stack_trace()
print(cmdline(alpha), page.flags.value_(), [f.name for f in asleep if not f.is_inline][2])
print([f.name for f in crashed if not f.is_inline][4])
"""


def facts(text: str) -> None:
    """That FACTS were found: memory of a process, vmemmap, a sleeping stack, the crashed one."""
    first, second = text.splitlines()
    assert first.startswith("[b'/bin/sh', b'/bin/phypan_alpha'] 8192 ")
    assert first.endswith("schedule")
    assert second == "sysrq_handle_crash"


def test_drgns_command_line_on_a_dump(real, phypan_command) -> None:
    done = phypan_command("drgn", real.path, "-e", FACTS)
    assert (done.code, done.err) == (0, "")
    facts(done.out)


def test_a_script_has_its_arguments(real_dump, phypan_command, tmp_path) -> None:
    (tmp_path / "s.py").write_text(
        "import sys\nfrom drgn.helpers.linux import find_task\n"
        "print(sys.argv[1:], find_task(prog, 1).comm.string_())"
    )
    path = real_dump("be-radix9").path
    done = phypan_command("drgn", path, tmp_path / "s.py", "one", "--two")
    assert (done.code, done.out) == (0, "['one', '--two'] b'init'\n")


@pytest.mark.parametrize("place", ["before", "behind"])
def test_debuginfo_is_phypans_option_or_drgns(real_dump, phypan_command, place) -> None:
    real = real_dump("le-hash8")
    given, trace = ["-s", real.vmlinux], ["-e", "print(prog.crashed_thread().stack_trace()[4])"]
    words = [*given, real.path, *trace] if place == "before" else [real.path, *given, *trace]
    done = phypan_command("drgn", *words)
    assert done.code == 0
    assert "kernel/panic.c:" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-e", "1 / 0"], 1, "ZeroDivisionError"),
        (["--nonsense"], 2, "unrecognized arguments: --nonsense"),
        (["nothing.py"], 1, "No such file"),
        (["--help"], 0, "Programmable debugger"),
    ],
)
def test_drgn_ends_as_drgn_does(real_dump, phypan_command, arguments, code, said) -> None:
    done = phypan_command("drgn", real_dump("le-hash8").path, *arguments)
    assert done.code == code
    assert said in done.out + done.err


def plain(*arguments: object, plugin: bool = True) -> subprocess.CompletedProcess[str]:
    """drgn itself, with phypan's plugin, as it finds it where phypan is installed."""
    more = {"DRGN_PLUGINS": f"phypan={drgn_plugin.__name__}"} if plugin else {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DRGN_DISABLE_PLUGINS": "*", **more}
    command = [sys.executable, "-m", "drgn", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_plain_drgn_opens_phypans_vmcores_with_what_they_hold(real, vmcores) -> None:
    command = ["--no-default-symbols", "-c", vmcores(real).ours, "-e", FACTS]
    done = plain(*command)
    assert (done.returncode, done.stderr) == (0, "")
    facts(done.stdout)
    without = plain(*command, plugin=False)
    assert without.returncode == 1
    assert "could not find" in without.stderr


def test_plain_drgn_with_debuginfo_translates_what_is_hashed(real, vmcores) -> None:
    command = ["-s", real.vmlinux, "--main-symbols", "-c", vmcores(real).ours, "-e", FACTS]
    done = plain(*command)
    assert done.returncode == 0, done.stderr
    facts(done.stdout)
    alone = plain(*command, plugin=False)
    assert (alone.returncode == 0) == ("radix" in real.name)


def test_plain_drgn_opens_compressed_dumps(real_dump, tmp_path) -> None:
    with phypan.open(real_dump("le-hash8").path) as dump:
        phypan.convert(dump, tmp_path / "k", format="kdump", compress="zlib", dump_level=31)
    done = plain("--no-default-symbols", "-c", tmp_path / "k", "-e", FACTS)
    assert done.returncode == 1, "user pages were left out"
    assert "excluded: user page, left out by dump level 31" in done.stderr
    done = plain(
        "--no-default-symbols", "-c", tmp_path / "k", "-e", FACTS.replace("cmdline", "str")
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_other_programs_are_drgns_own_business(monkeypatch) -> None:
    """Not of POWER, not a kernel, not a dump: phypan is not even asked."""

    def asked(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(drgn_plugin, "_teach", asked)
    drgn_plugin.drgn_prog_set(drgn.Program(drgn.Platform(drgn.Architecture.X86_64)))
    drgn_plugin.drgn_prog_set(drgn.Program(drgn.Platform(drgn.Architecture.PPC64)))
    drgn_plugin.drgn_prog_set(drgn.program_from_pid(os.getpid()))


def test_a_core_that_phypan_cannot_open_leaves_drgn_as_it_was(monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(drgn_plugin.logger, "warning", lambda text, *rest: said.append(text % rest))
    program = SimpleNamespace(cache={})
    drgn_plugin._teach(program, "/nothing\x1b")
    assert said == ["drgn goes on without phypan: /nothing\\x1b: No such file or directory"]
    assert program.cache == {}


def test_the_plugin_is_an_entry_point() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert import_module(points["drgn.plugins"]["phypan"]) is drgn_plugin
    assert callable(drgn_plugin.drgn_prog_set)
