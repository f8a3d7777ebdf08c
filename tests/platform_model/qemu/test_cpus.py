"""Registers out of the stream, against what QEMU's monitor printed."""

from __future__ import annotations

import pytest

from phypan.formats import regsave
from phypan.platform.qemu import cpus, stream
from tests.platform_model.qemu import streams

_SAME = "NIA MSR CR LR CTR XER CFAR PVR DAR DSISR SRR0 SRR1 VRSAVE SPRG0 SPRG1 SPRG2 SPRG3".split()


@pytest.mark.parametrize("name", ["hash", "radix", "memory"])
def test_registers_are_what_the_monitor_says(name: str) -> None:
    found = cpus.registers(stream.read(streams.data(name)))
    told = streams.monitor(name)
    assert len(found) == len(told)
    for cpu, truth in zip(found, told, strict=True):
        names = [*_SAME, *(f"{kind}{n:02}" for kind in ("GPR", "FPR") for n in range(32))]
        assert {n: cpu.registers[n] for n in names} == {n: truth[n] for n in names}


def test_some_of_them_are_not_zero() -> None:
    """Else the test above would prove little."""
    found = cpus.registers(stream.read(streams.data("hash")))
    for name in ("NIA", "MSR", "LR", "CTR", "GPR01", "CFAR", "FPR00", "VRSAVE", "SPRG1", "DAR"):
        assert any(cpu.registers[name] for cpu in found), name


def test_segments_are_what_the_monitor_says() -> None:
    found = stream.read(streams.data("hash"))
    ours = [
        [
            (entry["slot"], int(entry["esid"], 16), int(entry["vsid"], 16))
            for entry in cpus.segments(state)
        ]
        for state in found.cpus()
    ]
    assert ours == streams.segments("hash")
    assert all(ours)


def test_firmware_knows_all_of_these_names() -> None:
    (cpu,) = cpus.registers(stream.read(streams.data("radix")))
    assert set(cpu.registers) <= set(regsave.REGISTERS)
    area = regsave.write([cpu])
    assert regsave.read(area).cpus[0].registers == cpu.registers


def test_the_vector_registers_have_two_names_for_their_first_half() -> None:
    (cpu,) = cpus.registers(stream.read(streams.data("radix")))
    assert all(cpu.registers[f"VSR{n:02}_HI"] == cpu.registers[f"FPR{n:02}"] for n in range(32))


def test_registers_json_has_what_the_stream_has() -> None:
    found = stream.read(streams.data("hash"))
    for described, cpu in zip(cpus.described(found), cpus.registers(found), strict=True):
        assert described["cpu"] == cpu.number
        assert [int(v, 16) for v in described["gpr"]] == [
            cpu.registers[f"GPR{n:02}"] for n in range(32)
        ]
        assert int(described["nip"], 16) == cpu.registers["NIA"]
        assert int(described["lr"], 16) == cpu.registers["LR"]
        assert len(described["vr"]) == len(described["vsr"]) == len(described["fpr"]) == 32
        assert described["slb"]
