"""Migration streams that QEMU itself wrote, with what its monitor said at that moment."""

from __future__ import annotations

import functools
import gzip
import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "qemu-streams"


@functools.cache
def data(name: str) -> bytes:
    return gzip.decompress((FOLDER / f"{name}.gz").read_bytes())


def monitor(name: str) -> list[dict[str, int]]:
    """Each CPU's registers as the monitor printed them."""
    said = json.loads((FOLDER / f"{name}.json").read_text())
    return [_registers(lines) for lines in said["info registers"]]


def _registers(lines: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        several = re.match(r"(GPR|FPR)(\d\d)((?: [0-9a-f]{16})+)$", line)
        if several:
            for n, value in enumerate(several[3].split(), start=int(several[2])):
                found[f"{several[1]}{n:02}"] = int(value, 16)
            continue
        for name, value in re.findall(r"\b([A-Z]+\d*) +([0-9a-f]{8,16})\b", line):
            found.setdefault("NIA" if name == "NIP" else name, int(value, 16))
    return found


def segments(name: str) -> list[list[tuple[int, int, int]]]:
    """Each CPU's SLB as the monitor printed it: (slot, ESID, VSID)."""
    said = json.loads((FOLDER / f"{name}.json").read_text())
    return [
        [
            (int(slot), int(esid, 16), int(vsid, 16))
            for slot, esid, vsid in re.findall(
                r"^(\d+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)", "\n".join(lines), re.MULTILINE
            )
        ]
        for lines in said["info tlb"]
    ]
