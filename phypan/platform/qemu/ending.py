"""What is done with a guest that crashes: three ways to a dump directory.

fadump     QEMU preserves memory; taken in the second boot, with the kernel's own /proc/vmcore
preserved  the guest is stopped in its panic, and the model's hypervisor preserves memory
plain      QEMU's own dump-guest-memory, as an ELF core and in the formats of makedumpfile
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

from phypan.errors import GuestError, OutputError, PhypanError, os_errors
from phypan.formats import device_tree, hpte
from phypan.platform.qemu import cpus
from phypan.platform.qemu.crashes import Crash
from phypan.platform.qemu.guest_memory import create, make_sparse
from phypan.platform.qemu.preserve import preserve
from phypan.platform.qemu.session import Session
from phypan.platform.qemu.stream import Stream

_READY = "PHYPAN: about to crash"
_SECOND_BOOT = r"PHYPAN: second boot|fadump: Firmware-assisted dump is active"
_COPIED = r"PHYPAN: /proc/vmcore (?:copied, (\d+) bytes|was not copied.*)"
_PANIC, _RESET = "GUEST_PANICKED", "SHUTDOWN"
_FORMATS = {  # of dump-guest-memory -> name of the file
    "elf": "vmcore",
    "kdump-zlib": "vmcore.zlib",
    "kdump-lzo": "vmcore.lzo",
    "kdump-snappy": "vmcore.snappy",
    "kdump-raw-zlib": "vmcore.raw-zlib",
    "kdump-raw-lzo": "vmcore.raw-lzo",
    "kdump-raw-snappy": "vmcore.raw-snappy",
}


async def crash(session: Session, kind: Crash | None) -> str:
    """Wait until the guest has crashed, and help where `kind` says so; the event of QEMU."""
    if kind is not None and kind.nmi:
        await session.until("the first boot", console=_READY)
        await asyncio.sleep(1)
        await session.monitor.execute("inject-nmi")
    event = await session.until("the crash", events=(_PANIC, _RESET))
    await session.stop()
    return event


async def take(session: Session, event: str, mode: str) -> dict[str, Any]:
    """Take from a guest that has crashed what `mode` wants; notes for meta.json."""
    state = await session.state()
    _write_state(session.folder, state)
    if mode == "plain":
        return await _plain(session)
    if event == _RESET:
        return await _fadump(session)
    session.report("the model's hypervisor preserves memory")
    await asyncio.to_thread(preserve, session.memory, state, session.folder)
    return {"preserved by": "phypan's platform model"}


def _write_state(folder: Path, state: Stream) -> None:
    """registers.json, and hpt: the hashed page table, 16 bytes an entry, big-endian."""
    with os_errors(OutputError, folder):
        with create(folder / "registers.json") as file:
            file.write(json.dumps(cpus.described(state), indent=1).encode())
        if state.hpt_shift is None:
            return
        with create(folder / "hpt") as file:
            for index, entry in state.hpt.items():
                os.pwrite(file.fileno(), entry, index * hpte.ENTRY.size)
            file.truncate(1 << state.hpt_shift)


async def _fadump(session: Session) -> dict[str, Any]:
    folder = session.folder
    await session.reset()
    await session.until("the second boot", console=_SECOND_BOOT)
    own = await _settled(session)
    await session.stop()
    session.report("saving memory")
    await asyncio.to_thread(session.memory.save, folder / "ram")
    tree = (await session.state()).device_tree()
    if tree is None or device_tree.kernel_dump(device_tree.read(tree)) is None:
        raise GuestError(
            "the guest booted again and nothing had been preserved",
            hint="was the dump registered? see console.log",
        )
    with os_errors(OutputError, folder), create(folder / "boot2.dtb") as file:
        file.write(tree)
    notes = {"preserved by": "QEMU"}
    if not own:
        return notes | {"no vmcore.kernel": "the initial RAM disk does not copy it"}
    await session.monitor.execute("cont")
    return notes | await _vmcore(session)


async def _settled(session: Session) -> bool:
    """Whether phypan's init runs in the second boot; with another one, when all is quiet."""
    quiet = 0
    while quiet < 50 and not session.console.search("PHYPAN: second boot"):
        quiet = 0 if session.console.look() else quiet + 1
        await asyncio.sleep(0.1)
    return quiet < 50


async def _vmcore(session: Session) -> dict[str, Any]:
    """Let the guest copy its /proc/vmcore to the disk, which becomes the file."""
    disk = session.folder / "vmcore.kernel"
    try:
        said = await session.until("the copy of /proc/vmcore", console=_COPIED)
    except PhypanError as error:
        return {"no vmcore.kernel": error.what.splitlines()[0]}
    size = re.search(r"copied, (\d+)", said)
    if size is None:
        return {"no vmcore.kernel": said}
    await session.ended()
    os.truncate(disk, int(size[1]))
    return {}


async def _plain(session: Session) -> dict[str, Any]:
    able = await session.monitor.execute("query-dump-guest-memory-capability")
    failed = {}
    for name in able["formats"]:
        if name not in _FORMATS:
            continue
        session.report(f"dump-guest-memory, {name}")
        path = session.folder / _FORMATS[name]
        try:
            await session.monitor.execute(
                "dump-guest-memory", paging=False, format=name, protocol=f"file:{path}"
            )
            await asyncio.to_thread(make_sparse, path)
        except GuestError as error:
            path.unlink(missing_ok=True)
            failed[name] = error.what
    return {"preserved by": "nobody: dump-guest-memory", "formats that failed": failed}
