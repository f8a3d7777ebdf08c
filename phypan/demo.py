"""The demonstration: a partition's life, death and autopsy, told step by step.

It uses the public API, as a script of a user's would.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import phypan

if TYPE_CHECKING:
    from rich.console import Console

PAUSE = 0.6  # seconds between steps on a terminal, to be read


def tell(directory: Path | None = None) -> None:
    """Run the story on standard output; files go to `directory`, or are removed in the end."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        _story(console, directory)
        return
    with tempfile.TemporaryDirectory(prefix="phypan-demo-") as folder:
        _story(console, Path(folder))


def _story(console: Console, folder: Path) -> None:
    crashed, vmcore = folder / "crashed", folder / "vmcore"
    _crash(console, crashed)
    _look_at_regions(console, crashed)
    _convert(console, crashed, vmcore)
    _autopsy(console, crashed, vmcore)
    console.print(
        "\nThe same with a dump of yours: [bold]phypan convert ram --regions boot2.dtb vmcore[/]\n"
    )


def _step(console: Console, title: str, text: str) -> None:
    if console.is_terminal:
        time.sleep(PAUSE)
    console.print(f"\n[bold cyan]{title}[/]")
    console.print(text)


def _crash(console: Console, crashed: Path) -> None:
    _step(
        console,
        "1. A partition boots",
        "16 GiB, four CPUs, a big-endian Linux of 2008. It asks the hypervisor to preserve the\n"
        "low 256 MiB should it ever die, and keeps a save area at the top of memory free for that.",
    )
    done = phypan.simulate(
        crashed, kernel="2.6.32", memory="16G", cpus=4, byte_order="big", crash_cpu=2
    )
    panic = next(n for n, line in enumerate(done.boot.lpar.log) if "panic" in line)
    _print_log(console, done.boot.lpar.log[:panic])
    _step(
        console,
        "2. It dies on CPU 2",
        "The kernel calls ibm,os-term. The hypervisor copies low memory, all CPUs' registers and\n"
        "the real-mode page table entries to the save area, and boots the partition again with\n"
        "all of its memory as it was.",
    )
    _print_log(console, done.boot.lpar.log[panic:])


def _print_log(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(f"    {line}", style="dim", markup=False)


def _look_at_regions(console: Console, crashed: Path) -> None:
    text = (crashed / "release_region").read_text().strip()
    _step(
        console,
        "3. The second boot shows what was preserved",
        "in /sys/kernel/release_region. The old kernel prints offsets and lengths of zero there:",
    )
    console.print(f"    {text}", style="dim", markup=False)
    with phypan.open(crashed) as dump:
        console.print("phypan follows the device tree instead, and says so:")
        for problem in dump.problems:
            console.print(f"    {problem}", style="yellow", markup=False)
        assert dump.kernel_dump is not None
        for section in dump.kernel_dump.sections:
            console.print(
                f"    {section.name:<18}{section.dumped:#12x} bytes at {section.destination:#x}"
            )


def _convert(console: Console, crashed: Path, vmcore: Path) -> None:
    _step(
        console,
        "4. phypan convert makes a vmcore of it",
        "Low memory comes from its copy, the rest from its place; crash, drgn, gdb, libkdumpfile\n"
        "and makedumpfile open the result.",
    )
    begin = time.perf_counter()
    with phypan.open(crashed) as dump:
        phypan.convert(dump, vmcore, force=True)
        seconds = time.perf_counter() - begin
        size = dump.memory.size
    stored = os.stat(vmcore).st_blocks * 512
    console.print(
        f"    {size / (1 << 30):.2f} GiB of memory in {seconds:.2f} s; "
        f"{stored / (1 << 20):.1f} MiB on disk, for most of it is zeros"
    )


def _autopsy(console: Console, crashed: Path, vmcore: Path) -> None:
    _step(console, "5. What happened? phypan info vmcore", "")
    with phypan.open(vmcore) as dump, phypan.open(crashed) as first:
        rows = [row for row in phypan.run(dump, "info") if row.section != "problem"]
        for row in rows:
            value = row.value.replace(str(vmcore.parent), "...")
            console.print(f"    {row.section:<9} {row.item:<26} {value}", markup=False)
        same = [cpu.firmware for cpu in dump.cpus] == [cpu.firmware for cpu in first.cpus]
        assert same, "the vmcore lost registers"
        count = sum(len(cpu.firmware or ()) for cpu in dump.cpus)
        console.print(f"Nothing was lost on the way: all {count} registers are in the file.")
