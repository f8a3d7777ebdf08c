"""`info`: what a real kernel said of itself on its console, and dumps that have nothing to say."""

from __future__ import annotations

import re
import time

import pytest

import phypan
from phypan.dump import Cpu, Dump
from phypan.errors import Problem
from phypan.formats import pt_regs
from phypan.formats.kernel_dump import KernelDump, Section
from phypan.memory import Extent, Hole, Memory, PageState
from phypan.stores import BytesStore
from tests.synthetic import Partition


def facts(dump: Dump) -> dict[tuple[str, str], str]:
    return {(row.section, row.item): row.value for row in phypan.run(dump, "info")}


def test_a_real_kernel(real) -> None:
    """The banner and the number of CPUs stand on the console of both boots."""
    with phypan.open(real.path) as dump:
        found = facts(dump)
    banner = re.search(r"Linux version \S+ \(.*", real.console)[0].strip()
    assert found["kernel", "banner"] == banner
    assert found["kernel", "release"] == banner.split()[2]
    order = "big" if real.name.startswith("be") else "little"
    assert found["kernel", "byte order"] == f"{order}-endian"
    assert found["kernel", "page size"] == "64K"
    assert found["kernel", "MMU"] == ("hash" if "hash" in real.name else "radix")
    assert found["dump", "complete"] == "yes"
    assert found["dump", "time of the crash"].endswith("+00:00")
    assert found["firmware", "status"] == "0xc000 PERFORMED TRIGGERED"
    size = sum(load["size"] for load in real.loads)
    assert found["memory", "readable"] == f"{size:#x} bytes (960 MiB)"
    states = [found["cpus", f"CPU {n}"].split(",")[0] for n in (0, 1)]
    assert sorted(states) == ["crashed", "online"]
    crashed = states.index("crashed")
    assert found["cpus", f"CPU {crashed} NIA"].startswith("firmware 000000002fff0010, kernel c0")
    assert not any(section == "problem" for section, _ in found)


def test_both_sets_of_registers_and_where_they_differ() -> None:
    cpu = Cpu(3, {"NIA": 1, "LR": 2}, pt_regs.of(()).replace(nip=9, link=2), crashing=True)
    found = facts(Dump("test", Memory([]), [cpu]))
    assert found["cpus", "CPU 3 NIA"] == "firmware 0000000000000001, kernel 0000000000000009"
    assert ("cpus", "CPU 3 LR") not in found
    assert "2 registers from firmware" in found["cpus", "CPU 3"]


def test_memory_and_its_holes_with_their_reasons() -> None:
    store = BytesStore(bytes(4096))
    memory = Memory([Extent(0, 4096, store, 0)], [Hole(4096, 4096, PageState.DAMAGED, "cut")])
    found = facts(Dump("test", memory, incomplete=True))
    assert found["memory", "0x0-0xfff"] == "present"
    assert found["memory", "0x1000-0x1fff"] == "damaged: cut"
    assert found["dump", "complete"].startswith("no")


def test_problems_come_last_and_whole() -> None:
    rows = list(phypan.run(Dump("t", Memory([]), problems=[Problem("a", "b", "c")]), "info"))
    assert (rows[-1].section, rows[-1].item, rows[-1].value) == ("problem", "b", "a; c")


def test_what_the_firmware_says() -> None:
    dump = Dump("t", Memory([]), kernel_dump=KernelDump((Section(0x234, 1, 2, 3, 4),), 0x2000))
    found = facts(dump)
    assert found["firmware", "status"] == "0x2000 ERROR"
    assert found["firmware", "0x0234"] == "0x4 of 0x2 bytes from 0x1 at 0x3"


@pytest.mark.parametrize("when", [0, -1, 1 << 40, 1 << 62, 10**30, -(1 << 62)])
def test_any_time_can_be_told(when) -> None:
    assert facts(Dump("t", Memory([]), crash_time=when))["dump", "time of the crash"]


def test_of_thousands_of_pieces_the_first_are_shown() -> None:
    store = BytesStore(bytes(4096))
    memory = Memory([Extent(8192 * n, 4096, store, 0) for n in range(5000)])
    found = facts(Dump("t", memory))
    assert len(found) < 100
    assert found["memory", "and more"] == f"{9999 - 64} stretches and holes behind that"


@pytest.mark.parametrize(
    "nonsense", [b"Linux version #1", b"Linux version 1 #1" + b" #1" * 160, b"Linux version " * 30]
)
def test_memory_full_of_almost_banners_is_searched_in_time(nonsense) -> None:
    data = nonsense * ((4 << 20) // len(nonsense))
    store = BytesStore(data)
    began = time.process_time()
    found = facts(Dump("t", Memory([Extent(0, len(data), store, 0)])))
    assert ("kernel", "banner") not in found
    assert time.process_time() - began < 15, "about 1 s"


def test_a_synthetic_partition(folder) -> None:
    with phypan.open(Partition().save_to(folder)) as dump:
        found = facts(dump)
    assert found["kernel", "banner"] == "Linux version 6.12.0-synthetic (gcc 12.2.0) #1 SMP"
    assert found["firmware", "crash info header"] == "version 1, written by CPU 1"
    assert found["dump", "time of the crash"] == "2023-11-14 22:13:20+00:00"
