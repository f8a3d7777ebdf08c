"""Stacks: pieces put together where interrupts and other stacks divide them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import NotInDump
from phypan.formats import pt_regs
from phypan.linux import stack, tasks

drgn = pytest.importorskip("drgn")
BASE = 0xC000000000010000


class Kernel:
    """A kernel whose memory is one piece, for what reads of a stack by itself."""

    def __init__(self, data: bytes, order: str) -> None:
        self.data, self.byte_order, self.space, self.kernel = data, order, self, self
        self.symbols = self

    def read(self, address: int, size: int) -> bytes:
        if not BASE <= address <= address + size <= BASE + len(self.data):
            raise NotInDump(address, "absent", "nothing is there")
        return self.data[address - BASE : address - BASE + size]

    def at(self, address: int) -> bool:
        return address >> 60 == 0xC


# STACK_FRAME_REGS_MARKER and its place: ELFv2 since 6.2, ELFv1 and all before
PLACES = [(0x52454753, 32), (0x52454753, 112), (0x7265677368657265, 96), (0x7265677368657265, 112)]


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(("marker", "at"), PLACES)
@given(values=st.lists(st.integers(0, (1 << 64) - 1), min_size=44, max_size=44))
def test_the_registers_of_an_interrupt_are_found_behind_their_marker(
    order, marker, at, values
) -> None:
    regs = pt_regs.of(()).replace(**dict(zip(pt_regs.NAMES, values, strict=True)))
    data = bytearray(1024)
    data[at : at + 8] = marker.to_bytes(8, order)
    data[at + 16 : at + 16 + 352] = pt_regs.write(regs, order)[:352]
    found = stack._interrupt(Kernel(bytes(data), order), BASE)
    assert [found[name] for name in pt_regs.NAMES] == values


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("length", [48, 64, 80])
def test_a_marker_in_the_callers_frame_is_the_callers(order, length) -> None:
    """Functions that an interrupt calls have such: do_program_check() one of 80 bytes."""
    data = bytearray(1024)
    data[:8] = (BASE + length).to_bytes(8, order)
    data[length : length + 8] = (BASE + 800).to_bytes(8, order)
    data[length + 32 : length + 40] = (0x52454753).to_bytes(8, order)
    kernel = Kernel(bytes(data), order)
    assert stack._interrupt(kernel, BASE) is None
    assert stack._interrupt(kernel, BASE + length) is not None


def test_without_a_marker_there_are_no_registers() -> None:
    assert stack._interrupt(Kernel(bytes(1024), "little"), BASE) is None
    assert stack._interrupt(Kernel(bytes(1024), "little"), BASE + 1000) is None


class Function(Kernel):
    """One function from BASE on; elsewhere is code too."""

    def at(self, address: int) -> SimpleNamespace | None:
        start = BASE if BASE <= address < BASE + len(self.data) else address
        return SimpleNamespace(address=start) if address >> 60 == 0xC else None


NOTHING, MFLR, STD_LR = 0x60000000, 0x7C0802A6, 0xF8010010  # nop; mflr r0; std r0,16(r1)
STDU, STDUX = 0xF821FF91, 0x7C21016A  # stdu r1,-112(r1); stdux r1,r1,r0
CALLER = 0xC000000000500040


@pytest.mark.parametrize("order", ["little", "big"])
@given(
    code=st.lists(st.sampled_from([NOTHING, MFLR, STD_LR, STDU, STDUX]), min_size=1, max_size=9),
    at=st.integers(0, 8),
)
def test_the_caller_of_a_function_without_a_frame_is_where_its_link_register_leads(
    order, code, at
) -> None:
    at %= len(code)
    kernel = Function(b"".join(word.to_bytes(4, order) for word in code), order)
    leaf = stack.Frame(0xC000000000800000, BASE + 4 * at, registers={"lr": CALLER})
    others = [stack.Frame(0xC000000000800080, 0xC000000000600000)]
    found = stack._with_the_caller_of_a_leaf(kernel, [leaf, *others])
    framed = STDU in code[:at] or STDUX in code[:at]
    caller = [] if framed else [stack.Frame(leaf.sp, CALLER)]
    assert found == [leaf, *caller, *others]


@pytest.mark.parametrize("link", [None, 0, 0x10001000, 0xC000000000600000])
def test_a_link_register_that_says_nothing_new_adds_no_frame(link) -> None:
    registers = {} if link is None else {"lr": link}
    frames = [
        stack.Frame(0xC000000000800000, BASE, registers=registers),
        stack.Frame(0xC000000000800080, 0xC000000000600000),
    ]
    kernel = Function(NOTHING.to_bytes(4, "big"), "big")
    assert stack._with_the_caller_of_a_leaf(kernel, frames) == frames
    assert stack._with_the_caller_of_a_leaf(kernel, []) == []


@given(st.integers(0, (1 << 64) - 1) | st.integers(BASE - 64, BASE + 600), st.booleans())
def test_another_stack_is_one_at_lower_addresses_with_code_behind_it(chain, code) -> None:
    data = bytearray(1024)
    data[512:520] = chain.to_bytes(8, "big")
    link = 0xC000000000400000 if code else 0x1234
    for at in range(0, 512, 16):
        data[at : at + 8] = link.to_bytes(8, "big")
    found = stack._other_stack(Kernel(bytes(data), "big"), BASE + 512)
    fits = BASE <= chain < BASE + 512 and chain % 16 == 0 and code
    if found is not None:
        assert fits
        assert (found["gpr1"], found["nip"]) == (chain, link)
    elif fits:
        assert chain + 24 > BASE + 512, "its frame is cut off"


def test_every_stack_ends_where_the_kernel_was_entered(opened) -> None:
    size = drgn.sizeof(opened.program.type("union thread_union"))
    for task in tasks.each(opened):
        if task.active or not task.pid:
            continue
        frames = stack.unwind(opened, task.task)
        last = opened.symbols.caller(frames[-1].pc)
        assert frames[-1].in_user_mode or last.name.startswith(("ret_from", "start_kernel"))
        stacked = [frame.sp for frame in frames]
        assert stacked == sorted(stacked)
        start = int(task.task.stack)
        assert all(start <= sp < start + size for sp in stacked)


def test_the_interrupts_registers_lead_to_the_system_call(opened) -> None:
    frames = stack.unwind(opened, tasks.crashed(opened).task)
    assert frames[-1].in_user_mode
    assert frames[-1].interrupt["trap"] & ~0xF in (0xC00, 0x3000)
    assert frames[-1].interrupt["gpr0"] == 4, "sys_write, the number in r0"


def test_who_called_the_function_that_locked_up_is_there(kernel) -> None:
    """It has no frame of its own."""
    if "soft-lockup" not in kernel.source:
        pytest.skip("no soft lockup")
    frames = stack.unwind(kernel, tasks.crashed(kernel).task)
    names = [kernel.symbols.caller(frame.pc).name for frame in frames if frame.pc >> 60 == 0xC]
    if "phypan_soft_lockup" not in names:
        pytest.skip("the host stopped this guest while it ran another process")
    at = names.index("phypan_soft_lockup")
    assert names[at : at + 3] == ["phypan_soft_lockup", "phypan_set", "param_attr_store"]
