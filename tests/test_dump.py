"""Dump and Cpu: which registers are whose, and closing."""

from __future__ import annotations

import pytest

from phypan.dump import Cpu, Dump, cpu_list, cpus_from
from phypan.errors import InputError
from phypan.formats import pt_regs
from phypan.formats.fadump import CrashInfo
from phypan.formats.regsave import CpuState
from phypan.memory import Memory
from phypan.stores import BytesStore

REGS = pt_regs.of(range(1, 49))


def info(cpu: int | None, online) -> CrashInfo:
    return CrashInfo(1, "big", cpu, REGS, None if online is None else frozenset(online), 0)


def state(number: int) -> CpuState:
    return CpuState(number, {"NIA": number})


def test_cpus_are_in_ascending_order_whatever_the_area_has() -> None:
    cpus, problems = cpus_from([state(3), state(0), state(2)], info(2, {0, 2, 3}))
    assert [cpu.number for cpu in cpus] == [0, 2, 3]
    assert [cpu.crashing for cpu in cpus] == [False, True, False]
    assert [cpu.kernel for cpu in cpus] == [None, REGS, None]
    assert problems == []


def test_a_cpu_saved_twice_is_the_first() -> None:
    cpus, (problem,) = cpus_from([state(0), CpuState(0, {"NIA": 9}), state(1), state(1)], None)
    assert [cpu["NIA"] for cpu in cpus] == [0, 1]
    assert str(problem) == "CPUs 0-1: saved twice; the first was used"


def test_without_a_mask_every_cpu_is_online() -> None:
    cpus, _ = cpus_from([state(0), state(7)], info(None, None))
    assert all(cpu.online and not cpu.crashing for cpu in cpus)


def test_no_registers_at_all_of_thousands_of_cpus_is_one_problem() -> None:
    _, problems = cpus_from([state(0)], info(0, range(0, 65536, 2)))
    assert len(problems) == 1
    assert len(str(problems[0])) < 400


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], "CPU "), ([3], "CPU 3"), ([1, 2], "CPUs 1-2"), ([5, 0, 2, 1], "CPUs 0-2,5")],
)
def test_cpus_are_written_as_linux_writes_them(numbers, text) -> None:
    assert cpu_list(numbers) == text


def test_a_register_is_the_firmwares_else_the_kernels() -> None:
    cpu = Cpu(0, firmware={"NIA": 7, "TAR": 8}, kernel=REGS)
    assert (cpu["NIA"], cpu["TAR"], cpu["GPR00"], cpu["LR"]) == (7, 8, 1, REGS["link"])
    for name in ("VR00_HI", "nip", ""):
        with pytest.raises(KeyError):
            cpu[name]
    with pytest.raises(KeyError):
        Cpu(0)["NIA"]


def test_the_choice_of_registers_falls_back_on_what_there_is() -> None:
    only_firmware, only_kernel = Cpu(0, firmware={"NIA": 7}), Cpu(0, kernel=REGS)
    assert only_firmware.regs("os") == only_firmware.regs("firmware")
    assert only_kernel.regs("firmware") == REGS
    assert only_kernel.differences() == only_firmware.differences() == {}


def test_closing_closes_every_file_even_if_one_fails() -> None:
    closed = []

    class Store(BytesStore):
        def close(self) -> None:
            closed.append(self.name)
            if self.name == "bad":
                raise InputError("it will not close")

    dump = Dump("test", Memory([]), stores=[Store(b"", "a"), Store(b"", "bad"), Store(b"", "c")])
    with pytest.raises(InputError, match="will not"), dump:
        pass
    assert sorted(closed) == ["a", "bad", "c"]
