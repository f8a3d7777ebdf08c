"""Dump directories: with a RAM image, with a vmcore, and with neither."""

from __future__ import annotations

import gc
import os

import pytest

import phypan
from phypan.errors import InputError
from phypan.hooks import Input
from phypan.plugins.sources import directory
from tests import synthetic
from tests.synthetic import Partition


def test_a_directory_with_a_ram_image(folder) -> None:
    partition = Partition()
    with phypan.open(partition.save_to(folder / "crashed")) as dump:
        assert dump.problems == []
        assert dump.memory.read(0x3000, 13) == b"Linux version"


def test_every_witness_in_it_is_heard(folder) -> None:
    crashed = Partition().save_to(folder / "crashed")
    text = "CPU:0x1000-0x20: HPTE:0x2000-0x0: DUMP:0x3000-0x100000, 0x0-0x0:\n"
    (crashed / "release_region").write_text(text)
    with phypan.open(crashed) as dump:
        assert {problem.where for problem in dump.problems} == {str(crashed / "release_region")}


def test_more_can_be_given(folder) -> None:
    crashed = Partition().save_to(folder / "crashed")
    (crashed / "ibm,kernel-dump").rename(folder / "elsewhere")
    with phypan.open(crashed, regions=[folder / "elsewhere"]) as dump:
        assert dump.problems == []


def test_a_ram_image_alone_is_an_error_with_a_hint(folder) -> None:
    (folder / "ram").write_bytes(bytes(4096))
    with pytest.raises(InputError, match="nothing that says what was preserved") as caught:
        phypan.open(folder)
    assert "boot2.dtb" in caught.value.hint


def test_a_directory_with_a_vmcore_opens_as_that(folder) -> None:
    note = synthetic.note(b"VMCOREINFO", 0, synthetic.VMCOREINFO, "big")
    (folder / "vmcore").write_bytes(synthetic.core("big", [(0, b"x" * 64)], note))
    with phypan.open(folder) as dump:
        assert dump.memory.read(0, 64) == b"x" * 64
        assert dump.source.endswith("vmcore")


def test_no_descriptor_is_left_behind(folder) -> None:
    crashed = Partition().save_to(folder / "crashed")
    other = folder / "other"
    other.mkdir()
    (other / "vmcore").write_bytes(synthetic.core("big", [(0, b"x" * 64)]))
    gc.collect()  # what other tests left
    before = len(os.listdir("/proc/self/fd"))
    for path in (crashed, other, crashed / "ram"):
        phypan.open(path, regions=[crashed / "ibm,kernel-dump"]).close()
    (other / "vmcore").write_bytes(b"damaged")
    (crashed / "ibm,kernel-dump").write_bytes(b"damaged")
    for path in (crashed, other):
        with pytest.raises(phypan.PhypanError):
            phypan.open(path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("names", [[], ["other"], ["ram.gz"]])
def test_a_directory_without_a_dump(folder, names) -> None:
    for name in names:
        (folder / name).touch()
    assert directory.probe(Input(folder, None)) == 0
    with pytest.raises(InputError, match="nothing that phypan knows"):
        phypan.open(folder)


def test_a_directory_where_the_image_is_one_too(folder) -> None:
    (folder / "ram").mkdir()
    (folder / "release_region").touch()
    with pytest.raises(InputError, match="Is a directory"):
        phypan.open(folder)


def test_a_directory_that_may_not_be_looked_into(folder, unprivileged) -> None:
    Partition().save_to(folder / "closed")
    (folder / "closed").chmod(0)

    def attempt() -> str:
        try:
            phypan.open("closed")
        except InputError as error:
            return str(error)
        return "opened"

    assert unprivileged(attempt, folder) == "closed: Permission denied"
