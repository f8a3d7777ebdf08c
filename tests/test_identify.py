"""Which kernel it was: byte order by the CPUs, page size; VMCOREINFO is in formats/."""

from __future__ import annotations

import pytest

from phypan import identify
from phypan.formats import pt_regs, vmcoreinfo

SF, PR, IR_DR, LE = 1 << 63, 1 << 14, 0x30, 1


def cpu(msr: int) -> pt_regs.PtRegs:
    return pt_regs.of(()).replace(msr=msr)


@pytest.mark.parametrize(
    ("msrs", "order"),
    [
        ([], None),
        ([SF | IR_DR], "big"),
        ([SF | IR_DR | LE, SF | IR_DR | LE], "little"),
        ([SF | IR_DR | LE, SF | IR_DR], None),
        ([SF | IR_DR | LE, SF | IR_DR | PR], "little"),  # a big-endian process under it
        ([SF | IR_DR | LE, 0x1002], "little"),  # inside of RTAS, which is big-endian
        ([0x1002], None),
    ],
)
def test_cpus_in_the_kernel_tell_the_byte_order(msrs, order) -> None:
    assert identify.byte_order(map(cpu, msrs)) == order


def test_the_page_size_is_the_kernels_or_a_guess_that_is_said() -> None:
    assert identify.page_size(vmcoreinfo.read(b"PAGESIZE=4096\n")) == (4096, None)
    for info in (None, vmcoreinfo.read(b"PAGESIZE=5\n")):
        size, problem = identify.page_size(info)
        assert size == 65536
        assert "assumed" in problem.meaning
