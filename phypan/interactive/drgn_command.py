"""drgn's own command line on whatever phypan opens."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from phypan.interactive import drgn_plugin
from phypan.linux.program import need_drgn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from phypan.dump import Dump

_PLUGIN = f"phypan={drgn_plugin.__name__}"
_OF_THEIR_OWN = {"--main-symbols", "--no-default-symbols", "-h", "--help", "--version"}


def run(dump: Dump, arguments: Sequence[str]) -> None:
    """Run drgn with its `arguments` on `dump`, as `python -m drgn -c` would.

    drgn takes a path, of a core file without memory that is made for it: memory, symbols and types
    come through phypan's plugin. It looks for no debuginfo that is not asked for.
    Raises SystemExit as drgn does, and Unsupported where there is no drgn.
    """
    need_drgn()
    descriptor = dump.kernel.open_core()
    default = [] if _OF_THEIR_OWN.intersection(arguments) else ["--no-default-symbols"]
    drgn_plugin.waiting.append(dump)
    try:
        with _plugin():
            sys.argv = ["drgn", "-c", f"/proc/self/fd/{descriptor}", *default, *arguments]
            runpy.run_module("drgn", run_name="__main__", alter_sys=True)
    finally:
        drgn_plugin.waiting.clear()
        os.close(descriptor)


@contextmanager
def _plugin() -> Iterator[None]:
    """Have drgn load phypan's plugin, whether or not phypan is installed with its entry points."""
    before = os.environ.get("DRGN_PLUGINS")
    os.environ["DRGN_PLUGINS"] = ",".join(filter(None, [before, _PLUGIN]))
    try:
        yield
    finally:
        del os.environ["DRGN_PLUGINS"]
        if before is not None:
            os.environ["DRGN_PLUGINS"] = before
