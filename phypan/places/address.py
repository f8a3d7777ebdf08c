"""Addresses of places: a path, "-", or SCHEME://[USER[:PASSWORD]@]HOST[:PORT]/PATH."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from phypan.errors import OutputError

PIPE = "-"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_LOCAL = ("file", "local")


@dataclass(frozen=True)
class Address:
    """A place that is not on this machine.

    name  what is shown to people: without the password
    path  of a URL, beginning with "/"
    """

    name: str
    scheme: str
    host: str
    path: str
    port: int | None = None
    user: str | None = None
    password: str | None = None


def scheme_of(target: str | os.PathLike[str]) -> str | None:
    """The scheme of a place that is not on this machine, in lower case; None for a path."""
    found = _SCHEME.match(os.fspath(target))
    scheme = found and found[1].lower()
    return None if scheme is None or scheme in _LOCAL else scheme


def local_path(target: str | os.PathLike[str]) -> str:
    """The path of a place on this machine, which may be given as file://PATH."""
    text = os.fspath(target)
    return text.partition("://")[2] if _SCHEME.match(text) else text


def shown(target: str | os.PathLike[str]) -> str:
    """An address for people: without the password in it, if there is one."""
    return re.sub(r"^([a-z0-9+.-]+://[^/@:]*):[^/@]*@", r"\1@", os.fspath(target), flags=re.I)


def parsed(target: str | os.PathLike[str]) -> Address:
    """The parts of a URL; OutputError when it is none that can be written to."""
    text, name = os.fspath(target), shown(target)
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise OutputError(f"is no address: {error}", where=name) from error
    user, password = (part and unquote(part) for part in (parts.username, parts.password))
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if not host or path.strip("/") == "":
        raise OutputError("is no address", where=name, hint="SCHEME://HOST/PATH")
    return Address(name, parts.scheme.lower(), host, path, port, user, password)
