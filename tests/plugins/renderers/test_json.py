"""JSON: a versioned schema, one document, exact numbers."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from enum import Enum

from hypothesis import given
from hypothesis import strategies as st

from phypan.dump import Dump
from phypan.errors import Problem
from phypan.memory import Memory
from phypan.plugins.renderers import json as renderer
from phypan.rows import Address, Hex, Rows


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Row:
    name: str
    at: Address
    flags: Hex | None
    data: bytes
    many: tuple[int, ...]
    share: float
    colour: Colour = Colour.RED


def rendered(*rows: object, row: type = Row, **more):
    out = io.StringIO()
    renderer.render(Rows("test", row, rows), Dump("the source", Memory([]), **more), out)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(out.getvalue(), parse_constant=refuse)


def test_the_document() -> None:
    said = rendered(
        Row("a", 0xC000000000000001, 0x10, b"\0\xff", (1, 2), 0.5),
        Row("b", 1, None, b"", (), 1.0),
        problems=[Problem("what", "where", "meaning")],
    )
    assert said == {
        "schema": 1,
        "analysis": "test",
        "source": "the source",
        "rows": [
            {
                "name": "a", "at": 0xC000000000000001, "at_hex": "0xc000000000000001",
                "flags": 16, "flags_hex": "0x10", "data": "00ff", "many": [1, 2], "share": 0.5,
                "colour": "Colour.RED",
            },
            {
                "name": "b", "at": 1, "at_hex": "0x1", "flags": None, "data": "", "many": [],
                "share": 1.0, "colour": "Colour.RED",
            },
        ],
        "problems": [{"what": "what", "where": "where", "meaning": "meaning"}],
    }  # fmt: skip


def test_no_rows_are_an_empty_list() -> None:
    assert rendered()["rows"] == []


@given(st.lists(st.builds(
    Row, st.text(), st.integers(), st.none() | st.integers(), st.binary(),
    st.lists(st.integers()).map(tuple), st.floats(),
), max_size=3))  # fmt: skip
def test_any_values_are_json(rows) -> None:
    for row, said in zip(rows, rendered(*rows)["rows"], strict=True):
        assert (said["name"], said["at"], said["flags"]) == (row.name, row.at, row.flags)
        assert bytes.fromhex(said["data"]) == row.data
        assert said["share"] == (row.share if math.isfinite(row.share) else None)
