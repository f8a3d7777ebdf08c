"""Codecs: each library against another one, identical bytes on every way, hostile streams."""

from __future__ import annotations

import random
import resource
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phypan.errors import BadRecord, Unsupported
from phypan.formats.kdump import ZSTD
from phypan.pages import codecs, packing
from tests.kdump_files import compressed

COMPRESSIONS = [name for name in codecs.NAMES if name != "none"]
SIZES = [4096, 65536]
_WORDS = st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=8)


def pages(size: int, count: int = 24) -> list[bytes]:
    """Pages like a kernel's: text, pointers, few bits, noise."""
    draw = random.Random(size)
    made = []
    for number in range(count):
        kind = number % 4
        if kind == 0:
            words = [b"CONFIG_", b"linux", b"=y\n", b"module ", bytes(8)]
            text = b"".join(draw.choice(words) for _ in range(size // 4))[:size]
            made.append(text.ljust(size, b"\0"))
        elif kind == 1:
            pointers = (0xC000000000000000 + draw.randrange(1 << 20) * 64 for _ in range(size // 8))
            made.append(struct.pack(f">{size // 8}Q", *pointers))
        elif kind == 2:
            page = bytearray(size)
            for _ in range(size // 100):
                page[draw.randrange(size)] = draw.randrange(256)
            made.append(bytes(page))
        else:
            made.append(draw.randbytes(size))
    return made


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("size", SIZES)
def test_pages_come_back(name: str, size: int) -> None:
    codec = codecs.named(name)
    compress, decompress = codec.compressor(), codec.decompressor()
    for page in pages(size):
        assert decompress(compress(page), size) == page


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_streams_that_another_library_made_are_read(name: str) -> None:
    codec = codecs.named(name)
    decompress = codec.decompressor()
    for page in pages(65536):
        assert decompress(compressed(page, codec.flag), 65536) == page


def test_the_streams_are_those_that_other_tools_expect() -> None:
    page = pages(65536)[0]
    stored = {name: codecs.named(name).compressor()(page) for name in COMPRESSIONS}
    assert zlib.decompress(stored["zlib"]) == page
    assert stored["zstd"][:4] == bytes.fromhex("28b52ffd")
    import cramjam

    assert bytes(cramjam.snappy.decompress_raw(stored["snappy"])) == page
    assert bytes(cramjam.zstd.decompress(stored["zstd"])) == page


@pytest.mark.parametrize("name", codecs.NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_the_bytes_do_not_depend_on_numba_order_or_place(name: str, size: int) -> None:
    """A dump must be the same whatever the number of threads, and on a host without numba."""
    codec = codecs.named(name)
    if codec.native is None:
        pytest.skip(f"{codec.library} has no function that numba could call")
    all_pages, kept = pages(size, 40), []
    plain = packing._Plain(codec, size)
    expected = {n: plain(bytearray(page), [n], bytearray(1)) for n, page in enumerate(all_pages)}
    for seed in range(4):
        numbers = list(range(len(all_pages)))
        random.Random(seed).shuffle(numbers)
        kept.append(bytearray(random.Random(seed).randrange(1 << 20)))  # moves what comes behind
        packer = packing._Compiled(codec, size, len(numbers))
        kept.append(packer)
        buffer = bytearray(b"".join(all_pages[n] for n in numbers))
        packed, position = packer(buffer, numbers, bytearray(len(numbers))), 0
        for index, number in enumerate(numbers):
            one, count = expected[number], int(packed.sizes[index])
            assert packed.data[position : position + count] == one.data
            assert (count, packed.flags[index], packed.checksums[index]) == (
                one.sizes[0], one.flags[0], one.checksums[0]
            )  # fmt: skip
            position += count


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_stream_that_holds_more_or_less_than_a_page_is_refused(name: str) -> None:
    codec = codecs.named(name)
    decompress = codec.decompressor()
    for size in (0, 1, 4095, 4097, 65536, 1 << 20):
        stored = compressed(b"x" * size, codec.flag)
        with pytest.raises(BadRecord):
            decompress(stored, 4096)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_bomb_makes_no_more_than_a_page(name: str) -> None:
    codec = codecs.named(name)
    decompress = codec.decompressor()
    bomb = compressed(bytes(64 << 20), codec.flag)
    if codec.flag == ZSTD:  # the size in its head is a lie as well
        bomb = bytes.fromhex("28b52ffd e0 ffffffffffffff7f") + bomb[9:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        with pytest.raises(BadRecord):
            decompress(bomb, 65536)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB


@pytest.mark.parametrize("name", COMPRESSIONS)
@settings(max_examples=200)
@given(st.data())
def test_damaged_streams_are_a_page_or_refused(name: str, draw: st.DataObject) -> None:
    codec = codecs.named(name)
    stored = bytearray(codec.compressor()(b"".join(draw.draw(_WORDS)).ljust(4096, b"a")[:4096]))
    for _ in range(draw.draw(st.integers(1, 3))):
        stored[draw.draw(st.integers(0, len(stored) - 1))] ^= draw.draw(st.integers(1, 255))
    del stored[draw.draw(st.integers(0, len(stored))) :]
    try:
        page = codec.decompressor()(bytes(stored), 4096)
    except BadRecord:
        return
    assert len(page) == 4096


def test_a_library_that_is_missing_is_named_with_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(codecs, "_library", lambda name: None)
    with pytest.raises(Unsupported) as caught:
        codecs._lzo()
    assert "liblzo2" in (caught.value.hint or "")
    assert codecs._snappy().library == "cramjam"
    assert codecs._zlib().native is None
    with pytest.raises(Unsupported):
        codecs.named("lzma")
    with pytest.raises(BadRecord):
        codecs.flagged(0x40)


def test_without_the_fast_libraries_pages_come_back_too(monkeypatch) -> None:
    import builtins

    real = builtins.__import__

    def without(name, *rest, **more):
        if name.partition(".")[0] == "isal":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(codecs, "_library", lambda name: None)
    for codec in (codecs._zlib(), codecs._snappy()):
        for page in pages(4096):
            stored = codec.compressor()(page)
            assert codec.decompressor()(stored, 4096) == page
            assert codec.native is None
