"""Pieces are made once, anew when what they are made from changes, and never left half done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from debian import ArchiveError
from workshop import Piece, Workshop


def _maker(made: list[str], name: str):
    def make(shop: Workshop, folder: Path) -> dict[str, str]:
        made.append(name)
        (folder / "file").write_text(name)
        return {"version": "1"}

    return make


def _shop(tmp_path: Path, made: list[str]) -> Workshop:
    (tmp_path / "input").write_text("one")
    pieces = [
        Piece("base", "what others need", _maker(made, "base"), inputs=(tmp_path / "input",)),
        Piece("top", "what needs it", _maker(made, "top"), needs=("base",)),
    ]
    return Workshop(pieces, tmp_path / "cache")


def test_a_piece_is_made_once_with_what_it_needs(tmp_path, capsys) -> None:
    made: list[str] = []
    folder = _shop(tmp_path, made).get("top")
    assert (folder / "file").read_text() == "top"
    assert made == ["base", "top"]
    assert "top: version 1, 0 MiB, made in 0 s" in capsys.readouterr().out
    _shop(tmp_path, made).get("top")
    assert made == ["base", "top"], "a second workshop finds it"


def test_a_change_makes_it_anew_and_what_was_made_from_it(tmp_path) -> None:
    made: list[str] = []
    shop = _shop(tmp_path, made)
    shop.get("top")
    (tmp_path / "input").write_text("two")
    shop.get("top")
    assert made == ["base", "top", "base", "top"]


def test_a_failure_leaves_what_was_there(tmp_path) -> None:
    made: list[str] = []
    shop = _shop(tmp_path, made)
    shop.get("base")

    def fails(shop: Workshop, folder: Path) -> dict[str, str]:
        (folder / "half").write_text("done")
        raise ArchiveError("no network")

    (tmp_path / "input").write_text("two")
    shop.pieces["base"] = Piece("base", "", fails, inputs=(tmp_path / "input",))
    with pytest.raises(ArchiveError, match="no network"):
        shop.get("base")
    assert [file.name for file in shop.path("base").iterdir()] == ["file", "piece.json"]
    shop.pieces["base"] = Piece("base", "", _maker(made, "base"), inputs=(tmp_path / "input",))
    folder = shop.get("base")
    assert not (folder / "half").exists()
    assert not shop.path("base.incomplete").exists()


def test_a_stamp_that_cannot_be_read_counts_as_none(tmp_path) -> None:
    made: list[str] = []
    shop = _shop(tmp_path, made)
    (shop.get("base") / "piece.json").write_text("{")
    shop.get("base")
    assert made == ["base", "base"]
    assert json.loads((shop.path("base") / "piece.json").read_text())["version"] == "1"


def test_programs_that_are_missing_are_named_by_their_packages(tmp_path) -> None:
    made: list[str] = []
    piece = Piece("p", "", _maker(made, "p"), programs=("sh", "pahole-that-is-not-there"))
    with pytest.raises(ArchiveError, match="apt-get install pahole-that-is-not-there"):
        Workshop([piece], tmp_path).get("p")
    assert not made
