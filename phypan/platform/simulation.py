"""A crash from beginning to end: first boot, registration, crash, second boot, what is left."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phypan.errors import OutputError, Unsupported, os_errors
from phypan.platform import device_tree, faults, lpar, second_boot
from phypan.platform.guest import Guest
from phypan.platform.hypervisor import Hypervisor
from phypan.platform.partition_memory import PartitionMemory
from phypan.platform.reservation import KERNELS
from phypan.platform.second_boot import SecondBoot

SIZES = {"K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True)
class Simulation:
    """What happened, for those who want to compare.

    before    memory at the instant of the crash, before anything was preserved
    cpus      each CPU's registers then, by LoPAR's name, as the firmware saw them
    boot      the partition in its second boot
    """

    before: PartitionMemory
    cpus: dict[int, dict[str, int]]
    boot: SecondBoot


def size(text: str) -> int:
    """Bytes from "512M", "2G", "1T" or a plain number."""
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        return int(digits, 0) << SIZES[unit] if unit else int(digits, 0)
    except (ValueError, KeyError):
        raise Unsupported(f"{text!r} is not a size", hint="as in 512M, 2G or 1T") from None


def run(
    *,
    kernel: str = "6.12",
    memory: str = "2G",
    cpus: int = 2,
    byte_order: Literal["little", "big"] | None = None,
    page_size: int = 65536,
    mmu: Literal["hash", "radix"] = "hash",
    layout: Literal["lopar", "qemu"] = "lopar",
    boot_memory: str = "320M",
    crash_cpu: int = 0,
    message: str = "sysrq triggered crash",
    fault: tuple[str, ...] = (),
    without_quirk: tuple[str, ...] = (),
    seed: int = 0,
) -> Simulation:
    """Boot the synthetic guest, crash it, boot again.

    kernel         2.6.32 (phyp dump, big-endian), 5.10 or 6.12 (fadump, header version 0 and 1)
    memory         of the partition
    cpus           logical CPUs, all online
    byte_order     of the guest's kernel; little, but for the one that knows only big
    page_size      4096 or 65536 bytes
    mmu            with a hashed page table, or without
    layout         of the register save area: LoPAR's or QEMU's
    boot_memory    low memory that fadump preserves; phyp dump always takes 256M
    crash_cpu      the CPU that panics
    message        what it panics with
    fault          what goes wrong on the way, by name; may be given several times
    without_quirk  a quirk of the old kernel to do without: offsets, one-page-more
    seed           contents of pages and registers follow from it

    Raises PhypanError when no dump results, because the registration was refused.
    """
    if kernel not in KERNELS:
        raise Unsupported(f"no guest kernel {kernel!r}", hint=f"there are: {', '.join(KERNELS)}")
    if page_size not in (4096, 65536):
        raise Unsupported(f"pages of {page_size} bytes", hint="4096 or 65536")
    wrong = faults.named(fault)
    partition = lpar.make(memory=size(memory), cpus=cpus, hash_mmu=mmu == "hash", seed=seed)
    if not 0 <= crash_cpu < cpus:
        raise Unsupported(f"CPU {crash_cpu} of {cpus}", hint="CPUs are counted from 0")
    firmware = Hypervisor(partition, layout=layout, faults=wrong)
    guest = Guest(
        partition,
        firmware,
        KERNELS[kernel],
        byte_order=byte_order or KERNELS[kernel].byte_order,
        page_size=page_size,
        boot_memory=size(boot_memory),
        seed=random.Random(seed).getrandbits(32),
        faults=wrong,
    )
    guest.boot()
    before = guest.die(crash_cpu, message)
    saved = {p.number: dict(p.registers) for p in partition.processors if p.online}
    firmware.reset()
    quirks = second_boot.DEFAULT_QUIRKS - second_boot.named(without_quirk)
    boot = second_boot.start(guest, quirks=quirks, faults=wrong)
    return Simulation(before, saved, boot)


def save(
    simulation: Simulation, directory: str | os.PathLike[str], options: Mapping[str, object]
) -> Path:
    """Write what the second boot finds, as a dump directory (see phypan.plugins.sources.directory).

    Files are readable by their owner only. Raises OutputError.
    """
    folder = Path(directory)
    boot = simulation.boot
    if folder.exists() and any(folder.iterdir()):
        raise OutputError("is not empty", where=str(folder), hint="name a new directory")
    with os_errors(OutputError, folder):
        folder.mkdir(parents=True, exist_ok=True)
    boot.lpar.memory.save(folder / "ram")
    _write(folder / "boot2.dtb", device_tree.blob(boot.hypervisor, phyp_names=boot.phyp))
    files = boot.files()
    text = files.get("sys/kernel/release_region")
    if text is not None and text.read is not None:
        _write(folder / "release_region", text.read(0, 4096))
    if boot.lpar.hpt is not None:
        boot.lpar.hpt.save(folder / "hpt")
    _write(folder / "console.log", "".join(f"{line}\n" for line in boot.lpar.log).encode())
    registers = {
        str(number): {name: f"{value:#x}" for name, value in values.items()}
        for number, values in simulation.cpus.items()
    }
    meta = {"guest": "synthetic", "options": dict(options), "registers": registers}
    _write(folder / "meta.json", json.dumps(meta, indent=1).encode())
    return folder


def _write(path: Path, data: bytes) -> None:
    with os_errors(OutputError, path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
