"""A RAM image with files that describe it."""

from __future__ import annotations

import pytest

import phypan
from phypan.errors import InputError, Unsupported
from phypan.hooks import Input
from phypan.plugins.sources import ram
from phypan.stores import BytesStore
from tests.synthetic import Partition


def test_an_image_and_what_describes_it_make_a_dump(folder) -> None:
    partition = Partition()
    partition.save_to(folder)
    with phypan.open(folder / "ram", regions=[folder / "ibm,kernel-dump"]) as dump:
        assert dump.problems == []
        assert dump.source == f"RAM image {folder / 'ram'} with ibm,kernel-dump"
        assert dump.memory.read(0, 4096) == partition.before[:4096]


def test_an_image_without_regions_is_nothing_that_phypan_knows(folder) -> None:
    Partition().save_to(folder)
    with pytest.raises(InputError, match="nothing that phypan knows") as caught:
        phypan.open(folder / "ram")
    assert "--regions" in caught.value.hint


@pytest.mark.parametrize(
    ("head", "regions", "sure"),
    [
        (b"anything", True, 50),
        (b"", True, 50),
        (b"anything", False, 0),
        (b"\x7fELF\2\1", True, 0),
        (b"KDUMP   ", True, 0),
        (b"makedumpfile", True, 0),
    ],
)
def test_how_sure_it_is(head, regions, sure) -> None:
    given = Input("x", BytesStore(head), head, ("r",) if regions else ())
    assert ram.probe(given) == sure


def test_a_directory_is_no_image() -> None:
    assert ram.probe(Input("x", None, b"", ("r",))) == 0
    with pytest.raises(Unsupported):
        ram.open_(Input("x", None))


def test_an_empty_image_opens_with_problems(folder) -> None:
    Partition().save_to(folder)
    (folder / "ram").write_bytes(b"")
    with phypan.open(folder / "ram", regions=[folder / "ibm,kernel-dump"]) as dump:
        assert dump.memory.size == 0
        assert dump.incomplete
        assert dump.problems
