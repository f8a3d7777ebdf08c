"""The register save area once more: LoPAR's appendix "Firmware Assisted Dump Data Format".

Other than phypan's, this reader first writes the area down as a word of letters, S for CPUSTRT, E
for CPUEND and R for a register, and then asks a regular expression where the CPUs are. What it
makes of odd areas is what a careful reader of the document would: as many CPUs as the area
announces; a CPU ends where the next begins or the area ends, if it does not end before; what is
outside of a CPU and no end of one is not looked at, nor what follows it.
"""

from __future__ import annotations

import re
import struct

PATTERNS = [
    *(f"GPR{n:02}" for n in range(32)),
    *(f"FPR{n:02}" for n in range(32)),
    *(f"X-GPR{n:02}" for n in range(32)),
    *(f"VR{n:02}_{half}" for n in range(32) for half in ("HI", "LO")),
    *(f"VSR{n:02}_{half}" for n in range(64) for half in ("HI", "LO")),
    *(f"X-VS{n:02}{half}" for n in range(64) for half in ("HI", "LO")),
]
SINGLES = """
    ACOP AMR CFAR CR CTR CTRL DABR DABRX DAR DEC DSCR DSISR FPSCR LR MMCR0 MMCR1 MMCRA MSR NIA PID
    PIR PMC1 PMC2 PMC3 PMC4 PMC5 PMC6 PURR PVR SDAR SIAR SPRG0 SPRG1 SPRG2 SPRG3 SPURR SRR0 SRR1 TB
    TSR UAMOR VRSAVE VSCR XER FSCR VTB IC DAWR0 DAWRX0 CIABR TAR BESCR EBBHR EBBRR IAMR PSPB RPR
    MMCR2 SIER DPDES TIR TID SPMC1 SPMC2 MMCRS WORC WORT TFHAR TFIAR TEXASR X-CR X-VSCR X-XER X-LR
    X-CTR X-FPSCR X-AMR X-TSR X-VRSAVE X-DSCR X-TAR LMRR LMSER PSSCR
""".split()
NAMES = [*PATTERNS, *SINGLES]
HALF_WORDS = "CR DSISR VRSAVE VSCR PVR CTRL PIR X-CR X-VSCR X-VRSAVE".split()
MARKERS = {0x4350555354525400: "S", 0x435055454E440000: "E"}  # CPUSTRT, CPUEND


def numbers(name: str) -> int:
    """The identifier as Linux compares it: eight ASCII characters, the first one highest."""
    return sum(ord(letter) << 8 * (7 - place) for place, letter in enumerate(name))


NAME_OF = {numbers(name): name for name in NAMES}


def cpus(area: bytes) -> list[tuple[int, dict[str, int]]]:
    """(logical CPU number, register by name) of each CPU in stored order."""
    magic, _, at = struct.unpack_from(">QII", area)
    assert magic == 0x5245475341564500
    (announced,) = struct.unpack_from(">I", area, at)
    rest = area[at + 4 :]
    entries = [struct.unpack_from(">QQ", rest, 16 * n) for n in range(len(rest) // 16)]
    word = "".join(MARKERS.get(identifier, "R") for identifier, _ in entries)
    found, place = [], 0
    cpu = re.compile(r"E|S(R*)(?:E|(?=S)|\Z)")
    while len(found) < announced and (match := cpu.match(word, place)):
        place = match.end()
        if match[1] is not None:
            number = entries[match.start()][1] % (1 << 32)
            found.append((number, registers(entries[match.start(1) : match.end(1)])))
    return found


def registers(entries: list[tuple[int, int]]) -> dict[str, int]:
    """Name -> value, the first of a name; only those that LoPAR lists."""
    values: dict[str, int] = {}
    for identifier, value in reversed(entries):
        if identifier in NAME_OF:
            name = NAME_OF[identifier]
            values[name] = value % (1 << 32) if name in HALF_WORDS else value
    return values
