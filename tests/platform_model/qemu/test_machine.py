"""The command line of QEMU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from phypan.errors import Unsupported
from phypan.platform.qemu import machine
from phypan.platform.qemu.machine import Machine

GUEST = Machine(
    cpu="POWER8",
    mmu="hash",
    cpus=2,
    memory=1280 << 20,
    kernel=Path("/k/vmlinux"),
    initrd=Path("/o/initrd"),
    append="fadump=on",
    disk=Path("/o/a,b/disk"),
)


def _options(guest: Machine) -> dict[str, list[str]]:
    words = guest.command(["qemu"], memory_file="/proc/self/fd/9", monitor=7, console=Path("/c,d"))
    assert words[0] == "qemu"
    found: dict[str, list[str]] = {}
    name = ""
    for word in words[1:]:
        if word.startswith("-"):
            name = word
            found.setdefault(name, [])
        else:
            found[name].append(word)
    return found


def test_the_guest_shares_its_memory_and_its_monitor() -> None:
    options = _options(GUEST)
    assert options["-object"] == [
        "memory-backend-file,id=memory,share=on,size=1342177280,mem-path=/proc/self/fd/9"
    ]
    assert options["-chardev"] == ["socket,id=monitor,fd=7"]
    assert options["-m"] == ["1280M"]
    assert options["-append"] == ["console=hvc0 panic=0 printk.time=1 fadump=on"]
    assert options["-action"] == ["panic=pause,reboot=shutdown,shutdown=pause"]


def test_a_comma_in_a_path_stays_in_the_path() -> None:
    options = _options(GUEST)
    assert options["-serial"] == ["file:/c,,d"]
    assert options["-drive"][0].endswith(",file=/o/a,,b/disk")


def test_without_a_disk_there_is_none() -> None:
    assert "-drive" not in _options(replace(GUEST, disk=None))


@pytest.mark.parametrize(
    ("cpu", "mmu", "told"),
    [("POWER8", "hash", False), ("POWER9", "hash", True), ("POWER10", "radix", False)],
)
def test_radix_is_switched_off_where_it_is_there(cpu: str, mmu: machine.Mmu, told: bool) -> None:
    guest = replace(GUEST, cpu=cpu, mmu=mmu)
    assert ("disable_radix" in guest.bootargs.split()) is told


def test_large_pages_are_for_hash_alone() -> None:
    assert "cap-hpt-max-page-size=16m" in _options(GUEST)["-machine"][0]
    radix = replace(GUEST, cpu="POWER9", mmu="radix", options="cap-fwnmi=off")
    assert "cap-hpt" not in _options(radix)["-machine"][0]
    assert _options(radix)["-machine"][0].endswith(",cap-fwnmi=off")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cpu": "POWER7"}, "no CPU 'POWER7'"),
        ({"mmu": "radix"}, "POWER8 has no radix MMU"),
        ({"memory": 100 << 20}, "bytes of memory"),
        ({"memory": 0}, "bytes of memory"),
        ({"cpus": 0}, "0 CPUs"),
        ({"cpus": 65}, "65 CPUs"),
    ],
)
def test_what_would_not_run_is_said_before(change: dict[str, object], why: str) -> None:
    with pytest.raises(Unsupported, match=why) as caught:
        replace(GUEST, **change).check()  # type: ignore[arg-type]
    assert caught.value.hint
    GUEST.check()


def test_a_program_that_is_not_there_has_a_hint() -> None:
    with pytest.raises(Unsupported, match="not a program") as caught:
        machine.program("qemu-system-that-is-not-there")
    assert caught.value.hint is not None
    assert "install" in caught.value.hint


def test_a_program_that_is_not_qemu_is_refused() -> None:
    with pytest.raises(Unsupported, match="does not say QEMU's version"):
        machine.version(["true"])
    with pytest.raises(Unsupported, match="does not say QEMU's version"):
        machine.version(["/nowhere"])
