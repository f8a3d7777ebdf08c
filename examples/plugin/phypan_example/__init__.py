"""A stranger's plugin: something of each kind, in one module.

It uses what `import phypan` gives and nothing else, as every plugin can.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TextIO

from phypan import (
    Address,
    Analysis,
    BytesStore,
    Dump,
    Input,
    Output,
    Progress,
    Renderer,
    Rows,
    Source,
    Writer,
    hookimpl,
)

# -- a source: any dump that somebody has put through gzip ----------------------------------------


def probe(given: Input) -> int:
    """How sure: gzip's magic number, and deflate as its only method."""
    return 80 if given.head.startswith(b"\x1f\x8b\x08") else 0


def unpack(given: Input) -> Input:
    """What is inside, to be probed anew. All of it is held in memory: for small dumps."""
    assert given.store is not None
    data = gzip.decompress(given.store.view(0, given.store.size))
    return replace(given, store=BytesStore(data, f"inside {given.path}"), head=data[:4096])


# -- an analysis: where was every CPU when the partition died? ------------------------------------

MSR_PR = 1 << 14  # problem state: user mode


@dataclass(frozen=True)
class WhereRow:
    """One CPU."""

    cpu: int
    nip: Address  # effective
    user: bool


def where(dump: Dump, *, kernel_only: bool = False) -> Iterator[WhereRow]:
    """Where every CPU was when the partition died.

    kernel_only  leave out those that ran a process
    """
    for cpu in dump.cpus:
        regs = cpu.regs()
        user = bool(regs["msr"] & MSR_PR)
        if not (user and kernel_only):
            yield WhereRow(cpu.number, regs["nip"], user)


# -- an analysis over the kernel's own structures: when was every process started? -----------------


@dataclass(frozen=True)
class BornRow:
    """One process."""

    pid: int
    parent: int
    comm: str
    born: float  # seconds after boot


def born(dump: Dump, *, threads: bool = False) -> Iterator[BornRow]:
    """When every process was started, the oldest first.

    threads  those of the kernel too
    """
    from drgn.helpers.linux import for_each_task  # slow to import: only when it is needed

    rows = []
    for task in for_each_task(dump.program):
        if task.pid == task.tgid and (threads or task.mm):
            pid, parent = task.pid.value_(), task.real_parent.pid.value_()
            comm = task.comm.string_().decode(errors="backslashreplace")
            rows.append(BornRow(pid, parent, comm, task.start_time.value_() / 1e9))
    yield from sorted(rows, key=lambda row: (row.born, row.pid))


# -- a writer: the layout of memory as text -------------------------------------------------------


def write_map(dump: Dump, output: Output, progress: Progress, *, sizes: bool = False) -> None:
    """Write a line for each stretch of memory that is there.

    sizes  with the number of bytes
    """
    offset = 0
    for extent in dump.memory.extents:
        size = f" {extent.size:#x}" if sizes else ""
        line = f"{extent.start:#018x}-{extent.end - 1:#018x}{size}\n".encode()
        output.write_at(offset, line)
        offset += len(line)
        progress(extent.end, dump.memory.end)
    output.truncate(offset)


# -- a renderer: one row a line, name=value -------------------------------------------------------


def render(rows: Rows, dump: Dump, file: TextIO) -> None:
    """NAME=VALUE, for grep; what the dump holds is escaped by repr."""
    for row in rows:
        fields = (f"{column.name}={getattr(row, column.name)!r}" for column in rows.columns)
        file.write(" ".join(fields) + "\n")


@hookimpl
def phypan_sources() -> list[Source]:
    return [Source("gzip", "a dump that was put through gzip", probe, unpack)]


@hookimpl
def phypan_analyses() -> list[Analysis]:
    return [
        Analysis(where, WhereRow, needs=frozenset({"cpus"})),
        Analysis(born, BornRow, needs=frozenset({"types"})),
    ]


@hookimpl
def phypan_writers() -> list[Writer]:
    return [Writer("map", "the layout of memory, as text", write_map)]


@hookimpl
def phypan_renderers() -> list[Renderer]:
    return [Renderer("lines", "name=value, a row a line", render)]
