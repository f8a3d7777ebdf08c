"""The migration stream, read from streams that QEMU wrote."""

from __future__ import annotations

import gzip
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import device_tree, hpte
from phypan.platform.qemu import stream
from tests.platform_model.qemu import streams


def test_machine_memory_and_device_tree_are_read() -> None:
    found = stream.read(streams.data("hash"))
    assert found.machine.startswith("pseries-")
    assert found.ram == [("memory", 256 << 20)]
    tree = found.device_tree()
    assert tree is not None
    root = device_tree.read(tree)
    assert device_tree.memory(root) == [(0, 256 << 20)]
    assert device_tree.kernel_dump(root) is None
    assert found.hpt_shift == 21, "1/128 of 256 MiB"


def test_the_linear_mapping_is_in_the_page_table() -> None:
    """Bolted 16 MiB pages (cap-hpt-max-page-size) of all of memory, as Linux enters them."""
    found = stream.read(streams.data("hash"))
    entries = [hpte.decode(i, *hpte.ENTRY.unpack(e)) for i, e in found.hpt.items()]
    assert all(entry.valid for entry in entries)
    bolted = {
        entry.real & ~0xFFFFFF for entry in entries if entry.bolted and entry.real < 256 << 20
    }
    assert bolted == set(range(0, 256 << 20, 16 << 20))


def test_a_radix_guest_has_no_page_table() -> None:
    found = stream.read(streams.data("radix"))
    assert (found.hpt_shift, found.hpt) == (None, {})
    assert len(found.cpus()) == 1


def test_the_second_boot_has_the_property() -> None:
    tree = stream.read(streams.data("second-boot")).device_tree()
    assert tree is not None
    assert device_tree.kernel_dump(device_tree.read(tree)) is not None


def test_memory_in_the_stream_is_stepped_over() -> None:
    data = streams.data("memory")
    assert b"PHYPAN-GOLDEN-PAGE" in data
    found = stream.read(data)
    assert found.ram == [("memory", 256 << 20)]
    assert len(found.cpus()) == 1


@pytest.mark.parametrize("name", ["hash", "radix"])
def test_a_cut_stream_is_refused(name: str) -> None:
    data = streams.data(name)
    for size in [*range(0, 64), *range(64, len(data), len(data) // 97), len(data) - 1]:
        with pytest.raises(BadRecord, match="QEMU migration stream"):
            stream.read(data[:size])


@settings(max_examples=25)
@given(st.data())
def test_damage_is_refused_or_read_but_nothing_else(data: st.DataObject) -> None:
    """The description at the end, too: whatever it says, there is an answer."""
    whole = bytearray(streams.data("radix"))
    # Most of the stream is the contents of the NVRAM: aim at what has a structure.
    places = st.one_of(st.integers(0, 4096), st.integers(len(whole) - 60000, len(whole) - 1))
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        whole[at] = value
    with suppress(BadRecord):
        stream.read(whole)


def _by_hand(*sections: bytes, description: bytes = b'{"devices":[]}') -> bytes:
    """A stream as the documents describe it."""
    return b"".join(
        (
            b"QEVM\0\0\0\3",
            b"\7" + struct.pack(">I", 7) + b"by-hand",
            *sections,
            b"\0",
            b"\6" + struct.pack(">I", len(description)) + description,
        )
    )


def _section(number: int, kind: int, name: bytes, body: bytes) -> bytes:
    head = bytes([kind]) + struct.pack(">I", number)
    if kind in (1, 4):
        head += bytes([len(name)]) + name + struct.pack(">II", 0, 1)
    return head + body + b"\x7e" + struct.pack(">I", number)


def test_entries_that_became_invalid_are_taken_out() -> None:
    entry = struct.pack(">QQ", 0x4000000000000001, 0x190)
    start = _section(3, 1, b"spapr/htab", struct.pack(">I", 18))
    first = struct.pack(">IIHH", 0, 0, 3, 0) + 3 * entry + struct.pack(">IHH", 0, 0, 0)
    then = struct.pack(">IIHH", 0, 0, 1, 1) + entry + struct.pack(">IHH", 0, 0, 0)
    found = stream.read(_by_hand(start, _section(3, 2, b"", first), _section(3, 3, b"", then)))
    assert found.hpt_shift == 18
    assert found.hpt == {0: entry, 2: entry}


@pytest.mark.parametrize(
    ("section", "why"),
    [
        (_section(3, 1, b"spapr/htab", struct.pack(">I", 60)), "60 bits of a page table"),
        (_section(3, 2, b"", b""), "has not begun"),
        (_section(3, 4, b"stranger", b""), "not described"),
        (b"\x2a", "unknown type"),
        (_section(3, 4, b"ram", struct.pack(">Q", 0x40)), "unknown flags"),
        (_section(3, 1, b"spapr/htab", struct.pack(">I", 18))
         + _section(3, 3, b"", struct.pack(">IIHH", 0, 16383, 2, 0)), "entry 16384 of 16384"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(section: bytes, why: str) -> None:
    with pytest.raises(BadRecord, match=why):
        stream.read(_by_hand(section))


@pytest.mark.parametrize(
    ("field", "why"),
    [
        (b'{"name":"x","size":-1}', "bytes wanted"),
        (b'{"name":"x","size":1,"array_len":99999999}', "elements"),
        (b'{"name":"x"}', "a description that is none"),
        (b'{"name":"x","size":"many"}', "a description that is none"),
        (b"5", "a description that is none"),
    ],
)
def test_a_wrong_description_is_refused(field: bytes, why: str) -> None:
    text = b'{"devices":[{"name":"d","instance_id":0,"fields":[' + field + b"]}]}"
    with pytest.raises(BadRecord, match=why):
        stream.read(_by_hand(_section(3, 4, b"d", b""), description=text))


def test_a_description_nested_without_end_is_refused() -> None:
    text = b'{"name":"x","size":1}'
    for _ in range(40):
        text = b'{"name":"x","struct":{"fields":[' + text + b"]}}"
    text = b'{"devices":[{"name":"d","instance_id":0,"fields":[' + text + b"]}]}"
    with pytest.raises(BadRecord, match="too deep"):
        stream.read(_by_hand(_section(3, 4, b"d", b"x"), description=text))


def test_the_recipe_packs_them_with_gzip() -> None:
    for file in streams.FOLDER.glob("*.gz"):
        assert gzip.decompress(file.read_bytes())[:4] == stream.MAGIC
