"""Places that answer no more, and places whose certificate is worth nothing: nothing is given back.

A dead link: the other side has accepted the connection, and from some byte on it neither reads nor
answers. Times of waiting are short here; nobody wants to see the real ones.
"""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta

import asyncssh
import pytest

from tests.places.servers import Authority, environment, proxy, put_server
from tests.rescue import rig as rescue_rig
from tests.rescue import test_places as places
from tests.rescue.test_places import KEY, assert_released, each, small_parts, so_far, watch

# fixtures
put, ssh, s3, s3_of_module = places.put, places.ssh, places.s3, places.s3_of_module
local, stream = places.local, places.stream

QUICK = {"retries": 1, "retry_wait": 0.01, "window": 1 << 20}
ALL = 1 << 30  # bytes: a connection that is never cut


def impatient() -> None:
    """Wait seconds where it would be minutes; but as long as a busy machine may take to answer."""
    from phypan.places import put as by_put
    from phypan.places import s3 as by_s3
    from phypan.places import ssh as by_ssh

    by_put._PATIENCE = by_s3._SILENT = 4
    by_s3._SLOWEST = 1 << 30
    by_ssh._ALIVE = 2
    connect = asyncssh.connect

    def connect_soon(*args, **more):
        return connect(*args, **{**more, "login_timeout": 8})

    asyncssh.connect = connect_soon


def test_dead_as_it_is_seen_by_a_socket(put) -> None:
    """The link of these tests is dead indeed: accepted, and then nothing."""
    with (
        proxy(put.port, [5], dead=True) as between,
        socket.create_connection(("127.0.0.1", between.port), timeout=0.5) as link,
    ):
        link.sendall(b"HEAD / HTTP/1.1\r\n\r\n")
        with pytest.raises(TimeoutError):
            link.recv(1)


@pytest.mark.parametrize("cut", [0, 200_000])
def test_a_put_on_a_dead_link(world, put, stream, monkeypatch, cut) -> None:
    watch(monkeypatch, lambda: put.kept.get("/dumps/vmcore"))
    with proxy(put.port, [ALL, cut, cut], dead=True) as between:
        target = put.address(port=between.port)
        failed(world, world.capture(target=target, patch=impatient, **QUICK))
        assert between.connections == 3, "one to look, two to try"
        assert put.kept == {}
        assert world.capture(target=target, resume=True).error is None
    assert put.kept["/dumps/vmcore"] == stream
    assert_released(world)


@pytest.mark.parametrize("cut", [0, 3000, 700_000])
def test_ssh_on_a_dead_link(world, ssh, local, cut) -> None:
    with proxy(ssh.port, [ALL, cut, cut], dead=True) as between:
        ssh.trust(between.port)
        target = ssh.address(world.target, between.port)
        failed(world, world.capture(target=target, patch=each(ssh.patch, impatient), **QUICK))
        assert between.connections == 3
        assert world.capture(target=target, resume=True, patch=ssh.patch).error is None
    assert rescue_rig.content(world.target) == local
    assert_released(world)


@pytest.mark.parametrize("cut", [0, 200_000])
def test_s3_on_a_dead_link(world, s3, stream, monkeypatch, cut) -> None:
    watch(monkeypatch, lambda: so_far(s3))
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1000)
    with proxy(s3.port, [ALL, ALL, *([cut] * 40)], dead=True) as between:
        install = each(s3.patch(between.port), small_parts, impatient)
        failed(world, world.capture(target=KEY, patch=install, **QUICK))
        assert s3.get("dumps/vmcore") is None
        between.cuts.clear()
        patch = each(s3.patch(between.port), small_parts)
        assert world.capture(target=KEY, patch=patch, resume=True).error is None
    assert s3.get("dumps/vmcore") == stream
    assert len(s3.uploads()) == 0, "it was one upload"
    assert_released(world)


def failed(world, outcome) -> None:
    """It ended in an error that it can be gone on after, and kept what was not safe."""
    assert outcome.code == 1
    assert outcome.error
    assert world.unsaved == 0
    assert world.boot.rounds == 0, "the dump still waits"
    assert list((world.folder / "state").glob("*.journal"))


# -- HTTPS -----------------------------------------------------------------------------------------


def trusting(authority: Authority):
    return environment(SSL_CERT_FILE=authority.path)


def test_to_a_server_that_speaks_https(world, stream, monkeypatch, tmp_path) -> None:
    authority = Authority(tmp_path)
    with put_server(authority.server()) as server:
        watch(monkeypatch, lambda: server.kept.get("/dumps/vmcore"))
        outcome = world.capture(target=server.address(), patch=trusting(authority))
        assert outcome.error is None, outcome.error
        assert server.kept["/dumps/vmcore"] == stream
    assert_released(world)


@pytest.mark.parametrize(
    ("certificate", "trusted", "why"),
    [
        ({}, False, "unable to get local issuer certificate"),
        ({"host": "127.0.0.2"}, True, "127.0.0.1"),
        ({"valid": timedelta(days=-1)}, True, "expired"),
    ],
)
def test_a_certificate_that_is_not_trusted_is_refused_at_once(
    world, tmp_path, certificate, trusted, why
) -> None:
    authority = Authority(tmp_path)
    begun = time.monotonic()
    with put_server(authority.server(**certificate)) as server:
        patch = trusting(authority) if trusted else environment(SSL_CERT_FILE=os.devnull)
        outcome = world.capture(target=server.address(), patch=patch, retry_wait=30)
        assert server.headers == [], "nothing was sent"
    assert "certificate is not trusted" in outcome.error
    assert why in outcome.error
    assert "SSL_CERT_FILE" in outcome.hint
    assert world.freed == 0
    assert time.monotonic() - begun < 25, "it was not tried again"


@pytest.mark.parametrize("trusted", [True, False])
def test_an_object_stores_certificate_that_is_not_trusted_is_refused_at_once(
    world, s3, tmp_path, trusted
) -> None:
    authority = Authority(tmp_path)
    begun = time.monotonic()
    with put_server(authority.server()) as server:  # nobody gets as far as to speak S3 to it
        known = {**s3.variables(), "AWS_ENDPOINT_URL": server.address("")}
        bundle = {"AWS_CA_BUNDLE": str(authority.path)} if trusted else {}
        more = {"retries": 1, "retry_wait": 0.01 if trusted else 30}
        outcome = world.capture(target=KEY, patch=environment(**known, **bundle), **more)
    distrusted = "its certificate is not trusted: unable to get local issuer" in outcome.error
    assert distrusted == (not trusted)
    assert world.freed == 0
    if not trusted:
        assert "AWS_CA_BUNDLE" in outcome.hint
        assert time.monotonic() - begun < 25, "it was not tried again"
