"""phypan shell: a command, a script through a pipe, a session on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from multiprocessing.connection import wait

import pytest

from tests.synthetic import Partition

pytest.importorskip("drgn")


def test_a_command_has_dump_and_prog_and_drgns_helpers(real, phypan_command) -> None:
    code = "print(dump.byte_order, len(list(for_each_task(prog)))); prog['init_task'].comm"
    for option in ("-c", "-e"):
        done = phypan_command("shell", real.path, option, code)
        assert (done.code, done.err) == (0, "")
        first, second = done.out.splitlines()
        assert first.split()[0] in ("little", "big")
        assert int(first.split()[1]) > 30
        assert second == '(char [16])"swapper/0"', "the last expression is shown, as drgn does"


def test_a_vmlinux_gives_lines_of_source(real_dump, phypan_command) -> None:
    real = real_dump("le-radix10")
    code = "print(prog.crashed_thread().stack_trace()[4])"
    done = phypan_command("shell", real.path, real.vmlinux, "-c", code)
    assert done.code == 0
    assert "kernel/panic.c:" in done.out
    other = phypan_command("shell", real.path, real_dump("be-radix9").vmlinux, "-c", code)
    assert other.code == 1, "of another kernel"
    assert "no prog: " not in other.out


def test_a_pipe_is_a_script(real_dump, phypan_command) -> None:
    script = "import sys\nfor n in range(2):\n    print(n, prog['init_task'].pid.value_())\n1 + 1\n"
    done = phypan_command("shell", real_dump("le-hash8").path, input=script)
    assert (done.code, done.out, done.err) == (0, "0 0\n1 0\n2\n", "")


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("x = 1\n1 / 0", 1, 'File "<stdin>", line 2, in <module>\n    1 / 0'),
        ("def (", 1, "SyntaxError"),
        ("raise SystemExit(7)", 7, ""),
        ("dump.memory.read(1 << 60, 1)", 1, "phypan: physical address 0x1000000000000000: absent"),
    ],
)
def test_what_a_script_raises_is_shown_without_phypans_own_frames(
    phypan_command, folder, script, code, said
) -> None:
    done = phypan_command("shell", Partition().save_to(folder / "crashed"), input=script)
    assert done.code == code
    assert said in done.err
    assert "phypan/interactive" not in done.err


def test_a_kernel_of_which_drgn_knows_nothing_has_a_shell_too(phypan_command, folder) -> None:
    path = Partition().save_to(folder / "crashed")
    done = phypan_command("shell", path, "-c", "dump.vmcoreinfo.release")
    assert (done.code, done.out) == (0, "'6.12.0-synthetic'\n")


def session(home, *arguments: object, hide: str = "", lines: list[str]) -> str:
    """What a terminal shows of `phypan shell` when `lines` are typed."""
    start = f"import sys; sys.modules.update({{name: None for name in {hide.split()!r}}})\n"
    start += "from phypan.__main__ import main; sys.exit(main())"
    master, slave = pty.openpty()
    command = [sys.executable, "-c", start, "shell", *map(str, arguments)]
    environment = {**os.environ, "TERM": "dumb", "HOME": str(home), "PYTHON_BASIC_REPL": "1"}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as run:
        os.close(slave)
        shown = _until(master, r"at hand: .*(>>> |In \[1\]: )")
        for line in lines:
            os.write(master, line.encode() + b"\n")
            shown += _until(master, r"\n.*(>>> |In \[\d+\]: )$")
        os.write(master, b"exit()\n")
        shown += _until(master, None)
        assert run.wait(60) == 0
    os.close(master)
    return shown


def _until(terminal: int, pattern: str | None) -> str:
    """What is printed up to `pattern`, or to the end."""
    shown, deadline = "", time.monotonic() + 60
    while pattern is None or not re.search(pattern, shown, re.DOTALL):
        assert time.monotonic() < deadline, shown
        if not wait([terminal], 1):
            continue
        try:
            block = os.read(terminal, 65536)
        except OSError:
            block = b""
        if not block:
            assert pattern is None, shown
            break
        shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", block.decode())
    return shown


@pytest.mark.parametrize("hide", ["", "IPython"], ids=["IPython", "drgn"])
def test_a_session_shows_what_this_is_and_answers(real_dump, tmp_path, hide) -> None:
    if not hide:
        pytest.importorskip("IPython")
    path = real_dump("le-hash8").path
    shown = session(
        tmp_path, path, hide=hide, lines=["prog['init_task'].comm", "dump.page_size + 1"]
    )
    assert (
        "Linux 6.12.107-phypan-le64k, little-endian, 64K pages, hash, 2 CPUs with registers"
        in shown
    )
    assert "sysrq: sysrq triggered crash" in shown
    assert "symbols: kallsyms; types: BTF" in shown
    assert '(char [16])"swapper/0"' in shown
    assert "65537" in shown


def test_a_session_without_drgn_says_what_is_missing(real_dump, tmp_path) -> None:
    path = real_dump("le-hash8").path
    shown = session(tmp_path, path, hide="IPython drgn", lines=["dump.page_size + 1"])
    assert "no prog: drgn is not here" in shown
    assert "65537" in shown
