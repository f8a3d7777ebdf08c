"""Record the migration streams beside this file, with what QEMU's monitor says at that moment.

    python tests/golden/qemu-streams/record.py QEMU KERNEL BUSYBOX

QEMU is the program (11.1.3 made these), KERNEL a vmlinux with both MMUs (scripts/real makes one),
BUSYBOX a static one. Linux is stopped when some processes are there.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import sys
import tempfile
from pathlib import Path

from phypan.platform.qemu import crashes, ram_disk
from phypan.platform.qemu.machine import Machine
from phypan.platform.qemu.session import Session, session

HERE = Path(__file__).parent


async def record(name: str, machine: Machine, program: list[str], wait: bool, ignore: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with session(machine, program, Path(folder), patience=120, report=print) as running:
            if wait:
                await running.until("some life", console="PHYPAN-TRUTH-BEGIN")
            await running.stop()
            said = await _said(running, machine.cpus)
            stream = await _stream(running, ignore)
    (HERE / f"{name}.gz").write_bytes(gzip.compress(stream, 9, mtime=0))
    (HERE / f"{name}.json").write_text(json.dumps(said, indent=1) + "\n")


async def record_second_boot(machine: Machine, program: list[str]) -> None:
    """Of a guest whose memory QEMU has preserved: the device tree says so."""
    with tempfile.TemporaryDirectory() as folder:
        async with session(machine, program, Path(folder), patience=120, report=print) as running:
            await running.until("the crash", events=("SHUTDOWN",))
            await running.reset()
            await running.until("the second boot", console="Run /init")
            await running.stop()
            stream = await _stream(running, True)
    (HERE / "second-boot.gz").write_bytes(gzip.compress(stream, 9, mtime=0))


async def _said(running: Session, cpus: int) -> dict[str, object]:
    async def human(line: str, **more: int) -> list[str]:
        text = await running.monitor.execute("human-monitor-command", command_line=line, **more)
        return [line.rstrip() for line in str(text).splitlines()]

    return {
        "info registers": [await human("info registers", cpu_index=n) for n in range(cpus)],
        "info tlb": [await human("info tlb", cpu_index=n) for n in range(cpus)],
        "query-version": (await running.monitor.execute("query-version"))["package"],
    }


async def _stream(running: Session, ignore: bool) -> bytes:
    path = running.folder / "stream"
    await running.monitor.execute(
        "migrate-set-capabilities",
        capabilities=[{"capability": "x-ignore-shared", "state": ignore}],
    )
    await running.monitor.execute("migrate", uri=f"exec:cat > {path}")
    while (await running.monitor.execute("query-migrate"))["status"] != "completed":
        await asyncio.sleep(0.1)
    return path.read_bytes()


def _tiny_kernel() -> bytes:
    """An ELF image of one page, which never runs: a stream with all of memory stays small."""
    page = b"PHYPAN-GOLDEN-PAGE" + bytes(65536 - 18)
    head = b"\x7fELF\x02\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 21, 1, 0, 64, 0, 2, 64, 56, 1, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 7, 65536, 0, 0, len(page), len(page), 65536)
    return head.ljust(65536, b"\0") + page


def main() -> None:
    qemu, kernel, busybox = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        initrd = Path(folder) / "initrd"
        crash = crashes.named("sysrq")
        initrd.write_bytes(ram_disk.build(kernel=kernel, busybox=busybox, modules=(), crash=crash))
        words = "fadump=on crashkernel=320M"
        machine = Machine("POWER8", "hash", 2, 1280 << 20, kernel, initrd, words)
        asyncio.run(record_second_boot(machine, [qemu]))
        for name, cpu, mmu, cpus, options in (
            ("hash", "POWER8", "hash", 2, ""),
            ("radix", "POWER10", "radix", 1, ""),
            ("memory", "POWER9", "hash", 1, "x-vof=on"),
        ):
            linux = name != "memory"
            if not linux:
                kernel, initrd = Path(folder) / "tiny", Path(folder) / "small"
                kernel.write_bytes(_tiny_kernel())
                initrd.write_bytes(b"small")
            machine = Machine(cpu, mmu, cpus, 256 << 20, kernel, initrd, options=options)  # type: ignore[arg-type]
            program = [qemu] if linux else [qemu, "-S"]
            asyncio.run(record(name, machine, program, linux, linux))


if __name__ == "__main__":
    main()
