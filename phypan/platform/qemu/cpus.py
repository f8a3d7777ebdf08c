"""What a migration stream says of each CPU: registers by LoPAR's name, and the SLB.

QEMU target/ppc/machine.c: vmstate_ppc_cpu and its subsections. LR, CTR, XER and CFAR are put among
the special purpose registers when the state is saved. Numbers of those: Power ISA 3.1, Book III,
"SPR"; what the partition's own kernel cannot see is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from phypan.formats.regsave import CpuState
from phypan.platform.qemu.stream import Stream
from phypan.platform.qemu.vmstate import State, numbers

SPR: Mapping[str, int] = {
    "XER": 1, "LR": 8, "CTR": 9, "DSCR": 17, "DSISR": 18, "DAR": 19, "DEC": 22, "SRR0": 26,
    "SRR1": 27, "CFAR": 28, "AMR": 29, "ACOP": 31, "PID": 48, "IAMR": 61, "TFHAR": 128,
    "TFIAR": 129, "TEXASR": 130, "CTRL": 136, "FSCR": 153, "UAMOR": 157, "PSPB": 159, "DPDES": 176,
    "DAWR0": 180, "CIABR": 187, "DAWRX0": 188, "VRSAVE": 256, "SPRG0": 272, "SPRG1": 273,
    "SPRG2": 274, "SPRG3": 275, "PVR": 287, "SPURR": 308, "PURR": 309, "MMCR2": 785, "MMCRA": 786,
    "MMCR0": 795, "EBBHR": 804, "EBBRR": 805, "BESCR": 806, "TAR": 815, "IC": 848, "VTB": 849,
    "PIR": 1023,
}  # fmt: skip
# Of the machine, not of the partition: for those who compare translations, not for firmware.
_HYPERVISOR: Mapping[str, int] = {"HSRR0": 314, "HSRR1": 315, "LPCR": 318, "PTCR": 464, "SDR1": 25}
_SLB_VALID = 1 << 27  # of the doubleword with the ESID


def registers(stream: Stream) -> list[CpuState]:
    """Each CPU with the registers that firmware would save, 64 bits each."""
    return [CpuState(number, _registers(state)) for number, state in enumerate(stream.cpus())]


def _registers(state: State) -> dict[str, int]:
    special = numbers(state, "env.spr")
    values = {f"GPR{n:02}": value for n, value in enumerate(numbers(state, "env.gpr"))}
    values |= {"NIA": state["env.nip"], "MSR": state["env.msr"], "CR": _condition(state)}
    values |= {name: special[number] for name, number in SPR.items() if number < len(special)}
    for n, value in enumerate(numbers(state.get("cpu/fpu", {}), "env.vsr")):
        values[f"FPR{n:02}"] = value
    values["FPSCR"] = state.get("cpu/fpu", {}).get("env.fpscr", 0)
    vectors = state.get("cpu/altivec", {})
    for n, value in enumerate(vectors.get("env.vsr", ())):
        # put_avr() writes the two halves as they lie in this machine's memory
        halves = int(value[:16], 16), int(value[16:], 16)
        high, low = halves if sys.byteorder == "big" else halves[::-1]
        values[f"VR{n:02}_HI"], values[f"VR{n:02}_LO"] = high, low
    values["VSCR"] = vectors.get("vscr", 0)
    for n, low in enumerate(numbers(state.get("cpu/vsx", {}), "env.vsr")):
        values[f"VSR{n:02}_HI"], values[f"VSR{n:02}_LO"] = values.get(f"FPR{n:02}", 0), low
    return values


def _condition(state: State) -> int:
    """CR out of its eight fields of four bits."""
    return sum((field & 15) << (28 - 4 * n) for n, field in enumerate(numbers(state, "env.crf")))


def segments(state: State) -> list[dict[str, Any]]:
    """The valid entries of the SLB: slot, and both doublewords as slbmfee and slbmfev give them."""
    found = []
    for slot, entry in enumerate(state.get("cpu/slb", {}).get("env.slb", ())):
        esid, vsid = int(entry[:16], 16), int(entry[16:], 16)
        if esid & _SLB_VALID:
            found.append({"slot": slot, "esid": f"{esid:#x}", "vsid": f"{vsid:#x}"})
    return found


def described(stream: Stream) -> list[dict[str, Any]]:
    """All of it as registers.json has it: numbers as hexadecimal text."""
    return [
        _description(cpu, state)
        for cpu, state in zip(registers(stream), stream.cpus(), strict=True)
    ]


def _description(cpu: CpuState, state: State) -> dict[str, Any]:
    special, values = numbers(state, "env.spr"), cpu.registers
    named = {name.lower(): f"{values[name]:#x}" for name in ("MSR", "CR", *SPR) if name in values}
    named |= {
        name.lower(): f"{special[number]:#x}"
        for name, number in _HYPERVISOR.items()
        if number < len(special)
    }
    return {
        "cpu": cpu.number,
        "gpr": [f"{values[f'GPR{n:02}']:#x}" for n in range(32)],
        "nip": f"{values['NIA']:#x}",
        **named,
        "fpr": _array(values, "FPR{:02}"),
        "fpscr": f"{values['FPSCR']:#x}",
        "vr": _array(values, "VR{:02}_HI", "VR{:02}_LO"),
        "vscr": f"{values['VSCR']:#x}",
        "vsr": _array(values, "VSR{:02}_HI", "VSR{:02}_LO"),
        "slb": segments(state),
    }


def _array(values: Mapping[str, int], *names: str) -> Sequence[str]:
    """Registers of one kind, each made of the doublewords `names`."""
    found = [[values.get(name.format(n)) for name in names] for n in range(32)]
    return [
        "0x" + "".join(f"{word:016x}" for word in words if word is not None)
        for words in found
        if None not in words
    ]
