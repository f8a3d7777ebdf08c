"""cpus: registers as QEMU knew them and as the second kernel wrote them, decoded."""

from __future__ import annotations

import pytest

import phypan
from phypan.formats import elfcore, ppc_notes
from phypan.formats.pt_regs import FROM_FIRMWARE

# QEMU 11.1.3 preserves these as zeros, whatever they were.
ZEROS = {"lr", "ctr", "xer", "cfar"}
NAMES = {"nip": "NIA", "msr": "MSR", "cr": "CR", "dar": "DAR", "dsisr": "DSISR", "srr0": "SRR0",
         "srr1": "SRR1", "pvr": "PVR", "tar": "TAR", "amr": "AMR", "iamr": "IAMR",
         **{f"gpr{n}": f"GPR{n:02}" for n in range(32)}}  # fmt: skip


def rows(dump: phypan.Dump, *numbers: int, **options) -> list:
    return list(phypan.run(dump, "cpus", numbers=numbers, **options))


def test_registers_are_those_that_qemu_knew(real) -> None:
    with phypan.open(real.path) as dump:
        ours = {(row.cpu, row.register): row for row in rows(dump)}
    told = real.registers
    assert {cpu for cpu, _ in ours} == {cpu["cpu"] for cpu in told}
    for cpu in told:
        values = {f"gpr{n}": value for n, value in enumerate(cpu["gpr"])} | cpu
        for theirs, name in NAMES.items():
            row = ours[cpu["cpu"], name]
            # the CPU that called the firmware: r3 has the result of the call
            if theirs == "gpr3" and row.state == "crashed":
                continue
            assert row.value == int(values[theirs], 16), (cpu["cpu"], name)
    for name in ("LR", "CTR"):
        assert all(ours[cpu["cpu"], name].value == 0 for cpu in told)


def test_the_kernels_are_those_of_its_own_vmcore(real) -> None:
    """NT_PRSTATUS of the crashing CPU in /proc/vmcore is what the dying kernel left."""
    head = real.vmcore_head
    core = elfcore.read(lambda at, size: head[at : at + size], len(head))
    with phypan.open(real.path) as dump:
        found = [row for row in rows(dump) if row.kernel is not None]
        order = dump.byte_order
    assert {row.state for row in found} == {"crashed"}
    written = []
    for segment in core.segments:
        if segment.type == elfcore.PT_NOTE:
            notes = head[segment.offset : segment.offset + segment.filesz]
            written += [
                ppc_notes.read_prstatus(note.data, order).regs
                for note in elfcore.read_notes(notes, order)
                if note.type == ppc_notes.NT_PRSTATUS
            ]
    ours = {row.register: row.kernel for row in found}
    assert len(ours) > 38
    assert any(
        all(regs[member] == ours[name] for name, member in FROM_FIRMWARE.items())
        for regs in written
    )


def test_what_differs_is_said_and_can_be_had_alone(opened) -> None:
    every = rows(opened)
    differing = rows(opened, differing=True)
    assert differing == [row for row in every if row.differs]
    assert differing, "the firmware saw the CPU in its own code"
    for row in every:
        assert row.differs == (None not in (row.value, row.kernel) and row.value != row.kernel)
    assert {row.register for row in differing} == {
        name for cpu in opened.cpus for name in cpu.differences()
    }


def test_some_cpus_are_chosen(opened) -> None:
    assert {row.cpu for row in rows(opened, 1)} == {1}
    assert rows(opened, 77) == []
    assert rows(opened, 1, 0) == rows(opened)


def test_vectors_are_shown_when_they_are_asked_for() -> None:
    """QEMU preserves none; the model's firmware, which follows LoPAR, does."""
    registers = {"NIA": 1, "GPR01": 2, "FPR00": 3, "VR31_LO": 4, "VSR63_HI": 5, "X-CR": 6}
    dump = phypan.Dump("made", phypan.Memory([]), cpus=[phypan.Cpu(0, registers)])
    dump.kernel.__dict__.update(symbols=phypan.linux.symbols.Symbols())
    assert [row.register for row in rows(dump)] == ["NIA", "GPR01"]
    found = {row.register: (row.value, row.kind) for row in rows(dump, vectors=True)}
    assert {name: value for name, (value, _) in found.items()} == registers
    assert found["FPR00"][1] == "floating point"
    assert found["X-CR"][1] == "checkpointed"


def test_registers_are_decoded(opened) -> None:
    crashed = next(cpu.number for cpu in opened.cpus if cpu.crashing)
    meaning = {row.register: row.meaning for row in rows(opened, crashed)}
    assert meaning["NIA"].startswith("crash_fadump+0x")
    assert {"SF", "ME", "IR", "DR"} <= set(meaning["MSR"].split(","))
    assert meaning["PVR"].startswith("POWER")


def test_without_registers_it_says_so() -> None:
    with pytest.raises(phypan.Unsupported, match="cpus needs cpus"):
        phypan.run(phypan.Dump("nothing", phypan.Memory([])), "cpus")
