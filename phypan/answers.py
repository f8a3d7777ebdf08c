"""Answers: an analysis is run over a dump, and its rows are handed on one by one."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from phypan.dump import Dump
from phypan.errors import PluginError, Unsupported, plugin_errors
from phypan.hooks import Analysis
from phypan.rows import Rows

_DEBUGINFO = "-s VMLINUX gives the kernel's debuginfo, and with it "
_LACKING = {  # need -> (why it is not there, what helps)
    "types": ("the kernel carries no BTF, and no debuginfo is here", _DEBUGINFO + "types"),
    "symbols": ("no kallsyms are in the dump, and no debuginfo is here", _DEBUGINFO + "symbols"),
}


def answer(analysis: Analysis, dump: Dump, options: Mapping[str, Any]) -> Rows:
    """The rows of `analysis`, made while they are gone through.

    Raises Unsupported when the dump lacks what the analysis needs, or when it has no such options;
    PluginError, while the rows are gone through, when it fails.
    """
    for need in sorted(analysis.needs):
        if not getattr(dump, need, None):
            raise _lacking(dump, analysis.name, need)
    try:
        inspect.signature(analysis.run).bind(dump, **options)
    except TypeError as error:
        raise Unsupported(f"options of {analysis.name}: {error}") from error
    with plugin_errors(analysis.name):
        rows = analysis.run(dump, **options)
    return Rows(analysis.name, analysis.row, _only(analysis, rows), text=analysis.text)


def _lacking(dump: Dump, analysis: str, need: str) -> Unsupported:
    why, hint = _LACKING.get(
        need, ("which this dump does not have", "`phypan info` lists what is missing and why")
    )
    return Unsupported(f"{analysis} needs {need}: {why}", where=dump.source, hint=hint)


def _only(analysis: Analysis, rows: Iterable[Any]) -> Iterator[Any]:
    with plugin_errors(analysis.name):
        for row in rows:
            if not isinstance(row, analysis.row):
                what = f"it yielded {type(row).__name__}, not {analysis.row.__name__}"
                raise PluginError(what, where=analysis.name)
            yield row
