"""Selection: columns, filters, order; from Python and from the command line."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phypan
from phypan.errors import Unsupported
from phypan.rows import Address, Rows


@dataclass(frozen=True)
class Row:
    pid: int
    comm: str
    at: Address
    share: float
    idle: bool = False
    parent: int | None = None
    many: tuple[int, ...] = ()


ROWS = [
    Row(1, "init", 0x10, 0.5, False, None, (1, 2)),
    Row(20, "kworker/0:1", 0x30, 0.0, True, 1),
    Row(3, "sh", 0x20, 2.5, False, 1, (3,)),
]


def pids(*filters: str, sort: tuple[str, ...] = ()) -> list[int]:
    chosen = phypan.select(Rows("test", Row, ROWS), filters=filters, sort=sort)
    return [row.pid for row in chosen]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("pid > 2", [20, 3]), ("pid>=3", [20, 3]), ("pid<3", [1]), ("pid <= 3", [1, 3]),
        ("pid == 0x14", [20]), ("pid=20", [20]), ("pid != 20", [1, 3]),
        ("at == 20", [3]), ("at == 0x20", [3]), ("at > 1f", [20, 3]),
        ("comm ~ ^kwork", [20]), ("comm !~ ^kwork", [1, 3]), ("comm == sh", [3]),
        ("share > 0.4", [1, 3]), ("idle == yes", [20]), ("idle == no", [1, 3]),
        ("parent == -", [1]), ("parent != -", [20, 3]), ("parent == 1", [20, 3]),
        ("parent < 5", [20, 3]), ("many == 2", [1]), ("many > 2", [3]), ("COMM == sh", [3]),
    ],
)  # fmt: skip
def test_conditions(condition, expected) -> None:
    assert pids(condition) == expected


def test_all_conditions_must_hold() -> None:
    assert pids("pid > 2", "idle == no") == [3]


def test_order_and_what_is_absent_comes_last() -> None:
    assert pids(sort=("pid",)) == [1, 3, 20]
    assert pids(sort=("-pid",)) == [20, 3, 1]
    assert pids(sort=("parent", "pid")) == [3, 20, 1]
    assert pids(sort=("-parent", "-pid")) == [20, 3, 1]


def test_columns_in_the_order_wanted() -> None:
    chosen = phypan.select(Rows("test", Row, ROWS), names=["share", "pid"])
    assert [column.name for column in chosen.columns] == ["share", "pid"]
    assert dict(chosen.fields(next(iter(chosen)))) == {"share": 0.5, "pid": 1}


def test_a_selection_of_columns_is_a_table_and_not_the_text_of_an_analysis() -> None:
    rows = Rows("test", Row, ROWS, text=lambda rows: ["text"])
    assert phypan.select(rows, filters=["pid > 2"]).text is not None
    assert phypan.select(rows, names=["pid"]).text is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["nothing"]}, "no column 'nothing'"),
        ({"sort": ["nothing"]}, "no column 'nothing'"),
        ({"filters": ["nothing == 1"]}, "no column 'nothing'"),
        ({"filters": ["pid"]}, "no condition"),
        ({"filters": ["== 1"]}, "no condition"),
        ({"filters": ["comm ~ ("]}, "no regular expression"),
        ({"filters": ["pid == x"]}, "nothing to compare with"),
        ({"filters": ["at == xyz"]}, "nothing to compare with"),
        ({"filters": ["idle == maybe"]}, "nothing to compare with"),
    ],
)
def test_what_is_not_understood_is_refused(options, message) -> None:
    with pytest.raises(Unsupported, match=message) as caught:
        list(phypan.select(Rows("test", Row, ROWS), **options))
    assert "nothing to compare" in message or "expression" in message or caught.value.hint


numbers = st.integers(-100, 100)


@given(st.lists(st.builds(Row, numbers, st.text(max_size=4), numbers, st.floats(-9, 9))), numbers)
def test_filters_and_order_are_those_of_python(made, bound) -> None:
    chosen = phypan.select(Rows("t", Row, made), filters=[f"pid > {bound}"], sort=["-pid", "share"])
    expected = sorted((r for r in made if r.pid > bound), key=lambda r: (-r.pid, r.share))
    assert list(chosen) == expected


@given(st.text(max_size=20))
def test_any_text_is_a_condition_or_refused(text) -> None:
    with contextlib.suppress(Unsupported):
        list(phypan.select(Rows("test", Row, ROWS), filters=[text, "pid " + text]))


# --- from the command line ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection") / "crashed"
    phypan.simulate(folder, memory="160M", boot_memory="16M", cpus=4)
    return folder


def test_columns_filters_and_order_from_the_command_line(crashed, phypan_command) -> None:
    whole = phypan_command("dmesg", crashed, "-r", "json")
    every = json.loads(whole.out)["rows"]
    done = phypan_command("dmesg", crashed, "-r", "csv", "--columns", "level,text", "--filter",
                          "text !~ ^Linux", "--sort", "-text")  # fmt: skip
    assert done.code == 0
    head, *lines = csv.reader(io.StringIO(done.out))
    assert head == ["level", "text"]
    expected = sorted((r["text"] for r in every if not r["text"].startswith("Linux")),
                      reverse=True)  # fmt: skip
    assert 1 < len(expected) < len(every)
    assert [text for _, text in lines] == expected


def test_a_mistake_on_the_command_line_is_told_with_what_there_is(crashed, phypan_command) -> None:
    for options in (["--columns", "nothing"], ["--filter", "nothing > 1"], ["--sort", "nothing"]):
        done = phypan_command("dmesg", crashed, *options)
        assert done.code == 2
        assert "no column 'nothing'" in done.err
        assert "there are: " in done.err
        assert done.out == ""


def test_values_that_cannot_be_compared_end_with_a_reason(crashed, phypan_command) -> None:
    done = phypan_command("dmesg", crashed, "--filter", "level ~ (")
    assert done.code == 2
    assert "no regular expression" in done.err
