"""Registry: the plugins that are there, what they offer, and why some of them are not.

A stranger's plugin that fails must not stop the rescue of a dump: it is left out, and listed.
"""

from __future__ import annotations

import importlib
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import FrameType
from typing import Any

import pluggy

from phypan import hooks
from phypan.errors import InputError, PluginError, Unsupported, printable
from phypan.hooks import Analysis, Renderer, Secret, Source, Writer

GROUP = "phypan"
_BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "sources": ("ram", "directory", "elf", "kdump", "flattened", "sealed", "live"),
    "writers": ("elf", "kdump"),
    "analyses": (
        *("info", "sys", "triage", "dmesg", "ps", "bt", "modules", "cpus"),
        *("memory", "slab", "mounts", "files", "runqueue", "irq", "timers", "net", "sockets"),
        "locks",
        "diff",
        *("vtop", "ptov", "maps", "hpt", "hptesave", "pages", "explain"),
        *("read", "symbol", "struct", "strings", "search"),
    ),
    "renderers": ("table", "json", "jsonl", "csv", "markdown", "html"),
    "secrets": ("tokens",),
}
_KINDS: Mapping[str, type] = {
    "sources": Source,
    "writers": Writer,
    "analyses": Analysis,
    "renderers": Renderer,
    "secrets": Secret,
}
PATIENCE = 10  # seconds that a stranger's plugin may take to be imported and to register
# Commands that are no analyses: a stranger's of such a name could never be called.
RESERVED = frozenset(
    {
        "capture",
        "convert",
        "demo",
        "doctor",
        "drgn",
        "estimate",
        "join",
        "keygen",
        "plugins",
        "redact",
        "repair",
        "save",
        "shell",
        "simulate",
        "status",
        "verify",
    }
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class PluginInfo:
    """One plugin: its module, where it is from, what it offers, and why it is left out."""

    name: str
    origin: str  # "built in", or the distribution and its version
    offers: tuple[str, ...] = ()  # "source elf", "analysis info", ...
    failure: str | None = None


class Registry:
    """All that plugins offer, by name.

    Built-in plugins of a kind are imported when that kind is first asked for: `phypan --help`
    needs no source. Strangers' come after them, so that a name which is taken stays what it was.
    """

    def __init__(self, *, third_party: bool = True) -> None:
        self._manager = pluggy.PluginManager("phypan")
        self._manager.add_hookspecs(hooks)
        self._shelves: dict[str, dict[str, Any]] = {}
        self._strangers = entry_points(group=GROUP) if third_party else ()
        self._plugins: list[PluginInfo] = []

    @property
    def sources(self) -> Mapping[str, Source]:
        """Ways to open a dump."""
        return self._shelf("sources")

    @property
    def writers(self) -> Mapping[str, Writer]:
        """Ways to write a dump."""
        return self._shelf("writers")

    @property
    def analyses(self) -> Mapping[str, Analysis]:
        """Questions to a dump."""
        return self._shelf("analyses")

    @property
    def renderers(self) -> Mapping[str, Renderer]:
        """Ways to show rows."""
        return self._shelf("renderers")

    @property
    def secrets(self) -> Mapping[str, Secret]:
        """What is taken out of a dump before it is given away."""
        return self._shelf("secrets")

    @property
    def plugins(self) -> Sequence[PluginInfo]:
        """All plugins, those that were left out too."""
        for kind in _KINDS:
            self._shelf(kind)
        return self._plugins

    def _shelf(self, kind: str) -> dict[str, Any]:
        if kind not in self._shelves:
            self._load(kind)
            strangers, self._strangers = self._strangers, ()
            for point in strangers:
                self._add_stranger(point)
        return self._shelves[kind]

    def _load(self, kind: str) -> None:
        """The built-in plugins of a kind."""
        self._shelves[kind] = {}
        for name in _BUILT_IN[kind]:
            module = importlib.import_module(f"phypan.plugins.{kind}.{name}")
            self._add(module, module.__name__, "built in")

    def _add_stranger(self, point: EntryPoint) -> None:
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
        try:
            with _patience(PATIENCE):
                self._add(point.load(), point.name, origin)
        except (Exception, SystemExit, _TooLong) as error:  # noqa: BLE001 - it is reported
            reason = printable(f"{type(error).__name__.lstrip('_')}: {error}")
            self._plugins.append(PluginInfo(point.name, origin, failure=reason))

    def _add(self, module: Any, name: str, origin: str) -> None:
        """Register `module` and take what it offers, all of it or nothing."""
        self._manager.register(module, f"{name} of {origin}")  # two may have one name
        try:
            self._manager.check_pending()
            offered = self._offered(module, name)
        except BaseException:
            self._manager.unregister(module)
            raise
        for (kind, _), item in offered.items():
            self._shelves[kind][item.name] = item
        offers = tuple(f"{_KINDS[kind].__name__.lower()} {item}" for kind, item in offered)
        self._plugins.append(PluginInfo(name, origin, offers))

    def _offered(self, module: Any, name: str) -> dict[tuple[str, str], Any]:
        """What `module` offers by kind and name, if nothing of it has a name that it cannot."""
        offered: dict[tuple[str, str], Any] = {}
        for kind in _KINDS:
            for implementation in getattr(self._manager.hook, f"phypan_{kind}").get_hookimpls():
                if implementation.plugin is not module:
                    continue
                for item in _checked(implementation, kind):
                    if kind not in self._shelves:
                        self._load(kind)
                    taken = item.name in self._shelves[kind] or (kind, item.name) in offered
                    if taken or (kind == "analyses" and item.name in RESERVED):
                        what = f"the name {item.name!r} is taken among the {kind}"
                        raise PluginError(what, where=name)
                    offered[kind, item.name] = item
        return offered


def _checked(implementation: pluggy.HookImpl, kind: str) -> list[Any]:
    items: list[Any] = list(implementation.function())  # type: ignore[call-overload]
    expected: Any = _KINDS[kind]
    for item in items:
        if not isinstance(item, expected):
            what = f"phypan_{kind} returned {type(item).__name__}, not {_KINDS[kind].__name__}"
            raise PluginError(what, where=implementation.plugin_name)
        if not isinstance(item.name, str) or not _NAME.fullmatch(item.name):
            what = f"phypan_{kind} returned the name {item.name!r}, which is not one word"
            raise PluginError(what, where=implementation.plugin_name)
    return items


class _TooLong(BaseException):
    """Not an Exception, which a loop may catch and go on."""


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer, where that is possible: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def too_long(number: int, frame: FrameType | None) -> None:
        raise _TooLong(f"it did not register within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, too_long)
    began = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # a timer of the program that imported phypan
            left = max(left - (time.monotonic() - began), 1e-6)
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def named(shelf: Mapping[str, Any], name: str, kind: str) -> Any:
    """The one of this name; Unsupported, naming those that there are, if there is none."""
    try:
        return shelf[name]
    except KeyError:
        raise Unsupported(
            f"no {kind} {name!r}", hint=f"there are: {', '.join(sorted(shelf))}"
        ) from None


def surest(sources: Mapping[str, Source], given: hooks.Input) -> Source:
    """The source that is surest of `given`; InputError when none is, or two equally."""
    sure = {name: _certainty(source, given) for name, source in sources.items()}
    best = max(sure.values(), default=0)
    winners = [name for name, certainty in sure.items() if certainty == best]
    if best <= 0:
        raise InputError(
            "nothing that phypan knows",
            where=str(given.path),
            hint="a RAM image needs --regions; `phypan plugins` lists what can be opened",
        )
    if len(winners) > 1:
        raise InputError(
            f"{' and '.join(winners)} both claim it",
            where=str(given.path),
            hint="choose one with --source",
        )
    return sources[winners[0]]


def _certainty(source: Source, given: hooks.Input) -> int:
    try:
        sure = source.probe(given)
    except Exception:  # noqa: BLE001 - the contract of probe
        return 0
    return sure if isinstance(sure, int) else 0
