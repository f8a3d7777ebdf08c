"""Errors say what, where and what next, and survive the way between processes."""

from __future__ import annotations

import errno
import inspect
import os
import pickle

import pytest

from phypan import errors
from phypan.errors import (
    GuestError,
    InputError,
    NotInDump,
    OutputError,
    PhypanError,
    Problem,
    TranslationFault,
    os_errors,
)

OF_ADDRESSES = (NotInDump, TranslationFault)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, PhypanError) and kind not in OF_ADDRESSES
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickling(kind) -> None:
    error = kind("no", where="somewhere", hint="try again")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "somewhere: no"
    assert (again.what, again.where, again.hint) == ("no", "somewhere", "try again")
    assert again.exit_code == error.exit_code


def test_a_hole_survives_pickling_with_its_address() -> None:
    again = pickle.loads(pickle.dumps(NotInDump(0x1000, "damaged", "cut off", hint="h")))
    assert (again.address, again.state, again.hint) == (0x1000, "damaged", "h")
    assert str(again) == "physical address 0x1000: damaged: cut off"
    assert isinstance(again, LookupError)


def test_a_fault_survives_pickling_with_its_address() -> None:
    again = pickle.loads(pickle.dumps(TranslationFault(0xD000, "not mapped", hint="h")))
    assert (again.address, again.fault, again.hint) == (0xD000, "not mapped", "h")
    assert str(again) == "effective address 0xd000: not mapped"
    assert isinstance(again, LookupError)


def test_only_what_is_unsupported_has_exit_code_2() -> None:
    assert {kind.__name__ for kind in [*KINDS, *OF_ADDRESSES] if kind.exit_code == 2} == {
        "Unsupported"
    }
    assert all(kind.exit_code == 1 for kind in KINDS if kind is not errors.Unsupported)


@pytest.mark.parametrize(
    ("kind", "number", "hint"),
    [
        (InputError, errno.ENOENT, "path"),
        (InputError, errno.EACCES, "root"),
        (OutputError, errno.ENOSPC, "space"),
        (OutputError, errno.EDQUOT, "space"),
        (OutputError, errno.EFBIG, "ulimit"),
        (OutputError, errno.EACCES, "write"),
    ],
)
def test_a_systems_error_becomes_ours_with_its_remedy(kind, number, hint) -> None:
    with pytest.raises(kind) as caught, os_errors(kind, "/some/file"):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == f"/some/file: {os.strerror(number)}"
    assert hint in caught.value.hint


def test_who_cannot_write_is_not_told_to_become_the_owner_of_a_dump() -> None:
    with pytest.raises(OutputError) as caught, os_errors(OutputError, "t"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert "owner" not in caught.value.hint


def test_a_path_that_is_none_at_all() -> None:
    with pytest.raises(InputError, match="null byte"), os_errors(InputError, "a\0b"):
        os.open("a\0b", os.O_RDONLY)


def test_our_own_errors_go_through_unchanged() -> None:
    error = errors.BadRecord("bad", where="record")
    with pytest.raises(errors.BadRecord) as caught, os_errors(InputError, "file"):
        raise error
    assert caught.value is error


def test_a_problem_is_one_line() -> None:
    assert str(Problem("what", "where", "meaning")) == "where: what; meaning"


def test_what_a_dump_says_cannot_move_the_cursor() -> None:
    problem = Problem("\x1b[2Jwhat", "a\nb", "\u202emeaning")
    assert str(problem) == "a\\nb: \\x1b[2Jwhat; \\u202emeaning"
    error = InputError("no", where="dir/\x9b31m\udc80")
    assert str(error) == "dir/\\x9b31m\\udc80: no"
    assert error.where == "dir/\x9b31m\udc80", "as it was given"


def test_what_a_guests_console_said_last_keeps_its_lines_and_nothing_else() -> None:
    error = GuestError("the guest hangs\n    waiting\x1b[2J\r", where="QEMU")
    assert str(error) == "QEMU: the guest hangs\n    waiting\\x1b[2J\\r"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
