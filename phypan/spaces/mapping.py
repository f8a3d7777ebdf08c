"""The spaces of a dump, by name: dump.spaces["kernel"].

    linear   the linear map alone
    kernel   all that the kernel's page tables, linear map and vmemmap translate
    hpt      the kernel's addresses by the hashed page table, where there is an image of it
    vrma     real mode addresses, by the entries that firmware saved
    physical physical addresses, which are what they are

Nothing is read before a space is first asked for. What is found wrong then is added to the dump's
problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING

from phypan.errors import PhypanError, Unsupported
from phypan.extents import EVERYWHERE
from phypan.formats import device_tree, ppc_notes
from phypan.formats.device_tree import Node
from phypan.kernels import tables
from phypan.memory import Memory
from phypan.spaces import detect, vmemmap
from phypan.spaces.audit import Finding, audit
from phypan.spaces.clues import Clues, collect
from phypan.spaces.detect import Detection
from phypan.spaces.eras import PAGE_OFFSET, Era
from phypan.spaces.facts import kernel_facts, user_facts
from phypan.spaces.hash import HashSpace, Segment
from phypan.spaces.hashtable import HashTable, page_sizes
from phypan.spaces.hpt import find_scheme
from phypan.spaces.linear import LAST, LinearSpace
from phypan.spaces.linux import TreeSpace, era_levels, protection
from phypan.spaces.resident import Resident
from phypan.spaces.reverse import Reverse, reverse
from phypan.spaces.space import MappedRange, Space
from phypan.spaces.vrma import VrmaSpace, groups
from phypan.spaces.vsid import Scheme

if TYPE_CHECKING:
    from phypan.dump import Dump


class Spaces(Mapping[str, Space]):
    """The address spaces of a dump.

    find_pgd  how a process is found: pid -> effective address of its top page table (mm->pgd).
              Whoever knows the layout of task_struct sets it; without it processes are asked for
              by pgd
    """

    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self.find_pgd: Callable[[int], int] | None = None
        self._made: dict[str, Space] = {}

    def __getitem__(self, name: str) -> Space:
        if name not in self._makers:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    @property
    def _makers(self) -> dict[str, Callable[[], Space]]:
        found: dict[str, Callable[[], Space]] = {
            "linear": self._linear, "kernel": self._kernel, "physical": self._physical,
        }  # fmt: skip
        if self._dump.hpt is not None:
            found["hpt"] = self._hpt
        if self._dump.hptesave is not None:
            found["vrma"] = lambda: self.vrma
        return found

    @property
    def memory(self) -> Memory:
        """The physical memory behind them."""
        return self._dump.memory

    # --- what the dump's page tables are ---

    @property
    def era(self) -> Era | None:
        """What the kernel's page tables look like; None where nothing fits."""
        return self._detection.era

    @property
    def evidence(self) -> tuple[str, ...]:
        """Why it is that era, for people."""
        return self._detection.evidence

    @property
    def damaged(self) -> bool:
        """Whether the kernel's page tables contradict what must be true of them."""
        return self._detection.damaged

    @cached_property
    def resident(self) -> Resident:
        """The dump's memory as kernels read it."""
        return Resident(self._dump.memory)

    @cached_property
    def _clues(self) -> Clues:
        return collect(self._dump)

    @cached_property
    def _detection(self) -> Detection:
        found = detect.detect(self._clues, self.resident)
        told = self._dump.problems  # those of a file that phypan wrote are known already
        told += [problem for problem in found.problems if problem not in told]
        return found

    @cached_property
    def device_tree(self) -> Node | None:
        """The device tree of the second boot, None where there is none that can be read."""
        blob = self._dump.raw.get(ppc_notes.NT_DEVICE_TREE)
        try:
            return device_tree.read(blob) if blob else None
        except PhypanError:
            return None

    # --- spaces ---

    def _linear(self) -> Space:
        era = self.era
        last = era.region("linear").last if era else LAST
        return LinearSpace(self._dump.memory, self._dump.page_size, last=last)

    def _physical(self) -> Space:
        memory, page_size = self._dump.memory, self._dump.page_size
        return LinearSpace(memory, page_size, 0, EVERYWHERE - 1, name="physical")

    def _kernel(self) -> Space:
        era, root = self.era, self._clues.root
        if era is None or root is None:
            raise Unsupported(
                "the kernel's page tables are of no known kind", where=self._dump.source,
                hint="`phypan info` says why; the space \"linear\" has the linear map",
            )  # fmt: skip
        facts = kernel_facts(era, root, native_big=self._native_big)
        hashed = era.mmu == "hash"
        return TreeSpace(
            "kernel", self.resident, facts, era_levels(era), partial(protection, era.entries),
            pieces=self._vmemmap(era, facts) if hashed else (),
            below=self._linear_ranges if hashed else tuple,
            problems=self._dump.problems,
        )  # fmt: skip

    def _linear_ranges(self) -> Iterator[MappedRange]:
        """The linear map of a hashed kernel; only a hashed page table knows its protection."""
        linear = self["linear"]
        if self._dump.hpt is None:
            yield from linear.mappings()
            return
        for found in self["hpt"].mappings():
            if linear.translate(found.first).fault is None:
                yield found

    def _vmemmap(self, era: Era, facts: list[int]) -> list[tuple[int, int]]:
        info = self._dump.vmcoreinfo
        if info is None:
            return []
        read = self["linear"].read
        pieces, shift, problems = vmemmap.read_list(
            read, self._dump.byte_order, info, era.page_shift
        )
        region = era.region("vmemmap")
        facts[tables.LIST_FIRST], facts[tables.LIST_LAST] = region.first, region.last
        facts[tables.LIST_SHIFT] = shift
        self._dump.problems += problems
        return pieces

    def named(self, name: str, *, pid: int | None = None, pgd: int | None = None) -> Space:
        """A space by name; with `pid` or `pgd` that of a process. Unsupported where it is none."""
        if pid is not None or pgd is not None:
            return self.process(pid, pgd=pgd)
        if name not in self._makers:
            raise Unsupported(
                f"no address space {name!r}", where=self._dump.source,
                hint=f"this dump has: {', '.join(self)}",
            )  # fmt: skip
        return self[name]

    def process(self, pid: int | None = None, *, pgd: int | None = None) -> TreeSpace:
        """The user addresses of a process, by its pid or by its top page table.

        pgd  mm->pgd, an effective address in the linear map, or the physical address
        """
        if pgd is None and pid is not None and self.find_pgd is not None:
            pgd = self.find_pgd(pid)
        if pgd is None:
            raise Unsupported(
                "a process cannot be found by its pid without the layout of task_struct",
                where=self._dump.source, hint="give the address in mm->pgd instead",
            )  # fmt: skip
        era = self.era
        if era is None:
            raise Unsupported("the page tables are of no known kind", where=self._dump.source)
        root = pgd - PAGE_OFFSET if pgd >= PAGE_OFFSET else pgd
        facts = user_facts(era, root, native_big=self._native_big)
        name = f"process {pid}" if pid is not None else f"process with pgd {pgd:#x}"
        return TreeSpace(
            name, self.resident, facts, era_levels(era), partial(protection, era.entries),
            problems=self._dump.problems,
        )  # fmt: skip

    @property
    def _native_big(self) -> bool:
        return self._dump.byte_order == "big"

    @cached_property
    def vrma(self) -> VrmaSpace:
        """The VRMA; Unsupported without an HPTE save area."""
        area = self._dump.hptesave
        if area is None:
            raise Unsupported("no HPTE save area", where=self._dump.source)
        return VrmaSpace(self._dump.memory, area.entries, groups(self.device_tree))

    # --- the hashed page table ---

    @cached_property
    def hash_table(self) -> HashTable:
        """The hashed page table; Unsupported without an image of it."""
        return self._hash_table[0]

    @cached_property
    def scheme(self) -> Scheme:
        """How the kernel made its virtual segments; Unsupported without a hashed page table."""
        return self._hash_table[1]

    @cached_property
    def _hash_table(self) -> tuple[HashTable, Scheme]:
        store = self._dump.hpt
        if store is None:
            raise Unsupported(
                "no image of the hashed page table", where=self._dump.source,
                hint="give it with --hpt; the hypervisor has it, a dump does not",
            )  # fmt: skip
        sizes = page_sizes(self.device_tree)
        table, scheme, problems = find_scheme(store, sizes, self._clues, self.era)
        self._dump.problems += problems
        return table, scheme

    def reverse(self, physical: Iterable[int]) -> Iterator[Reverse]:
        """The effective addresses that map physical ones, in no order."""
        return reverse(self, physical)

    def audit(self) -> Iterator[Finding]:
        """Entries of the hashed page table that contradict what else is known."""
        return audit(self)

    def _hpt(self) -> Space:
        return self.hashed()

    def hashed(self, *, segments: Iterable[Segment] = (), context: int = 0) -> HashSpace:
        """Effective addresses by the hashed page table: the kernel's, or those of a process.

        segments  a CPU's segments, to be used instead of Linux's rule
        context   mm->context.id of a process
        """
        name = "hpt" if not context else f"hpt, context {context:#x}"
        return HashSpace(
            name, self._dump.memory, self.hash_table, self.scheme,
            segments=segments, context=context,
        )  # fmt: skip
