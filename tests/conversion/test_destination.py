"""A conversion goes where a capture may go."""

from __future__ import annotations

import pytest

import phypan
from tests.places.servers import BUCKET, Authority, proxy, put_server, s3_server, ssh_server
from tests.platform_model.test_simulation import assert_memory_is_what_it_was


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return folder / "crashed", phypan.simulate(folder / "crashed", memory="1G")


def same(made, data: bytes, folder, **more) -> None:
    (folder / "copy").write_bytes(data)
    with phypan.open(folder / "copy", **more) as dump:
        assert assert_memory_is_what_it_was(dump, made[1].before)


def test_to_a_server_that_takes_put(made, tmp_path) -> None:
    with put_server() as server:
        phypan.convert(made[0], server.address(), format="kdump")
        same(made, server.kept["/dumps/vmcore"], tmp_path)
        with pytest.raises(phypan.OutputError, match="exists already"):
            phypan.convert(made[0], server.address())
        server.answers = [507, 507]
        with pytest.raises(phypan.OutputError, match="507 Insufficient Storage"):
            phypan.convert(made[0], server.address("/full"), retries=1, retry_wait=0)
        assert server.answers == []


def test_what_breaks_off_is_begun_anew(made, tmp_path, phypan_command) -> None:
    told: list[str] = []
    with put_server() as server, proxy(server.port, [1 << 30, 0, 100_000]) as between:
        server.answers = [503]
        target = server.address(port=between.port)
        phypan.convert(made[0], target, format="kdump", retry_wait=0.01, report=told.append)
        same(made, server.kept["/dumps/vmcore"], tmp_path)
    assert len(told) == 3
    assert told[-1].endswith("trying again in 0.04 s (3 of 8)")
    with put_server() as server:
        server.answers = [503, 503]
        done = phypan_command("convert", made[0], server.address(), "--retries", 1,
                              "--retry-wait", 0.01)  # fmt: skip
        assert done.code == 1
        assert "503" in done.err
        assert "(1 of 1)" in done.err
        done = phypan_command("convert", made[0], server.address(), "--retries", 0)
        assert done.code == 0, done.err


def test_on_a_dead_link_it_ends(made, monkeypatch) -> None:
    from phypan.places import put

    monkeypatch.setattr(put, "_PATIENCE", 0.5)
    with put_server() as server, proxy(server.port, [1 << 30, 50_000, 0], dead=True) as between:
        target = server.address(port=between.port)
        with pytest.raises(phypan.OutputError, match="timed out"):
            phypan.convert(made[0], target, retries=1, retry_wait=0)
        assert between.connections == 3
        assert server.kept == {}


def test_a_certificate_that_is_not_trusted_is_refused(made, tmp_path, monkeypatch) -> None:
    authority = Authority(tmp_path)
    with put_server(authority.server()) as server:
        with pytest.raises(phypan.OutputError, match="certificate is not trusted"):
            phypan.convert(made[0], server.address(), retry_wait=60)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        phypan.convert(made[0], server.address())
        same(made, server.kept["/dumps/vmcore"], tmp_path)


def test_to_an_ssh_server(made, tmp_path, phypan_command, monkeypatch) -> None:
    with ssh_server(tmp_path) as server:
        monkeypatch.setenv("HOME", str(server.home))
        monkeypatch.setenv("SSH_AUTH_SOCK", "")
        key = tmp_path / "key"
        words = ("convert", made[0], server.address(tmp_path / "there"), "-l")
        done = phypan_command(*words, "--seal-for", phypan.write_pair(key))
        assert done.code == 0, done.err
        same(made, (tmp_path / "there").read_bytes(), tmp_path, keys=[key])
        again = phypan_command(*words)
        assert again.code == 1
        assert "exists already" in again.err


def test_to_an_s3_server(made, tmp_path, phypan_command, monkeypatch) -> None:
    with s3_server() as server:
        for name, value in server.variables().items():
            monkeypatch.setenv(name, value)
        done = phypan_command("convert", made[0], f"s3://{BUCKET}/there")
        assert done.code == 0, done.err
        same(made, server.get("there"), tmp_path)


def test_of_what_fails_nothing_stays_in_an_s3_store(made, monkeypatch) -> None:
    """An upload that nobody goes on with would be paid for."""
    with s3_server() as server:
        for name, value in server.variables().items():
            monkeypatch.setenv(name, value)
        begun = []

        def stop(done: int, total: int) -> None:
            begun.append(len(server.uploads()))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            phypan.convert(made[0], f"s3://{BUCKET}/nothing", progress=stop)
        assert begun == [1]
        assert server.uploads() == []
        assert server.get("nothing") is None


def test_to_whatever_fsspec_knows(made, tmp_path) -> None:
    import fsspec

    phypan.convert(made[0], "memory://dumps/vmcore")
    data = fsspec.filesystem("memory").cat("/dumps/vmcore")
    same(made, data, tmp_path)
    with pytest.raises(phypan.OutputError, match="exists already"):
        phypan.convert(made[0], "memory://dumps/vmcore")
    fsspec.filesystem("memory").rm("/dumps/vmcore")


def test_a_place_that_nobody_knows_is_not_supported(made) -> None:
    with pytest.raises(phypan.Unsupported, match="nowhere"):
        phypan.convert(made[0], "nowhere://host/path")


@pytest.mark.parametrize(
    ("target", "module", "extra"),
    [("ssh://host/x", "asyncssh", "ssh"), ("s3://b/x", "s3fs", "s3")],
)
def test_what_a_place_needs_is_told(made, monkeypatch, target, module, extra) -> None:
    import sys

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(phypan.Unsupported, match=f"needs the package {module}") as caught:
        phypan.convert(made[0], target)
    assert f"phypan[{extra}]" in caught.value.hint
