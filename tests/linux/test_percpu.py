"""Names of per-CPU variables: drgn knows where each CPU has its copy."""

from __future__ import annotations

import pytest

from phypan.linux.percpu import PerCpu

drgn = pytest.importorskip("drgn")


def test_each_cpu_has_its_copy(opened) -> None:
    from drgn.helpers.linux.percpu import per_cpu

    named = PerCpu(opened)
    for cpu in (0, 1):
        address = int(per_cpu(opened.program["runqueues"], cpu).address_of_())
        assert named.describe(address + 0x10).startswith("runqueues+0x10/")
        assert named.describe(address + 0x10).endswith(f" of CPU {cpu}")


def test_other_addresses_are_no_variables_of_a_cpu(opened) -> None:
    named = PerCpu(opened)
    for address in (0, 0x1234, opened.symbols.address("init_task"), (1 << 64) - 1):
        assert named.describe(address) is None
