"""From options to a dump directory."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from phypan.errors import InputError, OutputError, Unsupported, os_errors
from phypan.platform.qemu import crashes, ending, event_loop, machine, ram_disk
from phypan.platform.qemu.crashes import Crash
from phypan.platform.qemu.guest_memory import create
from phypan.platform.qemu.machine import Machine, Mmu
from phypan.platform.qemu.session import Report, session
from phypan.platform.simulation import size

Mode = Literal["fadump", "plain"]
_FADUMP_WORDS = "fadump=on crashkernel=320M"
_SPARE = 64 << 20  # bytes of the disk beyond memory: for headers and notes


def simulate(
    directory: str | os.PathLike[str],
    *,
    kernel: str | os.PathLike[str] | None = None,
    initrd: str | os.PathLike[str] | None = None,
    busybox: str | os.PathLike[str] | None = None,
    module: tuple[str, ...] = (),
    mmu: Mmu = "hash",
    cpu: str | None = None,
    cpus: int = 2,
    memory: str = "1280M",
    crash: str = "sysrq",
    mode: Mode = "fadump",
    qemu: str = "qemu-system-ppc64",
    append: str = "",
    patience: float = 180,
    report: Report | None = None,
) -> Path:
    """Boot a kernel under QEMU, crash it, and keep all there is; the path of the dump directory.

    directory  must not exist, or be empty; it appears when it is complete
    kernel     an ELF image (vmlinux), either byte order
    initrd     an initial RAM disk whose first process crashes the machine; without one phypan
               makes one out of a busybox and modules
    busybox    a static busybox of the kernel's byte order
    module     a kernel module; several are loaded in this order. Most crashes take phypan_crash.ko
    mmu        what the kernel is to run with
    cpu        POWER8 to POWER11; by default POWER8 for hash and POWER10 for radix
    cpus       logical CPUs
    memory     of the guest, a multiple of 256M; firmware-assisted dumps take 1280M at least
    crash      how: sysrq, null, bug, warn, soft-lockup, hard-lockup, deadlock, stack-overflow,
               out-of-memory, recursive-fault, machine-check, nmi
    mode       fadump: firmware-assisted, by QEMU (10.2 or later, and CONFIG_FA_DUMP in the
               kernel) or else by the platform model; plain: QEMU's own dump-guest-memory
    qemu       the command that starts QEMU
    append     further words for the kernel's command line
    patience   seconds that the guest may be silent
    report   called with one line of text, often

    Raises Unsupported for what cannot be, GuestError with the console's last lines when the guest
    hangs or does not crash, OutputError. DIRECTORY.incomplete with the console is left then.
    """
    if kernel is None:
        raise Unsupported("a guest under QEMU needs a kernel", hint="name a vmlinux with --kernel")
    run = _Run(
        directory=Path(directory),
        kernel=Path(kernel),
        initrd=None if initrd is None else Path(initrd),
        busybox=None if busybox is None else Path(busybox),
        modules=tuple(Path(name) for name in module),
        mmu=mmu,
        cpu=cpu or machine.DEFAULT_CPU.get(mmu, ""),
        cpus=cpus,
        memory=size(memory),
        crash=None if initrd is not None and crash == "sysrq" else crashes.named(crash),
        mode=mode,
        qemu=qemu,
        append=append,
        patience=patience,
        report=report or (lambda text: None),
    )
    return run.carry_out()


@dataclass(frozen=True)
class _Run:
    """The options of simulate()."""

    directory: Path
    kernel: Path
    initrd: Path | None
    busybox: Path | None
    modules: tuple[Path, ...]
    mmu: Mmu
    cpu: str
    cpus: int
    memory: int
    crash: Crash | None
    mode: Mode
    qemu: str
    append: str
    patience: float
    report: Report

    def carry_out(self) -> Path:
        """All of it."""
        if self.mode not in ("fadump", "plain"):
            raise Unsupported(f"no mode {self.mode!r}", hint="there are: fadump, plain")
        program = machine.program(self.qemu)
        version = machine.version(program)
        order = ram_disk.byte_order(self.kernel)
        archive = self._ram_disk()
        unfinished = self._unfinished_path()
        guest = self._machine(unfinished)
        guest.check()
        began = time.time()
        self._make(unfinished)
        try:
            with os_errors(OutputError, unfinished):
                guest.initrd.write_bytes(archive)
            notes = event_loop.finish(self._guest(guest, program, unfinished))
            meta = self._meta(guest, version, order) | notes
            self._finish(unfinished, meta, began)
        except BaseException:
            _leave_the_console(unfinished)
            raise
        return self.directory

    def _ram_disk(self) -> bytes:
        if self.initrd is not None:
            with os_errors(InputError, self.initrd):
                return self.initrd.read_bytes()
        assert self.crash is not None
        return ram_disk.build(
            kernel=self.kernel, busybox=self.busybox, modules=self.modules, crash=self.crash
        )

    def _unfinished_path(self) -> Path:
        if self.directory.exists() and (
            not self.directory.is_dir() or any(self.directory.iterdir())
        ):
            raise OutputError(
                "exists already", where=str(self.directory), hint="name a new directory"
            )
        return self.directory.absolute().with_name(self.directory.name + ".incomplete")

    def _make(self, unfinished: Path) -> None:
        """The empty folder, and in it the disk that /proc/vmcore is copied to."""
        with os_errors(OutputError, unfinished):
            if unfinished.exists():
                shutil.rmtree(unfinished)
            unfinished.mkdir(parents=True, mode=0o700)
            if self.mode == "fadump":
                with create(unfinished / "vmcore.kernel") as file:
                    file.truncate(self.memory + _SPARE)

    def _machine(self, folder: Path) -> Machine:
        words = [_FADUMP_WORDS if self.mode == "fadump" else "", self.append]
        return Machine(
            cpu=self.cpu,
            mmu=self.mmu,
            cpus=self.cpus,
            memory=self.memory,
            kernel=self.kernel.absolute(),
            initrd=folder / "initrd",
            append=" ".join(word for word in words if word),
            options=self.crash.options if self.crash else "",
            disk=folder / "vmcore.kernel" if self.mode == "fadump" else None,
        )

    async def _guest(self, guest: Machine, program: list[str], folder: Path) -> dict[str, Any]:
        seconds: dict[str, float]
        async with session(
            guest, program, folder, patience=self.patience, report=self.report
        ) as running:
            event = await ending.crash(running, self.crash)
            notes = await ending.take(running, event, self.mode)
            seconds = running.seconds
        return notes | {"seconds": seconds}

    def _meta(self, guest: Machine, version: tuple[int, int], order: str) -> dict[str, Any]:
        return {
            "guest": "qemu",
            "mode": self.mode,
            "kernel": str(guest.kernel),
            "byte order": order,
            "mmu": self.mmu,
            "cpu": self.cpu,
            "cpus": self.cpus,
            "memory": self.memory,
            "crash": self.crash.name if self.crash else "the initial RAM disk's own",
            "what": self.crash.help if self.crash else "",
            "bootargs": guest.bootargs,
            "modules": [module.name for module in self.modules],
            "qemu": "{}.{}".format(*version),
        }

    def _finish(self, unfinished: Path, meta: dict[str, Any], began: float) -> None:
        """Leave what belongs there, say what it is, and give the directory its name."""
        for name in ("initrd", "qemu.log"):
            (unfinished / name).unlink(missing_ok=True)
        if meta["preserved by"] != "QEMU" or "no vmcore.kernel" in meta:
            (unfinished / "vmcore.kernel").unlink(missing_ok=True)
        console = (unfinished / "console.log").read_text("ascii", "replace")
        release = re.search(r"Linux version (\S+)", console)
        meta["release"] = release[1] if release else None
        meta["seconds"]["altogether"] = round(time.time() - began, 1)
        meta["bytes"] = {file.name: file.stat().st_size for file in sorted(unfinished.iterdir())}
        with os_errors(OutputError, unfinished), create(unfinished / "meta.json") as file:
            file.write(json.dumps(meta, indent=1).encode())
        with os_errors(OutputError, self.directory):
            (unfinished / "console.log").chmod(0o600)
            if self.directory.exists():
                self.directory.rmdir()
            unfinished.rename(self.directory)


def _leave_the_console(unfinished: Path) -> None:
    """After a failure: what helps to understand it, and nothing large."""
    for file in unfinished.iterdir():
        if file.name not in ("console.log", "qemu.log"):
            file.unlink(missing_ok=True)
