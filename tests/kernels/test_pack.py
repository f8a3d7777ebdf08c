"""The compiled packer: the search for zeros. That it gives the bytes of the Python loop is tested
with the codecs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.formats import kdump
from phypan.pages import codecs, packing


@given(st.lists(st.sampled_from(["zero", "first", "last", "middle", "full"]), max_size=9))
def test_zeros_are_found_and_nothing_else(kinds: list[str]) -> None:
    pytest.importorskip("numba")
    from phypan.kernels import pack

    pages = np.zeros((len(kinds), 4096), np.uint8)
    for page, kind in zip(pages, kinds, strict=True):
        if kind == "full":
            page[:] = 255
        elif kind != "zero":
            page[{"first": 0, "last": 4095, "middle": 2049}[kind]] = 1
    out = np.full(len(kinds), 7, np.uint8)
    pack.zeros(pages.reshape(-1), 4096, out)
    assert out.tolist() == [int(kind == "zero") for kind in kinds]
    assert out.tolist() == [int(not page.any()) for page in pages]


@pytest.mark.parametrize("kind", ["compiled", "plain"])
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.sampled_from(["big", "little"]))
def test_descriptors_lead_to_the_pages(kind: str, kinds: list[int], order) -> None:
    if kind == "compiled":
        pytest.importorskip("numba")
    codec, size = codecs.named("zstd"), 4096
    packer = (packing._Compiled if kind == "compiled" else packing._Plain)(
        *((codec, size, 8) if kind == "compiled" else (codec, size))
    )
    noise = np.random.default_rng(0).bytes(size)
    contents = [{0: bytes(size), 1: b"a" * size, 2: noise, 3: bytes(size)}[kind] for kind in kinds]
    known = bytearray(int(kind == 3) for kind in kinds)
    buffer = bytearray(b"".join(contents).ljust(8 * size, b"\xee"))
    for index, kind_of_page in enumerate(kinds):
        if kind_of_page == 3:  # what is known to be zeros is not looked at
            buffer[index * size : (index + 1) * size] = noise
    pfns = list(range(100, 100 + len(kinds)))
    packed = packer(buffer, pfns, known)
    file = bytes(1000) + bytes(packed.data)
    table = packing.descriptors(order, packed, size, 1000, 77)
    assert packed.zeros == sum(page == bytes(size) for page in contents)
    for pfn, page, found in zip(pfns, contents, kdump.read_descriptors(table, order), strict=True):
        stored = bytes(size) if found.is_zeros else file[found.offset : found.offset + found.size]
        assert codecs.flagged(found.flags).decompressor()(stored, size) == page
        assert found.is_zeros is (page == bytes(size))
        assert not found.is_zeros or found.offset == 77
        crc = codecs.crc32()(stored)
        assert found.checksum == kdump.checksum(pfn, found.size, found.flags, crc)
