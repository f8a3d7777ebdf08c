"""OPAL core: on bare metal the firmware has a core file of its own memory, kept beside the dump.

Linux shows it as sys/firmware/opal/mpipl/core, big-endian whatever the kernel is, and drops it when
release_core is written (arch/powerpc/platforms/powernv/opal-core.c).
"""

from __future__ import annotations

from pathlib import Path

from phypan.errors import OutputError, PhypanError, Problem
from phypan.live.store import LiveStore
from phypan.live.system import LiveSystem
from phypan.places import opening
from phypan.rescue.journal import Record
from phypan.sinks import FileOutput
from phypan.stores import FileStore

SUFFIX = ".opalcore"
_CHUNK = 1 << 20
_KEPT = "it is not given back, and stays until the next boot"


def save(system: LiveSystem, told: Record) -> tuple[Path | None, list[Problem]]:
    """(where the firmware's core is saved, why it is not): neither where there is none.

    told  the first record of the journal. The dump itself is safe already: nothing is raised
    """
    source, target = system.opal_core, told["target"]
    if source is None:
        return None, []
    if not opening.is_here(target) or told.get("seal_for"):
        what = "the firmware's core is saved only beside a dump in a file here, unsealed"
        return None, [Problem(what, str(source), _KEPT)]
    path = Path(target).with_name(Path(target).name + SUFFIX)
    try:
        with LiveStore(source) as store:
            if path.exists() and _same(store, path):  # an earlier run came so far
                return path, []
            with FileOutput(path, force=told["force"]) as output:
                output.copy(store, 0, store.size, 0)
                output.truncate(store.size)
            if not _same(store, path):
                raise OutputError("what was written is not what is there now", where=str(path))
    except PhypanError as error:
        return None, [Problem(f"the firmware's core: {error}", str(source), _KEPT)]
    return path, []


def _same(store: LiveStore, path: Path) -> bool:
    with FileStore(path) as other:
        return store.size == other.size and all(
            store.view(at, size) == other.view(at, size)
            for at in range(0, store.size, _CHUNK)
            for size in (min(_CHUNK, store.size - at),)
        )
