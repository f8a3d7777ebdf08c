"""Addresses of real kernels: translated, next to what the kernels and their tools say."""

from __future__ import annotations

import re
import subprocess
from collections import Counter

import pytest

import phypan
from phypan.memory import PageState
from phypan.spaces.hash import slb_segment
from tests import real_dumps
from tests.needs import missing
from tests.real import kernel
from tests.real.kernel import PAGE_OFFSET
from tests.spaces.guest import MODES, kernels

ERAS = {
    "le-hash8": "64K hash, Linux since 5.2",
    "le-radix10": "64K radix, Linux since 5.2",
    "be-radix9": "64K radix, Linux since 5.2",
}


@pytest.fixture
def dump(real):
    with phypan.open(real.path) as opened:
        yield opened


@pytest.fixture
def prog(dump, real):
    if not _has_drgn():
        missing("drgn is not installed")
    return kernel.program(dump, str(real.vmlinux))


def _has_drgn() -> bool:
    try:
        import drgn  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.fixture(scope="module")
def hash_dump():
    try:
        real = real_dumps.get("le-hash8")
    except FileNotFoundError as error:
        missing(str(error))
    with phypan.open(real.path) as opened:
        yield opened


# --- the era --------------------------------------------------------------------------------------


def test_the_era_is_found_with_evidence_and_without_doubt(dump, real) -> None:
    assert dump.spaces.era.name == ERAS[real.name]
    evidence = "\n".join(dump.spaces.evidence)
    assert "init_uts_ns is where the linear map has it" in evidence
    assert "swapper_pg_dir maps" in evidence
    assert "NUMBER(VMALLOC_START)=0xc008000000000000" in evidence
    assert dump.problems == []


def test_the_era_is_found_without_the_kernels_help(real) -> None:
    """No RADIX_MMU, no page size, no start of vmalloc: the tables themselves tell."""
    with phypan.open(real.path) as dump:
        info = dump.vmcoreinfo
        dump.vmcoreinfo = info.without(
            "NUMBER(RADIX_MMU)", "PAGESIZE", "NUMBER(VMALLOC_START)", "SYMBOL(vmemmap)",
            "SYMBOL(cur_cpu_spec)", "OSRELEASE",
        )  # fmt: skip
        assert dump.spaces.era.name == ERAS[real.name]
        assert not any("NUMBER" in fact for fact in dump.spaces.evidence)
        # Where nothing tells candidates apart they are named. But radix kernels before 5.2 had IO
        # where vmemmap is now, which what is not cached tells.
        told = "; ".join(map(str, dump.problems))
        assert "fit equally" in told
        assert not re.search(r"64K radix, Linux (4.7|4.11) to", told)


def test_without_vmcoreinfo_there_is_the_linear_map(real) -> None:
    with phypan.open(real.path) as dump:
        dump.vmcoreinfo = None
        assert dump.spaces.era is None
        (problem,) = dump.problems
        assert "nothing says where swapper_pg_dir is" in str(problem)
        assert dump.spaces["linear"].physical(PAGE_OFFSET + 0x1234) == 0x1234
        with pytest.raises(phypan.Unsupported, match="of no known kind"):
            _ = dump.spaces["kernel"]


# --- the kernel's addresses -----------------------------------------------------------------------


def test_areas_of_vmalloc_and_io_are_where_their_vm_structs_say(dump, prog) -> None:
    space, known = dump.spaces["kernel"], {}
    for area in kernel.areas(prog, dump.page_size):
        for n, physical in enumerate(area.pages):
            known[area.start + n * dump.page_size + 0x123] = physical + 0x123
    assert {dump.spaces.era.region_of(address).name for address in known} == {"vmalloc", "io"}
    assert {address: space.translate(address).physical for address in known} == known
    for how in MODES:
        with kernels(how):
            found = space.translate_many(known)
            assert [int(p) for p in found.physical] == list(known.values())
            assert not any(found.faults)


def test_an_object_in_vmalloc_points_to_itself(dump, prog) -> None:
    """A terminal's n_tty_data is in vmalloc; an empty list in it has its own address."""
    space = dump.spaces["kernel"]
    member = prog.type("struct n_tty_data")
    (lock,) = [m for m in member.members if m.name == "atomic_read_lock"]
    (waiters,) = [m for m in lock.type.members if m.name == "wait_list"]
    offset = (lock.bit_offset + waiters.bit_offset) // 8
    found = 0
    for area in kernel.areas(prog, dump.page_size):
        at = area.start + offset
        if space.translate(at).state is PageState.PRESENT:
            data = space.read(at, 16)
            pair = [int.from_bytes(data[n : n + 8], dump.byte_order) for n in (0, 8)]
            found += pair == [at, at]
    assert found == 1


def test_everything_drgn_translates_on_radix_is_translated_alike(dump, prog, real) -> None:
    if ERAS[real.name].split()[1] != "radix,":
        return  # drgn knows no hashed kernels; the next tests are for those
    from drgn.helpers.linux import follow_phys

    space, mm, count = dump.spaces["kernel"], prog["init_mm"].address_of_(), Counter()
    for one in space.mappings():
        region = dump.spaces.era.region_of(one.first).name
        step = max(one.page_size, one.size // 64)  # the linear map is large
        for address in range(one.first, one.end, step):
            assert space.translate(address + 0x345).physical == follow_phys(mm, address + 0x345)
            count[region] += 1
            if space.translate(address).state is PageState.PRESENT:
                assert space.read(address, 256) == prog.read(address, 256)
    assert set(count) == {"linear", "vmalloc", "io", "vmemmap"}


def test_the_radix_tree_as_the_hardware_walks_it_is_the_same(dump, real) -> None:
    """Each entry of radix says how large the table below is; Linux goes by constants."""
    from phypan.spaces.radix import QUADRANT_3, Tree, radix_space

    if ERAS[real.name].split()[1] != "radix,":
        return
    root = dump.vmcoreinfo.symbol("swapper_pg_dir") - PAGE_OFFSET
    space = radix_space(dump.spaces.resident, Tree(root, 13, 52), name="hardware", top=QUADRANT_3)
    assert list(space.mappings()) == list(dump.spaces["kernel"].mappings())
    for one in space.mappings():
        ours, theirs = (s.translate(one.first + 5) for s in (space, dump.spaces["kernel"]))
        assert (ours.physical, ours.page_size) == (theirs.physical, theirs.page_size)
        assert [(s.address, s.value) for s in ours.steps] == [
            (s.address, s.value) for s in theirs.steps
        ]


@pytest.mark.parametrize("name", ["le-hash8", "le-radix10"])
def test_vtop_says_what_crashs_vtop_says(name, real_dump, folder) -> None:
    """crash reads little-endian dumps: linear, vmalloc, vmemmap, IO and unmapped addresses."""
    real = real_dump(name)
    crash = real_dumps.unpacked("bin/crash-ppc64")
    with phypan.open(real.path) as dump:
        space = dump.spaces["kernel"]
        wanted = [0xC000000000000000, 0xC000000000B74D00, 0xC00000004FFF0000]
        for one in space.mappings():
            if one.first >= 0xC008000000000000:
                wanted += [one.first + 0x1238, one.end - 8]
        wanted += [0xC008000000FF0000, 0xC00A0000F0000000]
        phypan.convert(dump, folder / "vmcore")
        script = folder / "commands"
        script.write_text("".join(f"vtop {address:x}\n" for address in wanted) + "quit\n")
        done = subprocess.run(
            [crash, "-s", "-i", script, real.vmlinux, folder / "vmcore"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        sections = done.stdout.split("VIRTUAL           PHYSICAL")[1:]
        assert len(sections) == len(wanted)
        for address, text in zip(wanted, sections, strict=True):
            match = re.match(r"\s*([0-9a-f]{16})  ([0-9a-f]+|\(not mapped\))", text)
            assert int(match[1], 16) == address
            found = space.translate(address)
            assert match[2] == ("(not mapped)" if found.physical is None else f"{found.physical:x}")
            for step in found.steps if found.physical is not None else ():
                assert f"{PAGE_OFFSET + step.address:x} => {step.value:x}" in text


# --- processes ------------------------------------------------------------------------------------


def test_user_pages_are_where_the_guest_said(dump, prog, real) -> None:
    told, count = kernel.told_maps(real), Counter()
    running = kernel.processes(prog)
    assert len(told) == 4
    for pid, vmas in told.items():
        process = running[pid]
        space = dump.spaces.process(pgd=process.pgd)
        assert space.read(0x10000000, 4) == b"\x7fELF"
        arguments = space.read(process.arguments[0], process.arguments[1] - process.arguments[0])
        assert arguments.split(b"\0")[1] == b"/bin/" + process.name.encode()
        environment = space.read(
            process.environment[0], process.environment[1] - process.environment[0]
        )
        assert b"PATH=/bin\0" in environment
        for one in space.mappings():
            (vma,) = [vma for vma in vmas if vma.start <= one.first < vma.end]
            assert one.end <= vma.end
            assert one.protection.user
            assert one.protection.execute == (vma.flags[2] == "x")
            assert one.protection.write <= (vma.flags[1] == "w"), "copied when written to"
            count[vma.name] += 1
    assert {"/bin/busybox", "[heap]", "[stack]", "[vdso]"} <= set(count)


def test_user_pages_are_where_drgn_has_them(dump, prog, real) -> None:
    if ERAS[real.name].split()[1] != "radix,":
        return
    from drgn.helpers.linux import find_task, follow_phys

    for process in kernel.processes(prog).values():
        space = dump.spaces.process(pgd=process.pgd)
        mm = find_task(prog, process.pid).mm
        for one in space.mappings():
            for address in range(one.first, one.end, one.page_size):
                assert space.translate(address).physical == follow_phys(mm, address)


def test_a_process_is_found_by_its_pid(dump, real) -> None:
    """By the types in the dump itself: what the guest's tasks have as arguments tells them."""
    for pid, vmas in kernel.told_maps(real).items():
        space = dump.spaces.process(pid)
        assert space.name == f"process {pid}"
        (stack,) = [vma for vma in vmas if vma.name == "[stack]"]
        found = [one for one in space.mappings() if stack.start <= one.first < stack.end]
        name = re.search(rf"^pid {pid} (\w+)$", real.truth, re.MULTILINE)[1]
        (top,) = [one for one in found if one.end == stack.end]
        assert f"/bin/{name}".encode() in space.read(top.first, top.size)


def test_a_pid_that_leads_to_no_page_tables_is_refused(dump) -> None:
    with pytest.raises(phypan.Unsupported, match=r"task 2 \(kthreadd\) has no user addresses"):
        dump.spaces.process(2)
    with pytest.raises(phypan.Unsupported, match="no task 99999"):
        dump.spaces.process(99999)


def test_without_anybody_who_knows_tasks_the_page_table_is_asked_for(dump) -> None:
    dump.spaces.find_pgd = None
    with pytest.raises(phypan.Unsupported, match="cannot be found by its pid") as caught:
        dump.spaces.process(65)
    assert "mm->pgd" in caught.value.hint


# --- the hashed page table ------------------------------------------------------------------------


@pytest.mark.parametrize("how", MODES)
def test_every_kernel_entry_of_the_hash_table_agrees_with_the_page_tables(how, hash_dump) -> None:
    with kernels(how):
        spaces = hash_dump.spaces
        assert spaces.scheme.name == "since 5.2, 64K pages"
        pages = [page for page in spaces.hash_table.pages(spaces.scheme) if page.context == 0]
        addresses = [page.address + 0x4321 for page in pages]
        by_hash = spaces["hpt"].translate_many(addresses)
        by_tables = spaces["kernel"].translate_many(addresses)
        expected = [page.entry.real + 0x4321 for page in pages]
        assert [int(p) for p in by_hash.physical] == expected
        assert [int(p) for p in by_tables.physical] == expected
        assert [int(i) for i in by_hash.indices] == [page.entry.index for page in pages]
        assert list(spaces.audit()) == []
    regions = Counter(spaces.era.region_of(address).name for address in addresses)
    assert regions == {"linear": 20480, "vmalloc": 3, "io": 4, "vmemmap": 18}


def test_every_user_entry_of_the_hash_table_agrees_with_the_process(hash_dump) -> None:
    if not _has_drgn():
        missing("drgn is not installed")
    spaces = hash_dump.spaces
    prog = kernel.program(hash_dump, str(real_dumps.get("le-hash8").vmlinux))
    by_context = {p.context: p for p in kernel.processes(prog).values()}
    pages = [page for page in spaces.hash_table.pages(spaces.scheme) if page.context]
    count = 0
    for page in pages:
        process = by_context.get(page.context)
        if process is None:
            continue  # the shell that runs the guest
        found = spaces.process(pgd=process.pgd).translate(page.address + 7)
        assert found.physical == page.entry.real + 7
        assert spaces.hashed(context=page.context).physical(page.address + 7) == found.physical
        count += 1
    assert count >= 100


def test_segments_are_those_that_the_cpus_had(hash_dump) -> None:
    spaces, registers = hash_dump.spaces, real_dumps.get("le-hash8").registers
    seen = Counter()
    for cpu in registers:
        segments = [slb_segment(int(e["esid"], 16), int(e["vsid"], 16)) for e in cpu["slb"]]
        for segment in segments:
            if segment.address >= PAGE_OFFSET:
                assert spaces.scheme.vsid(segment.address, segment.shift) == segment.vsid
                seen["kernel"] += 1
        by_slb = spaces.hashed(segments=segments)
        if segments[-1].address < PAGE_OFFSET and int(cpu["msr"], 16) & 1 << 14:
            nip = int(cpu["nip"], 16)
            assert by_slb.translate(nip).protection.execute
            assert by_slb.translate(int(cpu["gpr"][1], 16)).protection.write
            seen["user"] += 1
        many = by_slb.translate_many([PAGE_OFFSET + 0x5678, 0xB000000000000000])
        assert [int(p) for p in many.physical] == [0x5678, 0]
    assert seen == {"kernel": 7, "user": 1}


def test_the_hash_table_tells_which_processes_map_a_page(hash_dump) -> None:
    """The code of busybox that one CPU was executing is mapped by several processes."""
    cpu = real_dumps.get("le-hash8").registers[1]
    nip = int(cpu["nip"], 16)
    segments = [slb_segment(int(e["esid"], 16), int(e["vsid"], 16)) for e in cpu["slb"]]
    physical = hash_dump.spaces.hashed(segments=segments).physical(nip)
    found = list(hash_dump.spaces.reverse([physical]))
    assert {one.address for one in found} == {nip, PAGE_OFFSET + physical}
    contexts = {one.context for one in found}
    assert 0 in contexts
    assert len(contexts) >= 3


def test_the_linear_map_has_its_protection_from_the_hash_table(hash_dump) -> None:
    ranges = list(hash_dump.spaces["kernel"].mappings(alike=True))
    linear = [one for one in ranges if one.first < 0xC008000000000000]
    assert sum(one.size for one in linear) == hash_dump.memory.end
    text = hash_dump.vmcoreinfo.symbol("_stext")
    (first,) = [one for one in linear if one.first == text]
    assert first.protection.execute
    assert not linear[-1].protection.execute


def test_an_image_that_is_cut_or_of_another_machine_is_refused_or_a_problem(
    hash_dump, folder
) -> None:
    real = real_dumps.get("le-hash8")
    (folder / "hpt").write_bytes((real.path / "hpt").read_bytes()[:-16])
    with phypan.open(real.path, hpt=folder / "hpt") as dump, pytest.raises(phypan.BadRecord) as bad:
        dump.spaces["hpt"].translate(PAGE_OFFSET)
    assert "not a power of two" in str(bad.value)
    (folder / "hpt").write_bytes(bytes(1 << 20))
    with phypan.open(real.path, hpt=folder / "hpt") as dump:
        assert dump.spaces["hpt"].translate(PAGE_OFFSET).physical is None
        assert "translates the linear map" in str(dump.problems)
