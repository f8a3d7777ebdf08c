"""Selection: rows and columns left out, and rows in another order."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from phypan.errors import Unsupported
from phypan.rows import Column, Rows, columns


def select(
    rows: Rows, *, names: Sequence[str] = (), filters: Sequence[str] = (), sort: Sequence[str] = ()
) -> Rows:
    """The same rows with columns left out, rows left out, rows in another order.

    names    of the columns to keep, in the order wanted; none for all
    filters  conditions that all must hold: "NAME OPERATOR VALUE"; the operators are
             == != < <= > >=, and ~ !~ for a regular expression
    sort     names of columns to sort by, the first before the others; "-NAME" for descending

    Raises Unsupported for what it does not understand.
    """
    found: Iterable[Any] = rows
    for condition in [_condition(rows, text) for text in filters]:
        found = filter(condition, found)
    keys = [(_column(rows, key.lstrip("-")).name, key.startswith("-")) for key in sort]
    found = _sorted(found, keys) if keys else found
    chosen = tuple(_column(rows, name) for name in names) or rows.columns
    text = None if names else rows.text
    return Rows(rows.name, rows.row, found, chosen=chosen, text=text)


def _column(rows: Rows, name: str) -> Column:
    for column in columns(rows.row):
        if column.name == name.lower().replace(" ", "_"):
            return column
    names = ", ".join(column.name for column in columns(rows.row))
    raise Unsupported(f"no column {name!r}", where=rows.name, hint=f"there are: {names}")


def _condition(rows: Rows, text: str) -> Callable[[Any], bool]:
    match = _CONDITION.fullmatch(text)
    if match is None:
        hint = "NAME OPERATOR VALUE, such as 'pid > 100' or 'comm ~ ^kworker'"
        raise Unsupported(f"no condition: {text!r}", where=rows.name, hint=hint)
    column = _column(rows, match["name"])
    test = _test(column, match["operator"], match["value"])
    return lambda row: test(getattr(row, column.name))


_CONDITION = re.compile(r"\s*(?P<name>\w+)\s*(?P<operator>[=!<>]=|!~|[=<>~])\s*(?P<value>.*?)\s*")
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ABSENT = ("", "-", "null")
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")


def _test(column: Column, sign: str, wanted: str) -> Callable[[Any], bool]:
    """A function that says whether a value of `column` stands in the relation to `wanted`."""
    if sign in ("~", "!~"):
        try:
            pattern = re.compile(wanted)
        except re.error as error:
            raise Unsupported(f"no regular expression: {error}", where=wanted) from error
        return lambda value: (pattern.search(str(value)) is not None) is (sign == "~")

    def holds(value: Any) -> bool:
        if value is None or wanted in _ABSENT:
            same = value is None and wanted in _ABSENT
            return same if sign in ("=", "==") else not same and sign == "!="
        if isinstance(value, tuple | list):
            return any(_OPERATORS[sign](item, _like(item, wanted, column)) for item in value)
        return _OPERATORS[sign](value, _like(value, wanted, column))

    return holds


def _like(value: Any, wanted: str, column: Column) -> Any:
    """`wanted` as a value of the same type; Unsupported if it cannot be one."""
    try:
        if isinstance(value, bool):
            if wanted.lower() not in _YES + _NO:
                raise ValueError(wanted)
            return wanted.lower() in _YES
        if isinstance(value, int):
            return int(wanted, column.show.base if column.show and column.show.base == 16 else 0)
        return type(value)(wanted)
    except (ValueError, TypeError):
        what = f"{wanted!r} is nothing to compare with"
        raise Unsupported(what, where=f"column {column.name}") from None


def _sorted(rows: Iterable[Any], keys: Sequence[tuple[str, bool]]) -> Iterator[Any]:
    """The rows, sorted when the first is asked for; what is absent comes last."""
    found = list(rows)
    for name, descending in reversed(keys):
        present = [row for row in found if getattr(row, name) is not None]
        absent = [row for row in found if getattr(row, name) is None]
        present.sort(key=operator.attrgetter(name), reverse=descending)
        found = present + absent
    yield from found
