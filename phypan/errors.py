"""What can go wrong, in words for a person: errors that stop, problems that do not.

PhypanError            one line and a hint; exit code 1
  BadRecord            bytes that do not follow their declaration
  NotInDump            memory that the dump does not hold, with the reason
  TranslationFault     an effective address that maps nothing, with the reason
  InputError           an input that cannot be read, or that no source knows
  OutputError          an output that cannot be written
    Unreachable        an output that may be written if it is tried again
  PluginError          a plugin that broke its contract
  GuestError           a guest under QEMU that hung, or did not do what it was started for
  Unsupported          known, but not possible here; exit code 2
Problem                what was worked around, reported beside the result
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


def printable(text: str) -> str:
    """`text` with everything that could move a cursor or hide something made visible.

    What a dump holds may end up in a message: names, paths, what another tool wrote.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


class PhypanError(Exception):
    """Why phypan stopped: what is wrong, where it is, and what to do about it.

    where  place in the input ("ibm,kernel-dump, byte 0x28"), or None
    hint   one next step for a person, or None; the command line prints it on its own line
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(printable(f"{where}: {what}" if where else what))
        self.what, self.where, self.hint = what, where, hint

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments are not part of args; without this an error loses them on its way
        # back from another process.
        return _rebuild, (type(self), dict(self.__dict__), self.args)


def _rebuild(
    kind: type[PhypanError], state: dict[str, object], args: tuple[object, ...]
) -> PhypanError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class BadRecord(PhypanError, ValueError):
    """Bytes that do not follow their declaration."""


class NotInDump(PhypanError, LookupError):
    """Memory that the dump does not hold.

    address  the first physical address that is missing
    state    what it is, in one word: "absent", "excluded" or "damaged" (see phypan.pages.state)
    why      why it is that
    """

    def __init__(self, address: int, state: str, why: str, *, hint: str | None = None) -> None:
        super().__init__(f"{state}: {why}", where=f"physical address {address:#x}", hint=hint)
        self.address, self.state, self.why = address, state, why


class TranslationFault(PhypanError, LookupError):
    """An effective address that translates to nothing.

    address  the effective address
    fault    why, in words
    """

    def __init__(self, address: int, fault: str, *, hint: str | None = None) -> None:
        super().__init__(fault, where=f"effective address {address:#x}", hint=hint)
        self.address, self.fault = address, fault


class InputError(PhypanError):
    """An input that cannot be read, or that no source knows."""


class OutputError(PhypanError):
    """An output that cannot be written."""


class Unreachable(OutputError):
    """An output that cannot be written now, and may be if it is tried again."""


class PluginError(PhypanError):
    """A plugin that broke its contract."""


class GuestError(PhypanError):
    """A guest under QEMU that hung, died too early, or did not do what it was started for.

    `what` may have several lines: what the guest's console and QEMU said last.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, where=where, hint=hint)
        whole = f"{where}: {what}" if where else what
        self.args = ("\n".join(map(printable, whole.split("\n"))),)


class Unsupported(PhypanError):
    """Something phypan knows of but cannot do here: a missing extra, a kernel without the data."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """Something inconsistent or missing that was worked around.

    what     what was found, and what had been expected
    where    place in the input: a section, a file and byte, an address with its kind
    meaning  what it means for the reader of the dump: what is lost, what was used instead
    """

    what: str
    where: str
    meaning: str

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.what}; {self.meaning}")


_FULL = "free some space or write to another file system; the unfinished file was kept"
_HINTS: Mapping[type[PhypanError], Mapping[int, str]] = {
    InputError: {
        errno.ENOENT: "check the path",
        errno.EACCES: "dumps are readable by their owner only: run as that user or as root",
        errno.EISDIR: "name the file inside, or a directory that phypan simulate wrote",
    },
    OutputError: {
        errno.ENOENT: "make the directory first",
        errno.EACCES: "choose a directory that you may write to",
        errno.EROFS: "choose another file system",
        errno.ENOSPC: _FULL,
        errno.EDQUOT: _FULL,
        errno.EFBIG: "the file size is limited, see `ulimit -f`; the unfinished file was kept",
    },
}


@contextmanager
def os_errors(
    kind: type[InputError] | type[OutputError], path: str | os.PathLike[str]
) -> Iterator[None]:
    """Turn an OSError about `path` into `kind`, with a hint where there is a usual remedy."""
    try:
        yield
    except OSError as error:
        hint = _HINTS[kind].get(error.errno or 0)
        raise kind(error.strerror or str(error), where=os.fsdecode(path), hint=hint) from error
    except ValueError as error:  # "embedded null byte"
        if isinstance(error, PhypanError):
            raise
        raise kind(str(error), where=repr(os.fsdecode(path))) from error


@contextmanager
def plugin_errors(name: str, *, but: type[Exception] = PhypanError) -> Iterator[None]:
    """Turn what the plugin `name` should not raise into a PluginError that says where it did.

    What phypan raises, and exceptions of the kind `but`, are handed on as they are.
    """
    try:
        yield
    except (PhypanError, but):
        raise
    except Exception as error:
        import traceback  # slow to import, and seldom needed

        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"it raised {type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
        hint = "`phypan plugins` says whose it is: tell them"
        raise PluginError(what, where=name, hint=hint) from error
