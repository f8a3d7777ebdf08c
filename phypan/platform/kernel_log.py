"""The guest's kernel log, in the two forms that matter here, as bytes for its memory.

kernel/printk.c of 2.6.32: a ring of text. kernel/printk/printk_ringbuffer.h since 5.10: rings of
descriptors, infos and text, without locks. The structures are the kernel's for 64 bits; what they
look like is told in VMCOREINFO.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from phypan.formats._records import STRUCT_ORDER, ByteOrder

COUNT_BITS = 8  # log2 of the number of descriptors
TEXT_BITS = 15  # log2 of the bytes of text
_FINALIZED, _REUSABLE, _STATE_SHIFT = 2, 3, 62
_DESC, _INFO = 24, 88  # sizes of struct prb_desc and struct printk_info
_RING_SIZE = 88  # of struct printk_ringbuffer
_OFFSETS = {
    "printk_ringbuffer.desc_ring": 0,
    "printk_ringbuffer.text_data_ring": 48,
    "printk_ringbuffer.fail": 80,
    "prb_desc_ring.count_bits": 0,
    "prb_desc_ring.descs": 8,
    "prb_desc_ring.infos": 16,
    "prb_desc_ring.head_id": 24,
    "prb_desc_ring.tail_id": 32,
    "prb_desc.state_var": 0,
    "prb_desc.text_blk_lpos": 8,
    "prb_data_blk_lpos.begin": 0,
    "prb_data_blk_lpos.next": 8,
    "printk_info.seq": 0,
    "printk_info.ts_nsec": 8,
    "printk_info.text_len": 16,
    "printk_info.caller_id": 20,
    "prb_data_ring.size_bits": 0,
    "prb_data_ring.data": 8,
    "prb_data_ring.head_lpos": 16,
    "prb_data_ring.tail_lpos": 24,
    "atomic_long_t.counter": 0,
}
_SIZES = {
    "printk_ringbuffer": _RING_SIZE,
    "prb_desc_ring": 48,
    "prb_desc": _DESC,
    "prb_data_blk_lpos": 16,
    "printk_info": _INFO,
    "prb_data_ring": 32,
    "atomic_long_t": 8,
}


@dataclass(frozen=True)
class Line:
    """One message: nanoseconds since boot, level, text."""

    time: int
    level: int
    text: str


@dataclass(frozen=True)
class Image:
    """Bytes to put into memory by physical address, and VMCOREINFO's lines about them."""

    pieces: tuple[tuple[int, bytes], ...]
    vmcoreinfo: tuple[str, ...]


def plain(lines: Sequence[Line], address: int, linear: int) -> Image:
    """The ring of text of 2.6.32, at physical `address`; `linear` is added for a pointer."""
    text = "".join(
        f"<{line.level}>[{line.time // 10**9:5}.{line.time // 1000 % 10**6:06}] {line.text}\n"
        for line in lines
    ).encode()
    size = 1 << TEXT_BITS
    kept = text[-size:]
    ring = bytearray(size)
    start = (len(text) - len(kept)) % size
    for index, byte in enumerate(kept):
        ring[(start + index) % size] = byte
    # variables: log_buf (a pointer), log_end, log_buf_len, logged_chars
    buffer = address + 0x100
    variables = struct.pack(">QIII", buffer + linear, len(text), size, len(kept))
    names = (("log_buf", 0), ("log_end", 8), ("log_buf_len", 12), ("logged_chars", 16))
    info = tuple(f"SYMBOL({name})={address + offset + linear:x}" for name, offset in names)
    return Image(((address, variables), (buffer, bytes(ring))), info)


def lockless(lines: Sequence[Line], address: int, linear: int, order: ByteOrder) -> Image:
    """The rings since 5.10, from physical `address` on."""
    count = 1 << COUNT_BITS
    kept = list(enumerate(lines))[-(count - 1) :]
    o = STRUCT_ORDER[order]
    ring, prb = address, address + 0x80
    descs = address + 0x1000
    infos = descs + count * _DESC
    data = infos + count * _INFO
    desc_bytes, info_bytes = bytearray(count * _DESC), bytearray(count * _INFO)
    for index in range(count):
        reusable = _REUSABLE << _STATE_SHIFT | index
        struct.pack_into(o + "3Q", desc_bytes, index * _DESC, reusable, 0, 0)
    text = bytearray(1 << TEXT_BITS)
    position = 0
    for seq, line in kept:
        body = line.text.encode()
        begin, position = position, position + (8 + len(body) + 7) // 8 * 8
        text[begin : begin + 8 + len(body)] = struct.pack(o + "Q", seq) + body
        slot = seq % count
        state = _FINALIZED << _STATE_SHIFT | seq
        struct.pack_into(o + "3Q", desc_bytes, slot * _DESC, state, begin, position)
        level = line.level << 5 if order == "little" else line.level
        info = struct.pack(o + "QQHBBI", seq, line.time, len(body), 0, level, 0xFFFFFFFF)
        info_bytes[slot * _INFO : slot * _INFO + len(info)] = info
    first, last = (kept[0][0], kept[-1][0]) if kept else (0, 0)
    desc_ring = struct.pack(
        o + "I4x5Q", COUNT_BITS, descs + linear, infos + linear, last, first, last
    )
    data_ring = struct.pack(o + "I4x3Q", TEXT_BITS, data + linear, position, 0)
    pointer = struct.pack(o + "Q", ring + linear)
    pieces = (
        (prb, pointer),
        (ring, desc_ring + data_ring + bytes(8)),
        (descs, bytes(desc_bytes)),
        (infos, bytes(info_bytes)),
        (data, bytes(text)),
    )
    info_lines = (
        f"SYMBOL(prb)={prb + linear:x}",
        f"SYMBOL(printk_rb_static)={ring + linear:x}",
        *(f"SIZE({name})={size}" for name, size in _SIZES.items()),
        *(f"OFFSET({name})={offset}" for name, offset in _OFFSETS.items()),
    )
    return Image(pieces, info_lines)
