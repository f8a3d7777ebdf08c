"""The guest's initial RAM disk: a static busybox, phypan's first process, modules.

Everything the guest is, beside its kernel. Made in memory; gzip, which every kernel unpacks.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from phypan.errors import InputError, Unsupported, os_errors
from phypan.formats._records import ByteOrder
from phypan.platform.qemu import cpio
from phypan.platform.qemu.crashes import MODULE, Crash

_ELF, _EM_PPC64 = b"\x7fELF\x02", 21
_PT_INTERP = 3
_HINT = (
    "name a static busybox for the kernel's byte order with --busybox: for little-endian it is "
    "in Debian's package busybox-static:ppc64el, for big-endian build one with CONFIG_STATIC=y"
)


def byte_order(path: Path) -> ByteOrder:
    """Of a 64-bit ELF program for POWER: a kernel, a busybox, a module."""
    with os_errors(InputError, path), path.open("rb") as file:
        head = file.read(20)
    order: ByteOrder = "little" if head[5:6] == b"\1" else "big"
    if head[:5] != _ELF or int.from_bytes(head[18:20], order) != _EM_PPC64:
        raise InputError(
            "not a 64-bit ELF file for POWER",
            where=str(path),
            hint="a kernel is the file vmlinux; zImage and vmlinuz have others around them",
        )
    return order


def build(*, kernel: Path, busybox: Path | None, modules: Sequence[Path], crash: Crash) -> bytes:
    """The RAM disk for a kernel: it boots, tells what is true of it, and crashes as `crash` says.

    modules  kernel modules, loaded in this order; phypan_crash.ko is one of them

    Raises Unsupported when something that it takes is not there or is of the other byte order.
    """
    order = byte_order(kernel)
    if busybox is None:
        raise Unsupported("a guest needs a busybox", hint=_HINT)
    _matching(busybox, order, kernel)
    for module in modules:
        _matching(module, order, kernel)
    names = [module.name for module in modules]
    if crash.module and f"{MODULE}.ko" not in names:
        raise Unsupported(
            f"the crash {crash.name!r} takes the module {MODULE}.ko, built for this kernel",
            hint=f"build it from {module_source()} and name it with --module",
        )
    init = files("phypan.platform.qemu").joinpath("guest", "init").read_bytes()
    content = [
        *(cpio.directory(name) for name in ("bin", "dev", "modules")),
        cpio.character_device("dev/console", 5, 1),
        cpio.program("init", init),
        cpio.program("bin/busybox", _read(busybox)),
        cpio.program("bin/phypan_crash", b"#!/bin/sh\n" + crash.script.encode() + b"\n"),
        *(cpio.plain(f"modules/{module.name}", _read(module)) for module in modules),
        cpio.plain("modules/order", "".join(f"{name}\n" for name in names).encode()),
    ]
    return gzip.compress(cpio.write(content), 6, mtime=0)


def module_source() -> Path:
    """The folder with the source of phypan_crash and its Makefile."""
    return Path(str(files("phypan.platform.qemu").joinpath("guest", "module")))


def _matching(path: Path, order: ByteOrder, kernel: Path) -> None:
    found = byte_order(path)
    if found != order:
        raise Unsupported(
            f"is {found}-endian, the kernel {kernel} is {order}-endian", where=str(path), hint=_HINT
        )


def _read(path: Path) -> bytes:
    with os_errors(InputError, path):
        return path.read_bytes()
