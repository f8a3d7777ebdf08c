"""A RAM image of the second boot, with files that say what the firmware preserved where.

The image begins at physical address 0 and has no header: `dd` of /dev/mem, QEMU's pmemsave, a
hypervisor's own copy.
"""

from __future__ import annotations

from phypan import Dump, Input, Source, Unsupported, from_ram, hookimpl, read_regions

_OTHER_FILES = (b"\x7fELF", b"KDUMP   ", b"makedumpfile")


def probe(given: Input) -> int:
    """Sure of any file that comes with regions and is nothing else."""
    if given.store is None or not given.regions or given.head.startswith(_OTHER_FILES):
        return 0
    return 50


def open_(given: Input) -> Dump:
    """The Dump that the image and the regions make."""
    if given.store is None:
        raise Unsupported("a directory is no RAM image", where=str(given.path))
    regions = read_regions(given.regions, given.store)
    names = ", ".join(path.name for path in given.regions)
    return from_ram(given.store, regions, f"RAM image {given.path} with {names}")


@hookimpl
def phypan_sources() -> list[Source]:
    """The RAM image."""
    return [Source("ram", "RAM image of the second boot, with --regions", probe, open_)]
