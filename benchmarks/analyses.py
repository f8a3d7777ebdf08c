"""dmesg, ps and triage on the dumps of real kernels, cold, next to crash and drgn.

    python -m benchmarks analyses

Each is a process of its own, and the pages of the files that it reads are dropped from the page
cache before (posix_fadvise, which needs no root; programs and libraries stay in it). phypan has no
debuginfo; crash and drgn have the vmlinux. crash is the x86_64 program for little-endian dumps.
Medians of five. Wanted: under 3 s for phypan.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import phypan
from benchmarks._measure import command
from tests import real_dumps

LIMIT, ROUNDS = 3.0, 5
DRGN = {  # the same questions, as far as drgn has an answer
    "dmesg": "from drgn.helpers.linux.printk import print_dmesg; print_dmesg(prog)",
    "ps": "print([(t.pid.value_(), t.comm.string_()) for t in for_each_task(prog)])",
}
CRASH = {"dmesg": "log", "ps": "ps"}


def cold(files: Sequence[Path], words: Sequence[str | os.PathLike[str]]) -> float:
    """Median seconds of a command, with `files` read from the disk."""

    def once() -> float:
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return command(words)[0]

    return statistics.median(once() for _ in range(ROUNDS))


def crash(files: Sequence[Path], program: Path, what: str, folder: Path) -> float:
    """The same of crash, which waits at a prompt if it has a standard input."""
    (folder / "commands").write_text(f"{CRASH[what]}\nquit\n")
    line = f"{program} -s -i {folder / 'commands'} {files[1]} {files[0]} </dev/null"
    return cold(files, ["sh", "-c", line])


def main() -> None:
    python = [sys.executable, "-m"]
    with tempfile.TemporaryDirectory(dir=os.environ.get("PHYPAN_BENCH")) as name:
        for dump_name in real_dumps.NAMES:
            real = real_dumps.get(dump_name)
            vmcore = Path(name, dump_name)
            with phypan.open(real.path) as dump:
                phypan.convert(dump, vmcore)
            for what in ("dmesg", "ps", "triage"):
                took = cold([vmcore], [*python, "phypan", what, vmcore])
                said = [f"phypan {took:.2f} s ({took / LIMIT:.2f} of what is wanted)"]
                files = [vmcore, real.vmlinux]
                if what in DRGN:
                    words = [*python, "drgn", "-c", vmcore, "-s", real.vmlinux, "-e", DRGN[what]]
                    quiet = [*words[:2], "drgn", "-q", "--no-default-symbols", *words[3:]]
                    said.append(f"drgn {cold(files, quiet):.2f} s")
                if what in CRASH and not dump_name.startswith("be"):
                    program = real_dumps.unpacked("bin/crash-ppc64")
                    said.append(f"crash {crash(files, program, what, Path(name)):.2f} s")
                print(f"{dump_name}, {what}: {', '.join(said)}", flush=True)
            vmcore.unlink()
        words = [*python, "phypan", "--help"]
        help_ = statistics.median(command(words)[0] for _ in range(ROUNDS))
        print(f"phypan --help: {help_:.2f} s (wanted: under 0.2)")
