"""pt_regs: the words of Linux, in its order, and how it fills them from firmware."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import pt_regs, regsave

words = st.lists(st.integers(0, (1 << 64) - 1), max_size=48)
orders = st.sampled_from(["big", "little"])


# Word numbers as arch/powerpc/include/uapi/asm/ptrace.h has them: PT_R0 0 ... PT_RESULT 43.
@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("gpr0", 0), ("gpr1", 1), ("gpr31", 31), ("nip", 32), ("msr", 33), ("orig_gpr3", 34),
        ("ctr", 35), ("link", 36), ("xer", 37), ("ccr", 38), ("softe", 39), ("trap", 40),
        ("dar", 41), ("dsisr", 42), ("result", 43),
    ],
)  # fmt: skip
def test_the_words_are_in_the_order_of_ptrace_h(name, index) -> None:
    regs = pt_regs.of(range(100, 148))
    assert regs[name] == 100 + index


def test_there_are_44_names_and_room_for_what_newer_kernels_keep() -> None:
    assert len(pt_regs.NAMES) == 44
    assert len(pt_regs.of(()).words) == 48


@given(words, orders)
def test_what_is_written_is_read(found, order) -> None:
    regs = pt_regs.of(found)
    data = pt_regs.write(regs, order)
    assert len(data) == 384
    assert pt_regs.read(data, order) == regs
    assert data == struct.pack((">" if order == "big" else "<") + "48Q", *regs.words)


@given(st.binary(max_size=500), orders)
def test_any_bytes_are_registers(data, order) -> None:
    assert len(pt_regs.read(data, order).words) == 48


@given(words, st.sampled_from(pt_regs.NAMES), st.integers(0, (1 << 64) - 1))
def test_one_word_is_replaced_and_no_other(found, name, value) -> None:
    regs = pt_regs.of(found)
    changed = regs.replace(**{name: value})
    for other in pt_regs.NAMES:
        assert changed[other] == (value if other == name else regs[other])


def test_linux_takes_forty_registers_from_firmware_and_no_other() -> None:
    """rtas_fadump_set_regval(): GPRs, NIA, MSR, CTR, LR, XER, CR, DAR, DSISR."""
    everything = {name: 1000 + n for n, name in enumerate(regsave.REGISTERS)}
    regs = pt_regs.from_firmware(everything)
    taken = {
        **{f"gpr{n}": everything[f"GPR{n:02}"] for n in range(32)},
        "nip": everything["NIA"], "msr": everything["MSR"], "ctr": everything["CTR"],
        "link": everything["LR"], "xer": everything["XER"], "ccr": everything["CR"],
        "dar": everything["DAR"], "dsisr": everything["DSISR"],
    }  # fmt: skip
    assert {name: regs[name] for name in pt_regs.NAMES if regs[name]} == taken
    assert regs.words[44:] == (0, 0, 0, 0)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_what_is_no_word_is_not_written(value) -> None:
    with pytest.raises(BadRecord, match="pt_regs"):
        pt_regs.write(pt_regs.of([value]), "big")
