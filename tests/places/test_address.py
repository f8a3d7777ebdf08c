"""Which places are on this machine, what the others' addresses say, and what of it is shown."""

from __future__ import annotations

import pytest

from phypan.errors import OutputError
from phypan.places.address import local_path, parsed, scheme_of, shown
from phypan.places.opening import is_here, is_sftp, resumable


@pytest.mark.parametrize(
    ("target", "scheme"),
    [
        ("vmcore", None),
        ("/var/crash/vmcore", None),
        ("s3:/is/a/path", None),
        ("C:\\vmcore", None),
        ("file:///var/crash/vmcore", None),
        ("s3://bucket/key", "s3"),
        ("SSH://host/path", "ssh"),
        ("git+ssh://host/path", "git+ssh"),
    ],
)
def test_a_url_is_elsewhere_and_all_else_is_here(target, scheme) -> None:
    assert scheme_of(target) == scheme
    assert is_here(target) == (scheme is None)


def test_standard_output_is_neither() -> None:
    assert not is_here("-")
    assert not is_sftp("-")
    assert not resumable("-")
    assert resumable("vmcore")
    assert not resumable("https://host/path")


def test_a_path_may_be_given_as_a_url() -> None:
    assert local_path("file:///var/crash/vmcore") == "/var/crash/vmcore"
    assert local_path("var/crash") == "var/crash"


def test_the_parts_of_an_address() -> None:
    found = parsed("sftp://tom:p%40ss@host:2222/~/dumps/vmcore")
    assert (found.scheme, found.user, found.password) == ("sftp", "tom", "p@ss")
    assert (found.host, found.port, found.path) == ("host", 2222, "/~/dumps/vmcore")
    assert found.name == "sftp://tom@host:2222/~/dumps/vmcore"
    assert parsed("https://[::1]:8443/x?token=1").path == "/x?token=1"
    assert parsed("https://[::1]:8443/x").host == "::1"


@pytest.mark.parametrize("target", ["ssh://", "ssh://host", "s3://bucket/", "ssh://host:no/path"])
def test_what_names_no_place_is_refused(target) -> None:
    with pytest.raises(OutputError, match="is no address"):
        parsed(target)


@pytest.mark.parametrize("user", ["tom:secret@", ":secret@", "tom:a:secret@"])
def test_a_password_is_not_shown(user) -> None:
    assert "secret" not in shown(f"https://{user}host/path")
    assert "secret" not in parsed(f"https://{user}host/path").name
