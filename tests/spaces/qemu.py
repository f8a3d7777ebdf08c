"""QEMU as a POWER processor without an operating system: a few instructions turn its MMU on.

The machine is powernv, which has no hypervisor between the guest and its page tables. What is given
as its firmware is memory from address 0 on: instructions, tables, and the table's table.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ENTRY = 0x10  # where a powernv machine begins
CODE = 0x4000  # behind the interrupt vectors
PAGE_OFFSET = 0xC000000000000000
LPCR, PTCR, PIDR, SDR1, SRR0, SRR1 = 318, 464, 48, 25, 26, 27
HOST_RADIX, PROCESS_TABLE = 1 << 20, 1 << 22  # LPCR[HR], LPCR[UPRT]
MSR = 1 << 63 | 1 << 60 | 0x1000 | 0x30  # 64 bits, hypervisor, machine checks, IR and DR
START = 60


def _load(register: int, value: int) -> list[int]:
    """lis, ori, sldi, oris, ori: a register's 64 bits."""
    parts = [value >> shift & 0xFFFF for shift in (48, 32, 16, 0)]
    same = register << 21 | register << 16
    return [
        15 << 26 | register << 21 | parts[0], 24 << 26 | same | parts[1],
        0x780007C6 | same, 25 << 26 | same | parts[2], 24 << 26 | same | parts[3],
    ]  # fmt: skip


def _mtspr(number: int, value: int) -> list[int]:
    spr = (number & 31) << 16 | number >> 5 << 11
    return [*_load(3, value), 31 << 26 | 3 << 21 | spr | 467 << 1]


def _slbmte(esid: int, vsid: int) -> list[int]:
    return [*_load(3, vsid), *_load(4, esid), 31 << 26 | 3 << 21 | 4 << 11 | 402 << 1]


def program(registers: dict[int, int], slb: Sequence[tuple[int, int]]) -> bytes:
    """Set special registers and the SLB, then go on, translated, at PAGE_OFFSET: for ever there."""
    words = [0x7C0003E4] if slb else []  # slbia
    for number, value in registers.items():
        words += _mtspr(number, value)
    for esid, vsid in slb:
        words += _slbmte(esid, vsid)
    loop = PAGE_OFFSET + CODE + 4 * (len(words) + 13)
    words += _mtspr(SRR0, loop) + _mtspr(SRR1, MSR) + [0x4C000024, 0x48000000]  # rfid, b .
    return b"".join(word.to_bytes(4, "big") for word in words)


class Machine:
    """A running machine; `with` ends it."""

    def __init__(self, qemu: str, machine: str, memory: Path) -> None:
        command = [
            qemu, "-M", machine, "-m", "1G", "-display", "none", "-nodefaults", "-serial", "none",
            "-bios", str(memory), "-qmp", "stdio",
        ]  # fmt: skip
        self._stack = ExitStack()
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True, **pipes)
        self._process = self._stack.enter_context(process)
        self._stack.callback(self._process.kill)

    def __enter__(self) -> Machine:
        try:
            self._ask("qmp_capabilities")
            self._wait()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _ask(self, command: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            said = json.loads(line)
            assert "error" not in said, said
            if "return" in said:
                return said["return"]
        raise AssertionError("QEMU has ended")

    def monitor(self, command: str) -> str:
        """What its monitor says."""
        return str(self._ask("human-monitor-command", **{"command-line": command}))

    def _wait(self) -> None:
        """Until the program is in its loop, behind PAGE_OFFSET."""
        end = time.monotonic() + START
        while True:
            said = self.monitor("info registers")
            match = re.search(r"NIP ([0-9a-f]+).*?MSR ([0-9a-f]+)", said, re.DOTALL)
            assert match is not None, said
            nip, msr = (int(word, 16) for word in match.groups())
            if nip >= PAGE_OFFSET and msr & 0x30 == 0x30:
                return
            assert time.monotonic() < end, said
            time.sleep(0.02)

    def physical(self, addresses: Iterable[int]) -> list[int | None]:
        """The physical address of each effective one, as its MMU has it; None where it has none."""
        said = [self.monitor(f"gva2gpa {address:#x}") for address in addresses]
        found = [re.fullmatch(r"gpa: (?:0x)?([0-9a-f]+)", text.strip()) for text in said]
        assert all(match or "Unmapped" in text for match, text in zip(found, said, strict=True))
        return [int(match[1], 16) if match else None for match in found]
