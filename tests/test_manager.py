"""Plugins: the built-in ones, and strangers' of every kind of fault, which stop nothing."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from phypan import manager
from phypan.errors import InputError, Unsupported
from phypan.hooks import Input
from phypan.manager import Registry
from phypan.stores import BytesStore
from tests import strangers
from tests.strangers import Point, analysis, module, renderer, source, writer


@pytest.fixture
def registry(monkeypatch):
    """A registry with strangers' plugins: modules or functions that load them, by name."""

    def make(*points: Point, **plugins: object) -> Registry:
        more = [
            Point(name, plugin if callable(plugin) else (lambda plugin=plugin: plugin))
            for name, plugin in plugins.items()
        ]
        strangers.install(monkeypatch, [*points, *more])
        return Registry()

    return make


def failures(found: Registry) -> dict[str, str]:
    return {plugin.name: plugin.failure for plugin in found.plugins if plugin.failure}


BUILT_IN = {
    "phypan.plugins.sources.ram", "phypan.plugins.sources.directory", "phypan.plugins.sources.elf",
    "phypan.plugins.writers.elf", "phypan.plugins.analyses.info",
    "phypan.plugins.renderers.table", "phypan.plugins.renderers.json",
}  # fmt: skip


def test_everything_built_in_comes_through_the_hooks(registry) -> None:
    found = registry()
    assert {plugin.name for plugin in found.plugins} >= BUILT_IN
    assert all(plugin.origin == "built in" and plugin.offers for plugin in found.plugins)
    assert failures(found) == {}
    assert {"ram", "directory", "elf"} <= set(found.sources)
    assert "elf" in found.writers
    assert "info" in found.analyses
    assert {"table", "json"} <= set(found.renderers)


def test_a_kind_is_loaded_when_it_is_first_asked_for(registry, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith("phypan.plugins.")]:
        monkeypatch.delitem(sys.modules, name)
    found = registry()
    assert found.renderers
    loaded = {name for name in sys.modules if name.startswith("phypan.plugins.sources.")}
    assert loaded == set()


def test_a_stranger_may_offer_anything(registry) -> None:
    found = registry(
        good=module(
            sources=[source("mine")], writers=[writer("mine")], analyses=[analysis("mine")],
            renderers=[renderer("mine"), renderer("more")],
        ),
    )  # fmt: skip
    assert {"mine"} <= set(found.sources) & set(found.writers) & set(found.analyses)
    assert {"mine", "more"} <= set(found.renderers)
    (plugin,) = [plugin for plugin in found.plugins if plugin.name == "good"]
    assert plugin.origin == "strange 1.0"
    assert plugin.offers == (
        "source mine", "writer mine", "analysis mine", "renderer mine", "renderer more",
    )  # fmt: skip


def test_strangers_can_be_left_out(monkeypatch) -> None:
    strangers.install(monkeypatch, [Point("good", lambda: module(writers=[writer("mine")]))])
    assert "mine" not in Registry(third_party=False).writers


def raises(error: BaseException):
    def load():
        raise error

    return load


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (raises(ModuleNotFoundError("No module named 'missing'")), "No module named 'missing'"),
        (raises(RuntimeError("at import")), "RuntimeError: at import"),
        (raises(SystemExit(3)), "SystemExit: 3"),
        (raises(RecursionError()), "RecursionError"),
        (raises(Exception("\x1b[2Jclear")), "\\x1b[2Jclear"),
        (module(writers=lambda: 1 // 0), "ZeroDivisionError"),
        (module(writers=lambda: None), "TypeError"),
        (module(writers=lambda: sys.exit(1)), "SystemExit"),
        (module(writers=[source("x")]), "phypan_writers returned Source, not Writer"),
        (module(sources=["elf"]), "phypan_sources returned str, not Source"),
        (module(unknown=[]), "unknown hook"),
        (module(writers=[writer("elf")]), "the name 'elf' is taken among the writers"),
        (module(analyses=[analysis("convert")]), "the name 'convert' is taken"),
        (module(writers=[writer("a"), writer("a")]), "the name 'a' is taken"),
        (module(writers=[writer("two words")]), "not one word"),
        (module(writers=[writer("--help")]), "not one word"),
        (module(writers=[writer("")]), "not one word"),
        (module(renderers=[renderer(7)]), "not one word"),
        (object(), None),
    ],
)
def test_a_faulty_one_is_left_out_and_listed(registry, plugin, said) -> None:
    found = registry(bad=plugin, good=module(writers=[writer("good")]))
    built_in = Registry(third_party=False)
    assert set(found.writers) == {*built_in.writers, "good"}
    assert set(found.sources) == set(built_in.sources)
    assert set(found.renderers) == set(built_in.renderers)
    if said is None:
        assert failures(found) == {}, "it offers nothing, which is no fault"
    else:
        assert said in failures(found)["bad"]


def test_all_or_nothing_of_what_one_offers_is_taken(registry) -> None:
    found = registry(bad=module(writers=[writer("fine")], renderers=[renderer("table")]))
    assert "fine" not in found.writers
    assert found.renderers["table"].help == "a table for people"


def test_two_of_one_name_from_different_packages_are_both_there(registry) -> None:
    found = registry(
        Point("same", lambda: module(writers=[writer("one")]), "first 1.0"),
        Point("same", lambda: module(writers=[writer("two")]), "second 2.0"),
    )
    assert {"one", "two"} <= set(found.writers)
    assert failures(found) == {}


def test_one_module_under_two_names_is_taken_once(registry) -> None:
    shared = module(writers=[writer("one")])
    found = registry(a=shared, b=shared)
    assert "one" in found.writers
    assert list(failures(found)) == ["b"]


def loops():
    while True:
        time.sleep(0.001)


def loops_and_catches_everything():
    while True:
        try:
            time.sleep(0.001)
        except Exception:  # noqa: BLE001 - the fault that is tested
            continue


@pytest.mark.parametrize("plugin", [loops, loops_and_catches_everything, module(writers=loops)])
def test_one_that_never_comes_back_is_interrupted(registry, monkeypatch, plugin) -> None:
    monkeypatch.setattr(manager, "PATIENCE", 0.05)
    found = registry(bad=plugin, good=module(writers=[writer("good")]))
    assert "good" in found.writers
    assert "did not register within 0.05 seconds" in failures(found)["bad"]


def test_an_interrupt_of_the_user_is_not_swallowed(registry) -> None:
    with pytest.raises(KeyboardInterrupt):
        registry(bad=raises(KeyboardInterrupt())).writers  # noqa: B018


def test_the_alarm_of_the_program_that_imports_phypan_still_rings(registry) -> None:
    rang = threading.Event()
    before = signal.signal(signal.SIGALRM, lambda number, frame: rang.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        assert registry(good=module(writers=[writer("good")])).writers
        assert not rang.is_set()
        deadline = time.monotonic() + 5
        while not rang.is_set() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert rang.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_other_threads_can_load_plugins_too(registry) -> None:
    found = registry(good=module(writers=[writer("good")]))
    names: list[str] = []
    thread = threading.Thread(target=lambda: names.extend(found.writers))
    thread.start()
    thread.join()
    assert "good" in names


GIVEN = Input("what", BytesStore(b"x"), b"x")


def test_the_surest_source_opens_it() -> None:
    shelf = {
        "a": source("a", lambda given: 50),
        "b": source("b", lambda given: 90),
        "c": source("c", lambda given: 0),
    }
    assert manager.surest(shelf, GIVEN).name == "b"


def test_two_that_are_equally_sure_are_an_error_that_names_both() -> None:
    shelf = {"a": source("a", lambda given: 90), "b": source("b", lambda given: 90)}
    with pytest.raises(InputError, match="a and b both claim it") as caught:
        manager.surest(shelf, GIVEN)
    assert "--source" in caught.value.hint


@pytest.mark.parametrize("probe", [raises(ValueError()), lambda given: None, lambda given: "90"])
def test_a_probe_that_fails_is_not_sure(probe) -> None:
    shelf = {"bad": source("bad", probe), "good": source("good", lambda given: 1)}
    assert manager.surest(shelf, GIVEN).name == "good"


@pytest.mark.parametrize("sure", [0, -5])
def test_nobody_is_sure(sure) -> None:
    for shelf in ({}, {"a": source("a", lambda given: sure)}):
        with pytest.raises(InputError, match="nothing that phypan knows"):
            manager.surest(shelf, GIVEN)


def test_a_name_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(Unsupported, match="no format 'x'") as caught:
        manager.named({"b": 1, "a": 2}, "x", "format")
    assert caught.value.hint == "there are: a, b"
