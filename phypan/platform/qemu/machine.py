"""The command line of QEMU for a guest that is to crash.

QEMU docs/system/ppc/pseries.rst, qemu-options.hx. The guest's memory is a file that phypan made
(shared, so that it can be read while the guest is stopped) and the monitor is a socket pair.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phypan.errors import Unsupported

Mmu = Literal["hash", "radix"]
FADUMP_SINCE = (10, 2)  # the first QEMU that preserves memory: ibm,configure-kernel-dump
MEMORY_UNIT = 256 << 20  # bytes: the size of a logical memory block of pseries
CPUS: dict[str, tuple[Mmu, ...]] = {  # models, and the MMUs that Linux can run with there
    "POWER8": ("hash",),
    "POWER9": ("radix", "hash"),
    "POWER10": ("radix", "hash"),
    "POWER11": ("radix", "hash"),
}
DEFAULT_CPU: dict[str, str] = {"hash": "POWER8", "radix": "POWER10"}
# Workarounds for speculation that emulation does not offer; without these words QEMU refuses.
_CAPABILITIES = "cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off"
_PATIENCE = 30  # seconds for a program to say its version


@dataclass(frozen=True)
class Machine:
    """A pseries guest.

    memory   bytes, a multiple of 256 MiB
    kernel   an ELF image
    initrd   an initial RAM disk
    append   further words for the kernel's command line
    options  further options of the machine
    disk     a raw image that the guest may write to, or None
    """

    cpu: str
    mmu: Mmu
    cpus: int
    memory: int
    kernel: Path
    initrd: Path
    append: str = ""
    options: str = ""
    disk: Path | None = None

    def check(self) -> None:
        """Raise Unsupported when QEMU or Linux would not run so."""
        if self.cpu not in CPUS:
            raise Unsupported(f"no CPU {self.cpu!r}", hint=f"there are: {', '.join(CPUS)}")
        if self.mmu not in CPUS[self.cpu]:
            able = ", ".join(name for name, mmus in CPUS.items() if self.mmu in mmus)
            raise Unsupported(f"{self.cpu} has no {self.mmu} MMU", hint=f"these have: {able}")
        if self.memory <= 0 or self.memory % MEMORY_UNIT:
            raise Unsupported(
                f"{self.memory} bytes of memory",
                hint="a multiple of 256M, for fadump at least 1280M",
            )
        if not 1 <= self.cpus <= 64:
            raise Unsupported(f"{self.cpus} CPUs", hint="from 1 to 64")

    @property
    def bootargs(self) -> str:
        """The kernel's command line."""
        radix_off = ["disable_radix"] if self.mmu == "hash" and self.cpu != "POWER8" else []
        words = ["console=hvc0", "panic=0", "printk.time=1", *radix_off, self.append]
        return " ".join(word for word in words if word)

    def command(
        self, program: Sequence[str], *, memory_file: str, monitor: int, console: Path
    ) -> list[str]:
        """The words of the command.

        memory_file  path of the file that is the guest's memory
        monitor      the file descriptor of QEMU's end of the socket pair
        """
        capabilities = _CAPABILITIES
        if self.mmu == "hash":  # as PowerVM: the linear mapping is in pages of 16 MiB
            capabilities += ",cap-hpt-max-page-size=16m"
        if self.options:
            capabilities += f",{self.options}"
        words = [
            *program,
            "-nodefaults",
            "-display", "none",
            "-machine", f"pseries,memory-backend=memory,{capabilities}",
            "-object",
            f"memory-backend-file,id=memory,share=on,size={self.memory},mem-path={memory_file}",
            "-cpu", self.cpu,
            "-smp", str(self.cpus),
            "-m", f"{self.memory >> 20}M",
            "-chardev", f"socket,id=monitor,fd={monitor}",
            "-qmp", "chardev:monitor",
            "-serial", f"file:{_comma(console)}",
            "-kernel", str(self.kernel),
            "-initrd", str(self.initrd),
            "-append", self.bootargs,
            # At the end nothing goes on by itself: what there is can be taken first.
            "-action", "panic=pause,reboot=shutdown,shutdown=pause",
        ]  # fmt: skip
        if self.disk is not None:
            words += [
                "-drive",
                "if=none,id=disk,format=raw,discard=unmap,detect-zeroes=unmap,"
                f"file={_comma(self.disk)}",
                "-device", "virtio-blk-pci,drive=disk",
            ]  # fmt: skip
        return words


def _comma(path: Path) -> str:
    """A path inside of an option, in which a comma is written twice."""
    return str(path).replace(",", ",,")


def program(command: str) -> list[str]:
    """The words of the command that starts QEMU; Unsupported, with a hint, if it is not there."""
    words = shlex.split(command)
    if not words or shutil.which(words[0]) is None:
        raise Unsupported(
            f"{command!r} is not a program",
            hint="install qemu-system-ppc (10.2 or later for firmware-assisted dumps), or name "
            "the program",
        )
    return words


def version(words: Sequence[str]) -> tuple[int, int]:
    """(major, minor) of QEMU; Unsupported if it is no QEMU for POWER."""
    try:
        done = subprocess.run(
            [*words, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
        )
        said = done.stdout or done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    found = re.search(r"QEMU emulator version (\d+)\.(\d+)", said)
    if not found:
        first = (said.strip() or "nothing").splitlines()[0][:200]
        raise Unsupported(f"it does not say QEMU's version: {first}", where=words[0])
    return int(found[1]), int(found[2])
