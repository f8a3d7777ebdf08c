"""A Python shell over a dump: `dump` and `prog` are at hand, with what drgn offers beside them.

IPython where it is installed, else drgn's interactive mode, else Python's own.
"""

from __future__ import annotations

import builtins
import code
import linecache
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import phypan

if TYPE_CHECKING:
    import drgn

Names = dict[str, Any]


def run(dump: phypan.Dump, command: str | None = None) -> int:
    """Run `command`, or what comes through standard input, or a session; the exit code."""
    names, lacking = _names(dump)
    if command is None and sys.stdin.isatty():
        _interact(names, banner(dump, lacking))
        return 0
    if command is not None:
        return _execute(command, "<command>", names)
    return _execute(sys.stdin.read(), "<stdin>", names)


def _names(dump: phypan.Dump) -> tuple[Names, str | None]:
    """(what the session has by name; why `prog` is not among it, if it is not)."""
    names: Names = {"__name__": "__main__", "__doc__": None}
    lacking = None
    try:
        prog = dump.program
    except phypan.PhypanError as error:
        lacking = str(error)
    else:
        from drgn import set_default_prog
        from drgn.cli import default_globals

        set_default_prog(prog)
        names |= default_globals(prog)
    return {**names, "phypan": phypan, "dump": dump}, lacking


def banner(dump: phypan.Dump, lacking: str | None = None) -> str:
    """What this is a dump of, and what is at hand.

    lacking  why there is no `prog`
    """
    lines = [dump.source, _kernel(dump), _end(dump)]
    hands = ["dump", "phypan.run(dump, 'ps')"]
    if lacking is None:
        lines.append(f"symbols: {dump.symbols.source or 'none'}; types: {dump.types or 'none'}")
        hands += ["prog, and what drgn.helpers.linux has"]
    else:
        lines.append(f"no prog: {lacking}")
    lines.append(f"at hand: {', '.join(hands)}")
    return "\n".join(phypan.printable(line) for line in lines)


def _kernel(dump: phypan.Dump) -> str:
    release = dump.vmcoreinfo.release if dump.vmcoreinfo else None
    era = dump.spaces.era
    parts = [
        f"Linux {release or 'of unknown release'}",
        f"{dump.byte_order}-endian",
        f"{dump.page_size // 1024}K pages",
        *([era.mmu] if era else []),
        f"{len(dump.cpus)} CPUs with registers",
    ]
    return ", ".join(parts)


def _end(dump: phypan.Dump) -> str:
    """How it ended, by its log."""
    from phypan.linux import log, panic

    when = "at an unknown time"
    if dump.crash_time is not None:
        when = datetime.fromtimestamp(dump.crash_time, UTC).isoformat(sep=" ")
    try:
        death = panic.read(log.records(dump))
    except phypan.PhypanError as error:
        return f"crashed {when}; {error.what}"
    return f"crashed {when}; {death.kind or 'unknown'}: {death.message or 'no message'}"


def _interact(names: Names, said: str) -> None:
    try:
        from IPython.terminal.embed import InteractiveShellEmbed
    except ImportError:
        _interact_plainly(names, said)
        return
    shell = InteractiveShellEmbed.instance(user_ns=names, banner1=said + "\n", banner2="")
    shell.confirm_exit = False
    if "prog" in names and shell.display_formatter:
        text = shell.display_formatter.formatters["text/plain"]
        for kind in _shown():
            text.for_type(kind, lambda value, printer, cycle: printer.text(str(value)))
    shell()


def _interact_plainly(names: Names, said: str) -> None:
    """drgn's interactive mode, which shows its objects well; without drgn, Python's."""
    if "prog" not in names:
        code.interact(said, local=names, exitmsg="")
        return
    from drgn.cli import run_interactive

    prog: drgn.Program = names["prog"]
    run_interactive(prog, lambda _: said, lambda theirs: {**theirs, **names})


def _shown() -> tuple[type, ...]:
    """What drgn's users see as text and not as it would be written in Python."""
    from drgn import Object, SourceLocation, StackFrame, StackTrace, Type

    return Object, SourceLocation, StackFrame, StackTrace, Type


def _execute(source: str, name: str, names: Names) -> int:
    """Run `source`; 1 if it raised, with its traceback on standard error.

    As in a Python shell, what the last expression is of is shown.
    """
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    before, sys.displayhook = sys.displayhook, _show
    try:
        for part in _parts(source, name):
            exec(part, names)
    except (SystemExit, KeyboardInterrupt):
        raise
    except phypan.PhypanError:  # it is told as those of every command are
        raise
    except BaseException as error:  # noqa: BLE001 - it is the user's own
        own = error.__traceback__.tb_next if error.__traceback__ else None
        parsed = not isinstance(error, SyntaxError) or error.filename != name
        traceback.print_exception(type(error), error, own if parsed else None)
        return 1
    finally:
        sys.displayhook = before
    return 0


def _parts(source: str, name: str) -> list[Any]:
    """The code, its last statement apart if that is an expression."""
    import ast

    tree = ast.parse(source, name)
    last = tree.body[-1:] if tree.body and isinstance(tree.body[-1], ast.Expr) else []
    first = ast.Module(tree.body[: len(tree.body) - len(last)], [])
    parts: list[Any] = [compile(first, name, "exec")]
    return [*parts, *(compile(ast.Interactive([part]), name, "single") for part in last)]


def _show(value: object) -> None:
    """An object of drgn's as drgn shows it, everything else as Python does."""
    if value is None:
        return
    text = type(value).__module__.partition(".")[0] in ("_drgn", "drgn")
    print(str(value) if text else repr(value))
    builtins._ = value  # type: ignore[attr-defined]
