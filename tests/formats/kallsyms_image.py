"""Tables of kallsyms as scripts/kallsyms.c lays them out, but for the compression."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from phypan.formats.kallsyms import Layout


def pack(
    symbols: Sequence[tuple[int, str]],
    order: str,
    *,
    encoding: str = "relative",
    at: int = 0,
    addresses_last: bool = True,
    marker_size: int = 4,
) -> tuple[bytes, Layout]:
    """(the tables in one piece, where they are in it): every token is one letter.

    symbols  (effective address, type and name), in order of address
    at       effective address of the piece; its first 8 bytes are not used
    """
    o = ">" if order == "big" else "<"
    names, markers = names_of([text.encode("ascii") for _, text in symbols])
    tokens = tokens_of({*"".join(text for _, text in symbols), *"0123456789"})
    starts = [sum(len(token) + 1 for token in tokens[:n]) for n in range(256)]
    base = symbols[0][0] if symbols else 0
    parts = {
        "number": struct.pack(o + "I", len(symbols)),
        "names": names,
        "markers": struct.pack(f"{o}{len(markers)}{'I' if marker_size == 4 else 'Q'}", *markers),
        "table": b"".join(token + b"\0" for token in tokens),
        "index": struct.pack(o + "256H", *starts),
        "base": struct.pack(o + "Q", base),
        "addresses": bytes((8 if encoding == "absolute" else 4) * len(symbols)),
    }
    if encoding not in ("relative", "per-CPU"):
        del parts["base"]
    late = [name for name in ("addresses", "base") if name in parts]
    early = ["number", "names", "markers", "table", "index"]
    places, end = {}, 8
    for name in [*early, *late] if addresses_last else [*late, *early]:
        places[name], end = end, -(-(end + len(parts[name])) // 8) * 8
    place = at + places["addresses"]
    parts["addresses"] = addresses_of([a for a, _ in symbols], o, encoding, base, place)
    image = bytearray(end)
    for name, start in places.items():
        image[start : start + len(parts[name])] = parts[name]
    return bytes(image), Layout(
        count=len(symbols),
        names=places["names"],
        token_table=places["table"],
        token_index=places["index"],
        addresses=places["addresses"],
        base=places.get("base"),
        encoding=encoding,
    )


def names_of(texts: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """(kallsyms_names, kallsyms_markers)."""
    names, markers = bytearray(), []
    for number, text in enumerate(texts):
        if number % 256 == 0:
            markers.append(len(names))
        size = len(text)
        names += bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
        names += text
    return bytes(names), markers


def tokens_of(letters: set[str]) -> list[bytes]:
    """A token for each code: letters are themselves, the others something that is never used."""
    return [bytes([code]) if chr(code) in letters else b"~%d" % code for code in range(256)]


def addresses_of(addresses: Sequence[int], o: str, encoding: str, base: int, place: int) -> bytes:
    """kallsyms_addresses or kallsyms_offsets."""
    if encoding == "absolute":
        return struct.pack(f"{o}{len(addresses)}Q", *addresses)
    if encoding == "relative":
        return struct.pack(f"{o}{len(addresses)}I", *(a - base for a in addresses))
    if encoding == "place":
        offsets = [a - (place + 4 * n) for n, a in enumerate(addresses)]
    else:
        offsets = [a if a < 1 << 31 else base - 1 - a for a in addresses]
    return struct.pack(f"{o}{len(offsets)}i", *offsets)
