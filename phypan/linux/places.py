"""Places that a person names: an address in hexadecimal, a symbol, a symbol and an offset."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from phypan.errors import Unsupported

if TYPE_CHECKING:
    from phypan.dump import Dump

_HEX = re.compile(r"(0x)?[0-9a-f]{1,16}", re.IGNORECASE)
_BEHIND = re.compile(r"(?P<name>.+?)(?P<sign>[+-])(?P<offset>(0x)?[0-9a-f]+)", re.IGNORECASE)


def address(dump: Dump, text: str) -> int:
    """The effective address of "c000000001a2b3c0", "jiffies" or "jiffies+0x8".

    What begins with a digit or has 16 digits is a number; of what else could be both, the symbol
    counts. Offsets are hexadecimal. Raises Unsupported for what is neither.
    """
    number = int(text, 16) if _HEX.fullmatch(text) else None
    if number is not None and (text[0].isdigit() or len(text) == 16):
        return number
    behind = _BEHIND.fullmatch(text)
    name = behind["name"] if behind else text
    base = dump.symbols.address(name)
    if base is None and behind and _HEX.fullmatch(name):
        base = int(name, 16)
    if base is None and number is None:
        hint = "an address is hexadecimal; `phypan symbol` finds names"
        raise Unsupported(f"no address and no symbol: {text!r}", where=dump.source, hint=hint)
    if base is None:
        return number or 0
    offset = int(behind["sign"] + behind["offset"], 16) if behind else 0
    return (base + offset) % (1 << 64)
