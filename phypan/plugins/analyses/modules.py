"""Kernel modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan import Address, Analysis, Bytes, Dump, Problem, hookimpl

if TYPE_CHECKING:
    import drgn

_STATES = {0: "live", 1: "coming", 2: "going", 3: "unformed"}  # enum module_state


@dataclass(frozen=True)
class ModuleRow:
    """One module, the last loaded first, as in /proc/modules."""

    module: Address  # of its struct module, effective
    name: str
    base: Address  # of its code, effective
    size: Bytes  # as /proc/modules has it
    used: int  # references; -1 where modules cannot be unloaded
    users: tuple[str, ...]  # modules that depend on it
    state: str
    taints: str  # letters: O out of tree, E unsigned, P proprietary, ...
    version: str | None
    build_id: str | None


def modules(dump: Dump) -> Iterator[ModuleRow]:
    """List the loaded modules: where they are, who uses them, how they taint the kernel."""
    from phypan.linux import modules as kernel_modules
    from phypan.linux import walk

    for module in kernel_modules.each(dump):
        try:
            yield _row(dump, module)
        except walk.faults() as error:
            where = f"module at {int(module):#x}"
            dump.problems.append(Problem(walk.reason(error), where, "it is not listed"))


def _row(dump: Dump, module: drgn.Object) -> ModuleRow:
    from drgn.helpers.linux.module import module_taints

    from phypan.linux import walk

    base, size = _core(module)
    references = int(module.refcnt.counter) - 1 if hasattr(module, "refcnt") else -1
    version = module.version.read_()
    state = int(module.state)
    return ModuleRow(
        module=int(module),
        name=walk.text(module.name),
        base=base,
        size=size,
        used=references,
        users=tuple(_users(dump, module)),
        state=_STATES.get(state, str(state)),
        taints=module_taints(module).replace(" ", ""),
        version=walk.text(version) if version else None,
        build_id=_build_id(module),
    )


def _core(module: drgn.Object) -> tuple[int, int]:
    """(effective address of the code, bytes of all that stays loaded)."""
    if hasattr(module, "mem"):  # since 6.4
        parts = [(int(part.base), int(part.size)) for part in module.mem]
        init = int(module.prog_["MOD_INIT_TEXT"])
        return parts[0][0], sum(size for _, size in parts[:init])
    if hasattr(module, "core_layout"):  # since 4.5
        return int(module.core_layout.base), int(module.core_layout.size)
    return int(module.module_core), int(module.core_size)


def _users(dump: Dump, module: drgn.Object) -> Iterator[str]:
    from drgn.helpers.linux.list import list_for_each_entry

    from phypan.linux import walk

    if not hasattr(module, "source_list"):
        return
    head = module.source_list.address_of_()
    uses = list_for_each_entry("struct module_use", head, "source_list")
    for use in walk.walk(dump.problems, uses, f"users of the module at {int(module):#x}"):
        yield walk.text(use.source.name)


def _build_id(module: drgn.Object) -> str | None:
    if not hasattr(module, "build_id"):
        return None
    identifier = bytes(module.build_id.value_())
    return identifier.hex() if any(identifier) else None


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The modules."""
    return [Analysis(modules, ModuleRow, needs=frozenset({"types"}))]
