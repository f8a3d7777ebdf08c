"""Register notes: what Linux' regsets look like, by hand, from the kernel, and there and back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import elfcore, ppc_notes, pt_regs, regsave
from phypan.formats.ppc_notes import Prstatus
from phypan.formats.regsave import CpuState
from tests.damage import cut_short, refused

ORDERS = ["big", "little"]


def prstatus_by_hand(order: str) -> bytes:
    """struct elf_prstatus of ppc64: each field holds a number that says which one it is."""
    sign = ">" if order == "big" else "<"
    return struct.pack(
        sign + "iiih2x QQ 4i 8Q 48Q i4x".replace(" ", ""),
        3, 4, 5,  # si_signo, si_code, si_errno
        11,  # pr_cursig
        0x16, 0x24,  # pr_sigpend, pr_sighold
        0x32, 0x36, 0x40, 0x44,  # pr_pid, pr_ppid, pr_pgrp, pr_sid
        *range(0x48, 0x50),  # times
        *(0x7265670000000000 + n for n in range(48)),  # pr_reg: "reg" and its number
        1,  # pr_fpvalid
    )  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
def test_a_status_written_by_hand_is_read(order) -> None:
    data = prstatus_by_hand(order)
    assert len(data) == 504, "sizeof(struct elf_prstatus)"
    status = ppc_notes.read_prstatus(data, order)
    assert status.pid == 0x32
    assert status.regs.words == tuple(0x7265670000000000 + n for n in range(48))
    assert status.regs["nip"] == 0x7265670000000020
    assert ppc_notes.read_prstatus(data[: 112 + 44 * 8], order).regs.words[44:] == (0,) * 4


def test_the_kernels_own_are_read(real) -> None:
    head = real.vmcore_head
    core = elfcore.read(lambda at, size: head[at : at + size], len(head))
    notes = list(elfcore.read_notes(head[0x10000 : 0x10000 + 0x1220], core.order))
    for note in notes[:2]:
        status = ppc_notes.read_prstatus(note.data, core.order)
        assert status.pid == 0, "which gdb refuses"
        again = ppc_notes.write_prstatus(status, core.order)
        assert again == note, "no other field than pr_pid and pr_reg is set"


@given(
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.lists(st.integers(0, (1 << 64) - 1), max_size=48),
    st.sampled_from(ORDERS),
    st.booleans(),
)
def test_what_is_written_is_read(pid, words, order, fpvalid) -> None:
    status = Prstatus(pid, pt_regs.of(words))
    note = ppc_notes.write_prstatus(status, order, fpvalid=fpvalid)
    assert (note.name, note.type, len(note.data)) == (b"CORE", 1, 504)
    assert ppc_notes.read_prstatus(note.data, order) == status
    assert int.from_bytes(note.data[496:500], order) == fpvalid


@pytest.mark.parametrize("pid", [1 << 31, -(1 << 31) - 1])
def test_a_pid_that_does_not_fit_is_not_written(pid) -> None:
    with pytest.raises(BadRecord):
        ppc_notes.write_prstatus(Prstatus(pid, pt_regs.of(())), "big")


def test_a_status_that_is_cut_short_is_refused() -> None:
    data = prstatus_by_hand("big")
    count = refused(lambda cut: ppc_notes.read_prstatus(cut, "big"), cut_short(data))
    assert count == 112 + 44 * 8


FULL = CpuState(
    3,
    {
        name: (n + 1) * 0x0101 if name in regsave.FOUR_BYTES else (n + 1) << 48 | n + 1
        for n, name in enumerate(regsave.REGISTERS)
    },
)


def written(order: str, cpu: CpuState = FULL) -> dict[int, bytes]:
    notes = list(ppc_notes.register_notes(cpu, order))
    assert len({note.type for note in notes}) == len(notes)
    assert all(note.name == (b"CORE" if note.type == 2 else b"LINUX") for note in notes)
    return {note.type: note.data for note in notes}


# include/uapi/linux/elf.h, and the sizes of the regsets (arch/powerpc/kernel/ptrace/).
SIZES = {
    2: 33 * 8,  # NT_PRFPREG: 32 FPRs and FPSCR
    0x100: 34 * 16,  # NT_PPC_VMX: 32 VRs, VSCR, VRSAVE
    0x102: 32 * 8,  # NT_PPC_VSX: low halves of VSR 0 to 31
    0x103: 8,  # NT_PPC_TAR
    0x105: 8,  # NT_PPC_DSCR
    0x106: 3 * 8,  # NT_PPC_EBB
    0x107: 5 * 8,  # NT_PPC_PMU
    0x108: 48 * 8,  # NT_PPC_TM_CGPR
    0x109: 33 * 8,  # NT_PPC_TM_CFPR
    0x10A: 34 * 16,  # NT_PPC_TM_CVMX
    0x10B: 32 * 8,  # NT_PPC_TM_CVSX
    0x10C: 3 * 8,  # NT_PPC_TM_SPR
    0x10D: 8,  # NT_PPC_TM_CTAR
    0x10F: 8,  # NT_PPC_TM_CDSCR
    0x110: 3 * 8,  # NT_PPC_PKEY
}


@pytest.mark.parametrize("order", ORDERS)
def test_all_registers_give_all_notes(order) -> None:
    assert {kind: len(data) for kind, data in written(order).items()} == SIZES


@pytest.mark.parametrize("order", ORDERS)
def test_doublewords_are_in_the_kernels_order(order) -> None:
    notes = written(order)
    sign = ">" if order == "big" else "<"
    expected = {
        2: [*(f"FPR{n:02}" for n in range(32)), "FPSCR"],
        0x102: [f"VSR{n:02}_LO" for n in range(32)],
        0x103: ["TAR"],
        0x105: ["DSCR"],
        0x106: ["EBBRR", "EBBHR", "BESCR"],
        0x107: ["SIAR", "SDAR", "SIER", "MMCR2", "MMCR0"],
        0x109: [*(f"X-VS{n:02}HI" for n in range(32)), "X-FPSCR"],
        0x10B: [f"X-VS{n:02}LO" for n in range(32)],
        0x10C: ["TFHAR", "TEXASR", "TFIAR"],
        0x10D: ["X-TAR"],
        0x10F: ["X-DSCR"],
        0x110: ["AMR", "IAMR", "UAMOR"],
    }
    for kind, names in expected.items():
        values = struct.unpack(f"{sign}{len(names)}Q", notes[kind])
        assert list(values) == [FULL.registers[name] for name in names], hex(kind)


@pytest.mark.parametrize("order", ORDERS)
def test_vectors_are_whole_quadwords_in_the_kernels_order(order) -> None:
    """VSCR is where stvx puts it, in the word that is last in big-endian and first in little."""
    for kind, name, first, vscr, vrsave in (
        (0x100, "VR{:02}_{}", 0, "VSCR", "VRSAVE"),
        (0x10A, "X-VS{:02}{}", 32, "X-VSCR", "X-VRSAVE"),
    ):
        data = written(order)[kind]
        for n in range(32):
            value = int.from_bytes(data[16 * n : 16 * n + 16], order)
            assert value >> 64 == FULL.registers[name.format(first + n, "HI")]
            assert value & (1 << 64) - 1 == FULL.registers[name.format(first + n, "LO")]
        place = 512 + (12 if order == "big" else 0)
        assert int.from_bytes(data[place : place + 4], order) == FULL.registers[vscr]
        assert int.from_bytes(data[528:532], order) == FULL.registers[vrsave]
        assert data[532:] == bytes(12)


@pytest.mark.parametrize("order", ORDERS)
def test_the_checkpoint_is_pt_regs(order) -> None:
    regs = pt_regs.read(written(order)[0x108], order)
    for n in range(32):
        assert regs[f"gpr{n}"] == FULL.registers[f"X-GPR{n:02}"]
    assert regs["nip"] == FULL.registers["TFHAR"]
    assert regs["ccr"] == FULL.registers["X-CR"]


def without(*names: str) -> CpuState:
    return CpuState(3, {n: v for n, v in FULL.registers.items() if n not in names})


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("FPSCR", {2}),
        ("VSCR", {0x100}),
        ("VRSAVE", {0x100}),
        ("VSR07_LO", {0x102}),
        ("X-GPR17", {0x108}),
        ("X-CR", {0x108}),
        ("TFHAR", {0x108, 0x10C}),
        ("X-VSCR", {0x10A}),
        ("X-VS40HI", {0x10A}),
        ("MMCR0", {0x107}),
        ("GPR05", set()),
    ],
)
def test_a_note_is_not_written_with_zeros_for_what_was_not_saved(name, lost) -> None:
    assert SIZES.keys() - written("big", without(name)).keys() == lost


def test_registers_that_are_the_same_by_architecture_stand_for_each_other() -> None:
    fpr = without(*(f"FPR{n:02}" for n in range(32)))
    data = written("big", fpr)[2]
    assert int.from_bytes(data[8 * 9 : 8 * 10], "big") == FULL.registers["VSR09_HI"]
    vr = without(*(f"VR{n:02}_{half}" for n in range(32) for half in ("HI", "LO")))
    data = written("big", vr)[0x100]
    assert int.from_bytes(data[16 * 5 : 16 * 5 + 8], "big") == FULL.registers["VSR37_HI"]
    assert int.from_bytes(data[16 * 5 + 8 : 16 * 6], "big") == FULL.registers["VSR37_LO"]


def test_a_cpu_with_nothing_has_no_notes() -> None:
    assert written("big", CpuState(0, {})) == {}


def test_phypans_own_types_are_none_that_anyone_goes_by() -> None:
    """gdb goes by the type alone: 1 and 2 would be registers."""
    kinds = [value for name, value in vars(ppc_notes).items() if name.startswith("NT_")]
    own = [kind for kind in kinds if kind >> 16 == 0x5048]
    assert len(own) == len(set(own)) == 6
