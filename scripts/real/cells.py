"""The cells of the matrix: kernel, MMU, byte order, page size, CPUs, way to crash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

BUILT = ("6.12-le64k", "6.12-be64k", "6.12-le4k")
DEBIANS = ("debian-6.1", "debian-newest")
MMUS = ("hash", "radix")
BASE = ("sysrq", "null", "warn")  # on every kernel with every MMU
FURTHER = (
    "bug", "soft-lockup", "hard-lockup", "deadlock", "stack-overflow", "out-of-memory",
    "recursive-fault", "machine-check", "nmi",
)  # fmt: skip
_NO_CHECK = "QEMU makes no machine checks for POWER8; there is a cell with POWER9"


@dataclass(frozen=True)
class Cell:
    """One guest and its end.

    kernel  a piece of the workshop
    how     who preserves memory: "qemu", "model" (the platform model's hypervisor), or nobody
            ("plain": QEMU's dump-guest-memory)
    qemu    the piece that QEMU is
    reason  why it cannot be, if it cannot
    """

    kernel: str
    mmu: str
    crash: str
    how: str = "qemu"
    cpu: str = ""
    cpus: int = 2
    qemu: str = "qemu"
    reason: str = ""

    @property
    def name(self) -> str:
        """Of its dump directory."""
        words = [self.kernel, self.mmu, self.crash]
        words += [self.cpu.lower()] if self.cpu else []
        words += [f"{self.cpus}cpus"] if self.cpus != 2 else []
        words += [self.how] if self.how != "qemu" else []
        words += ["old"] if self.qemu != "qemu" else []
        return "-".join(words)

    @property
    def mode(self) -> str:
        """The mode of phypan.simulate()."""
        return "plain" if self.how == "plain" else "fadump"

    @property
    def byte_order(self) -> str:
        """Of the kernel."""
        return "big" if "-be" in self.kernel else "little"

    @property
    def options(self) -> str:
        """Further words for QEMU.

        Its own Virtual Open Firmware does in no time what takes SLOF half of the whole run; what
        it does for dumps is the same. One crash of every kernel goes through SLOF.
        """
        return "" if self.crash == "sysrq" else "-machine x-vof=on"

    @property
    def busybox(self) -> str:
        """The piece that the guest's busybox is."""
        return "busybox-be" if self.byte_order == "big" else "busybox-le"


def cells() -> Iterator[Cell]:
    """All of them."""
    for kernel, mmu, crash in product(BUILT, MMUS, BASE):
        yield Cell(kernel, mmu, crash)
    for mmu, crash in product(MMUS, FURTHER):
        nothing = crash == "machine-check" and mmu == "hash"
        yield Cell("6.12-le64k", mmu, crash, reason=_NO_CHECK if nothing else "")
    for crash in ("stack-overflow", "out-of-memory", "deadlock"):
        yield Cell("6.12-be64k", "radix", crash)
    yield Cell("6.12-le64k", "hash", "machine-check", cpu="POWER9")
    yield Cell("6.12-le64k", "hash", "sysrq", cpu="POWER10")
    yield Cell("6.12-le64k", "radix", "sysrq", cpu="POWER11")
    yield Cell("6.12-be64k", "radix", "sysrq", cpu="POWER9")
    for mmu in MMUS:
        yield Cell("6.12-le64k", mmu, "sysrq", cpus=1)
        yield Cell("6.12-le64k", mmu, "soft-lockup", cpus=4)
        cpu = "" if mmu == "hash" else "POWER9"  # what the old QEMU has for radix
        yield Cell("6.12-le64k", mmu, "null", how="model", cpu=cpu, qemu="qemu-old")
    for kernel, mmu, crash in product(DEBIANS, MMUS, BASE):
        yield Cell(kernel, mmu, crash, how="model")
    for kernel, mmu in product(DEBIANS, MMUS):
        yield Cell(kernel, mmu, "sysrq", how="plain")
