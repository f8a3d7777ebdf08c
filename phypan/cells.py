"""Cells: a value of a row as text for people, and in what JSON has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from phypan.errors import printable

if TYPE_CHECKING:
    from phypan.rows import Show


def plain(value: Any) -> Any:
    """`value` in what JSON has."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list | frozenset | set):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such numbers
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def hexadecimal(value: Any) -> Any:
    """A number as 0x...; numbers of a sequence so; None stays None."""
    if isinstance(value, tuple | list):
        return [hexadecimal(item) for item in value]
    return None if value is None else f"{value:#x}"


_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def cell(value: Any, show: Show | None) -> str:
    """The text of a value; control characters, which a dump may hold, are escaped."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and show is not None:
        return _number(value, show)
    if isinstance(value, tuple | list | frozenset | set):
        return ", ".join(cell(item, show) for item in value)
    return printable(str(value))


def _number(value: int, show: Show) -> str:
    """The text of a number as its column wants it: hexadecimal without 0x, bytes in their unit."""
    if show.base == 16:
        return f"{value:0{show.width}x}" if value >= 0 else f"-{-value:x}"
    if show.unit == "B" and value >= 1024:
        scaled, index = float(value), 0
        while scaled >= 1024 and index < len(_UNITS) - 1:
            scaled, index = scaled / 1024, index + 1
        return f"{scaled:.4g} {_UNITS[index]}"
    return f"{value} {show.unit}".rstrip()
