"""What /etc/phypan.toml may say, and what it may not."""

from __future__ import annotations

from dataclasses import fields
from importlib import resources
from pathlib import Path

import pytest

import phypan
from phypan import Settings


def written(folder: Path, text: str) -> Settings:
    path = folder / "phypan.toml"
    path.write_text(text)
    return phypan.read_settings(path)


def test_what_is_left_out_is_as_usual(tmp_path) -> None:
    assert written(tmp_path, "") == Settings()
    assert Settings().options == {"release": None}


def test_all_that_there_is(tmp_path) -> None:
    text = """
        path = "/srv/dumps"
        sink = "s3://bucket/dumps"
        level = 31
        codec = "zstd"
        retention = 3
        seal-for = ["age1xyz"]
        release = false
    """
    found = written(tmp_path, text)
    assert found == Settings(
        Path("/srv/dumps"), "s3://bucket/dumps", 31, "zstd", 3, ("age1xyz",), False
    )
    assert found.options == {
        "release": False, "dump_level": 31, "compress": "zstd", "seal_for": ("age1xyz",),
    }  # fmt: skip


def test_a_level_without_a_codec_is_a_filtered_elf_vmcore(tmp_path) -> None:
    """The letters -E -d 31; with codec = "none" it is -d 31."""
    assert written(tmp_path, "level = 31").options == {"release": None, "dump_level": 31}
    found = written(tmp_path, "level = 31\ncodec = 'none'")
    assert found.options == {"release": None, "dump_level": 31, "compress": "none"}


def test_the_file_that_is_printed_says_what_is_usual_and_names_all(tmp_path) -> None:
    text = (resources.files("phypan.rescue.system") / "phypan.toml").read_text()
    assert written(tmp_path, text) == Settings()
    for field in fields(Settings):
        assert f"{field.name.replace('_', '-')} = " in text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("level = 32", "level cannot be 32"),
        ("level = true", "level cannot be True"),
        ("codec = 'gzip'", "codec cannot be 'gzip'"),
        ("retention = -1", "retention cannot be -1"),
        ("path = 'var/crash'", "path cannot be"),
        ("sink = '/mnt/dumps'", "sink cannot be"),
        ("sink = '-'", "sink cannot be"),
        ("seal-for = [1]", "seal-for cannot be"),
        ("seal-for = 'age1'", "seal-for cannot be"),
        ("reten = 3", "there is no setting reten"),
        ("path = ", "is no TOML"),
        ("[path]", "path cannot be"),
    ],
)
def test_what_cannot_be_is_refused_with_a_hint(tmp_path, text, what) -> None:
    with pytest.raises(phypan.InputError, match=what):
        written(tmp_path, text)


def test_one_that_is_named_must_be_there(tmp_path) -> None:
    with pytest.raises(phypan.InputError):
        phypan.read_settings(tmp_path / "none")
