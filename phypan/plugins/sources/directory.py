"""A dump directory: what a crash left, one file for each thing.

    ram              the partition's memory in its second boot, from physical address 0
    boot2.dtb        flattened device tree of the second boot
    ibm,kernel-dump  the raw property, where there is no device tree
    release_region   the text of /sys/kernel/release_region (or fadump_region)
    hpt              an image of the hashed page table, if the hypervisor gave one

`phypan simulate` writes one. A directory with a finished `vmcore` in it, as capture tools leave it
under /var/crash, opens as that file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from phypan import Dump, FileStore, Input, InputError, Source, from_ram, hookimpl, read_regions

RAM = "ram"
REGIONS = ("boot2.dtb", "ibm,kernel-dump", "release_region", "fadump_region")
VMCORE = "vmcore"
HPT = "hpt"


def probe(given: Input) -> int:
    """Sure of a directory that has a RAM image or a vmcore."""
    if given.store is not None or not given.path.is_dir():
        return 0
    return 90 if (given.path / RAM).exists() or (given.path / VMCORE).exists() else 0


def open_(given: Input) -> Dump | Input:
    """The Dump, or the vmcore to be opened in its place."""
    ram = given.path / RAM
    if not ram.exists():
        vmcore = FileStore(given.path / VMCORE)
        head = bytes(vmcore.view(0, min(vmcore.size, 4096)))
        given = replace(given, hpt=given.hpt or _hpt(given.path))
        return replace(given, path=given.path / VMCORE, store=vmcore, head=head)
    regions = (*given.regions, *_described(given.path))
    if not regions:
        raise InputError(
            "a RAM image, and nothing that says what was preserved",
            where=str(given.path),
            hint=f"put one of {', '.join(REGIONS)} beside it, or use --regions",
        )
    store = FileStore(ram)
    try:
        dump = from_ram(store, read_regions(regions, store), f"dump directory {given.path}")
        hpt = None if given.hpt else _hpt(given.path)
        if hpt is not None:
            dump.hpt = FileStore(hpt)
            dump.stores = (*dump.stores, dump.hpt)
        return dump
    except BaseException:
        store.close()
        raise


def _hpt(path: Path) -> Path | None:
    return path / HPT if (path / HPT).exists() else None


def _described(path: Path) -> tuple[Path, ...]:
    return tuple(path / name for name in REGIONS if (path / name).exists())


@hookimpl
def phypan_sources() -> list[Source]:
    """The dump directory."""
    return [Source("directory", "directory that a crash or `phypan simulate` left", probe, open_)]
