"""Settings: what /etc/phypan.toml says of how dumps are to be saved on this system."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phypan.errors import InputError, os_errors
from phypan.places.address import scheme_of

PATH = "/etc/phypan.toml"
CODECS = ("elf", "zlib", "lzo", "snappy", "zstd", "none")
MAX_LEVEL = 31


@dataclass(frozen=True)
class Settings:
    """How `phypan save` saves a dump.

    path       folder in which each dump gets a folder
    sink       URL of the folder instead; None: `path`
    level      which pages to leave out, makedumpfile's -d
    codec      "elf" for an ELF vmcore, else how the pages of a compressed dump are
    retention  how many saved dumps of this host stay there; 0 for all
    seal_for   age public keys, or files of them
    release    whether to give memory back; None: as usual
    """

    path: Path = Path("/var/crash")
    sink: str | None = None
    level: int = 0
    codec: str = "elf"
    retention: int = 0
    seal_for: tuple[str, ...] = ()
    release: bool | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What phypan.capture is to be called with, but for the target."""
        found: dict[str, Any] = {"release": self.release}
        if self.level:
            found["dump_level"] = self.level
        if self.codec != "elf":
            found["compress"] = self.codec
        if self.seal_for:
            found["seal_for"] = self.seal_for
        return found


def read_settings(path: str | os.PathLike[str] | None = None) -> Settings:
    """The settings in a file; without one those of PATH, or the usual ones if it is not there.

    Raises InputError for what is no TOML, a name that means nothing, a value that cannot be.
    """
    place = Path(PATH if path is None else path)
    if path is None and not place.exists():
        return Settings()
    with os_errors(InputError, place):
        data = place.read_bytes()
    try:
        told = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is no TOML: {error}", where=str(place)) from None
    values = {name.replace("-", "_"): value for name, value in told.items()}
    for name, value in values.items():
        if name not in _KINDS or not _fits(name, value):
            what = f"{name.replace('_', '-')} cannot be {value!r}"
            if name not in _KINDS:
                what = f"there is no setting {name.replace('_', '-')}"
            raise InputError(what, where=str(place), hint=_HINTS.get(name, _NAMES))
    if "path" in values:
        values["path"] = Path(values["path"])
    if "seal_for" in values:
        values["seal_for"] = tuple(values["seal_for"])
    return Settings(**values)


_KINDS: dict[str, type] = {
    "path": str, "sink": str, "level": int, "codec": str, "retention": int, "seal_for": list,
    "release": bool,
}  # fmt: skip
_NAMES = f"there are: {', '.join(name.replace('_', '-') for name in _KINDS)}"
_HINTS = {
    "level": f"0 to {MAX_LEVEL}",
    "codec": f"one of {', '.join(CODECS)}",
    "retention": "how many dumps stay; 0 for all",
    "seal_for": "a list of age public keys, or of files of them",
    "path": "an absolute path",
    "sink": "a URL, as ssh://HOST/PATH; for a folder on this machine there is path",
}


def _fits(name: str, value: Any) -> bool:
    if type(value) is not _KINDS[name]:  # True is an int
        return False
    allowed = _ALLOWED.get(name)
    return allowed is None or allowed(value)


_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "path": lambda value: value.startswith("/"),
    "sink": lambda value: scheme_of(value) is not None,
    "level": lambda value: 0 <= value <= MAX_LEVEL,
    "codec": lambda value: value in CODECS,
    "retention": lambda value: value >= 0,
    "seal_for": lambda value: all(isinstance(key, str) for key in value),
}
