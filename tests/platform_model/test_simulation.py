"""What was in memory and registers before the crash is what the Dump holds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phypan
from phypan.formats import elfcore, ppc_notes, release_region
from phypan.formats.release_region import Pair
from phypan.platform import hypervisor as rtas
from phypan.platform import second_boot
from phypan.platform.faults import Fault
from phypan.platform.guest import CRASH_TIME
from phypan.platform.second_boot import Quirk

KERNELS = st.sampled_from(
    [("2.6.32", "big"), *itertools.product(("5.10", "6.12"), ("big", "little"))]
)


@st.composite
def options(draw) -> dict[str, object]:
    kernel, order = draw(KERNELS)
    memory = draw(st.integers(1024, 8192) if kernel == "2.6.32" else st.integers(160, 4096))
    cpus = draw(st.integers(1, 9))
    return {
        "kernel": kernel,
        "byte_order": order,
        "memory": f"{memory}M",
        "boot_memory": f"{draw(st.integers(16, 64))}M",
        "cpus": cpus,
        "crash_cpu": draw(st.integers(0, cpus - 1)),
        "page_size": draw(st.sampled_from([4096, 65536])),
        "mmu": draw(st.sampled_from(["hash", "radix"])),
        "layout": draw(st.sampled_from(["lopar", "qemu"])),
        "seed": draw(st.integers(0, 1 << 32)),
    }


def assert_memory_is_what_it_was(dump, before) -> int:
    """Every byte that can be read is right; the number of bytes compared."""
    compared = 0
    for start, chunk in before.chunks():
        for piece in dump.memory.pieces(start, start + len(chunk)):
            if isinstance(piece, phypan.Extent):
                there = chunk[piece.start - start : piece.end - start]
                assert piece.store.view(piece.offset, piece.size) == there, hex(piece.start)
                compared += piece.size
    for start, data in dump.memory.stretches():
        assert before.read(start, len(data)) == data, "nothing that was not there before"
    return compared


def write(simulation, folder):
    from phypan.platform import simulation as model

    return model.save(simulation, folder, {})


@given(options())
@settings(max_examples=40)
def test_nothing_is_lost_and_nothing_invented(tmp_path_factory, chosen) -> None:
    simulation = phypan.simulate(**chosen)
    folder = write(simulation, tmp_path_factory.mktemp("dump") / "crashed")
    with phypan.open(folder) as dump:
        assert assert_memory_is_what_it_was(dump, simulation.before)
        layout = simulation.boot.layout
        holes = [(hole.start, hole.end) for hole in dump.memory.holes()]
        end = layout.copy + layout.boot_memory if chosen["kernel"] == "2.6.32" else layout.end
        assert len(holes) == 1
        assert holes[0][0] == layout.start
        assert holes[0][1] <= end < holes[0][1] + 65536
        assert dump.byte_order == chosen["byte_order"]
        assert dump.page_size == chosen["page_size"]
        assert dump.crash_time == CRASH_TIME
        assert not dump.incomplete
        assert [problem.where for problem in dump.problems] == (
            [str(folder / "release_region")] if chosen["kernel"] == "2.6.32" else []
        )
        assert {cpu.number for cpu in dump.cpus} == set(simulation.cpus)
        for cpu in dump.cpus:
            truth = simulation.cpus[cpu.number]
            names = truth if chosen["layout"] == "lopar" else cpu.firmware
            assert cpu.firmware == {name: truth.get(name, 0) for name in names}
            expected = chosen["kernel"] != "2.6.32" and cpu.number == chosen["crash_cpu"]
            assert cpu.crashing == expected
        vrma = len(dump.hptesave.entries) if dump.hptesave else 0
        saved = chosen["mmu"] == "hash" and chosen["layout"] == "lopar"
        assert vrma == (-(-simulation.boot.lpar.rma_size >> 24) if saved else 0)


@given(options())
@settings(max_examples=10)
def test_the_vmcore_holds_the_same(tmp_path_factory, chosen) -> None:
    simulation = phypan.simulate(**chosen)
    folder = tmp_path_factory.mktemp("dump")
    with phypan.open(write(simulation, folder / "crashed")) as dump:
        phypan.convert(dump, folder / "vmcore")
        with phypan.open(folder / "vmcore") as again:
            assert assert_memory_is_what_it_was(again, simulation.before)
            assert again.cpus == dump.cpus
            assert again.hptesave == dump.hptesave
            assert again.kernel_dump == dump.kernel_dump
            assert again.crash_info == dump.crash_info
            assert again.problems == dump.problems


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("kernel", ["5.10", "6.12"])
@pytest.mark.parametrize("mmu", ["hash", "radix"])
@pytest.mark.parametrize("page_size", [4096, 65536])
def test_the_kind_of_its_page_tables_is_found_without_doubt(
    kernel, order, mmu, page_size, tmp_path
) -> None:
    simulation = phypan.simulate(
        kernel=kernel, byte_order=order, memory="256M", boot_memory="32M", mmu=mmu,
        page_size=page_size,
    )  # fmt: skip
    with phypan.open(write(simulation, tmp_path / "crashed")) as dump:
        assert dump.spaces.era.name == f"{page_size >> 10}K {mmu}, Linux since 5.2"
        assert not [problem for problem in dump.problems if "page tables" in str(problem)]


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("kernel", ["5.10", "6.12"])
def test_the_model_kernels_own_vmcore_says_the_same(kernel, order, tmp_path) -> None:
    """Built by the other side from the specification: memory and registers, byte for byte."""
    simulation = phypan.simulate(
        kernel=kernel, byte_order=order, memory="256M", boot_memory="32M", cpus=4
    )
    vmcore = simulation.boot.files()["proc/vmcore"]
    with phypan.open(write(simulation, tmp_path / "crashed")) as dump:
        core = elfcore.read(vmcore.read, vmcore.size)
        ranges = [(load.paddr, load.filesz) for load in core.loads]
        pieces = [p for p in dump.memory.pieces(0, 256 << 20) if isinstance(p, phypan.Extent)]
        assert ranges == [(piece.start, piece.size) for piece in pieces]
        for load in core.loads:
            for offset in range(0, load.filesz, 1 << 24):
                size = min(1 << 24, load.filesz - offset)
                ours = dump.memory.view(load.paddr + offset, size)
                assert vmcore.read(load.offset + offset, size) == ours
        note = core.segments[0]
        notes = elfcore.read_notes(vmcore.read(note.offset, note.filesz), core.order)
        regs = [
            ppc_notes.read_prstatus(n.data, core.order).regs for n in notes if n.name == b"CORE"
        ]
        assert regs == [cpu.regs() for cpu in dump.cpus]


FAULTS_WITH_RIGHT_BYTES = [
    fault for fault in Fault if fault not in (Fault.OVERWRITTEN, Fault.REFUSED, Fault.BUSY)
]


@pytest.mark.parametrize("kernel", ["2.6.32", "5.10", "6.12"])
@pytest.mark.parametrize("fault", FAULTS_WITH_RIGHT_BYTES, ids=lambda fault: fault.value)
def test_a_fault_is_a_problem_and_no_byte_is_wrong(fault, kernel, tmp_path) -> None:
    memory = "1G" if kernel == "2.6.32" else "512M"
    simulation = phypan.simulate(
        kernel=kernel, memory=memory, boot_memory="64M", cpus=3, fault=(fault.value,)
    )
    with phypan.open(write(simulation, tmp_path / "crashed")) as dump:
        assert_memory_is_what_it_was(dump, simulation.before)
        own = [p for p in dump.problems if "release_region" not in p.where]
        # Nothing else says how many CPUs there were, or that the old kernel had no header.
        unknowable = fault is Fault.NO_HEADER or (fault is Fault.CPU_LOST and kernel == "2.6.32")
        assert bool(own) != unknowable, own
        for problem in own:
            assert problem.what
            assert problem.where
            assert problem.meaning
        phypan.convert(dump, tmp_path / "vmcore")
        core_head = (tmp_path / "vmcore").read_bytes()[:64]
        flags = int.from_bytes(core_head[48:52], dump.byte_order)
        assert bool(flags & elfcore.EFLAGS_INCOMPLETE) == dump.incomplete


def test_lost_memory_is_a_hole_and_the_dump_incomplete(tmp_path) -> None:
    simulation = phypan.simulate(memory="512M", boot_memory="64M", fault=("short-copy",))
    with phypan.open(write(simulation, tmp_path / "crashed")) as dump:
        assert dump.incomplete
        piece = dump.memory.at(40 << 20)
        assert isinstance(piece, phypan.Hole)
        assert piece.state is phypan.PageState.DAMAGED
        with pytest.raises(phypan.NotInDump, match="did not preserve it"):
            dump.memory.read(40 << 20, 1)


def test_a_save_area_that_was_written_over_is_told(tmp_path) -> None:
    simulation = phypan.simulate(memory="512M", boot_memory="64M", fault=("overwritten",))
    with phypan.open(write(simulation, tmp_path / "crashed")) as dump:
        assert any("written over" in problem.meaning for problem in dump.problems)
        crashing = dump.crashing_cpu
        assert crashing is not None, "the kernel's header is behind the damage"
        assert crashing.kernel is not None


def test_a_refused_registration_leaves_no_dump() -> None:
    with pytest.raises(phypan.PhypanError, match="nothing was preserved"):
        phypan.simulate(fault=("refused",))


def test_a_busy_firmware_is_asked_again() -> None:
    assert phypan.simulate(fault=("busy",)).boot.hypervisor.active is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": "7.0"},
        {"memory": "12Q"},
        {"memory": "0"},
        {"cpus": 0},
        {"crash_cpu": 2},
        {"page_size": 8192},
        {"fault": ("none-such",)},
        {"without_quirk": ("none-such",)},
        {"memory": "256M"},
        {"kernel": "2.6.32", "byte_order": "little"},
        {"guest": "none-such"},
    ],
)
def test_wrong_options_are_refused_with_a_hint(wrong) -> None:
    with pytest.raises(phypan.PhypanError) as caught:
        phypan.simulate(**wrong)
    assert caught.value.hint


# -- the second boot ----------------------------------------------------------------------------


@pytest.fixture
def phyp():
    return phypan.simulate(kernel="2.6.32", memory="1G", page_size=4096)


def test_release_region_as_the_old_kernel_prints_it(phyp) -> None:
    text = phyp.boot.files()["sys/kernel/release_region"].read(0, 4096).decode()
    cpu, hpte = phyp.boot.hypervisor.cpu_area_size, 0x1000
    rest = (768 << 20) - cpu - hpte - (256 << 20)
    assert text == (
        f"CPU:0x0-0x0: HPTE:{cpu:#x}-0x0: DUMP:{cpu + hpte:#x}-0x0, 0x10000000-{rest:#x}:\n"
    )


def test_release_region_as_its_document_says() -> None:
    boot = phypan.simulate(kernel="2.6.32", memory="1G", without_quirk=("offsets",)).boot
    text = boot.files()["sys/kernel/release_region"].read(0, 4096).decode()
    region = release_region.read(text)
    assert not region.offsets
    assert region.dump == Pair(boot.layout.copy, 256 << 20)


def test_vmcore_of_phyp_dump_is_memory_by_physical_address(phyp) -> None:
    vmcore = phyp.boot.files()["proc/vmcore"]
    assert vmcore.size == 1 << 30
    copy = phyp.boot.layout.copy
    assert vmcore.read(copy, 1 << 20) == phyp.before.read(0, 1 << 20)
    assert vmcore.read((1 << 30) - 4, 100) == phyp.before.read((1 << 30) - 4, 4)
    assert vmcore.read(1 << 30, 1) == b""


def _release(boot, start: int, size: int) -> None:
    boot.files()["sys/kernel/release_region"].write(f"{start:#x} {size:#x}\n".encode())


def test_memory_that_was_given_back_is_somebody_elses(phyp) -> None:
    boot, memory = phyp.boot, phyp.boot.lpar.memory
    _release(boot, 0x20000000, 0x10000000)
    freed = bytes([second_boot.FREED])
    assert memory.read(0x20000000, 16) == freed * 16
    assert memory.read(0x30000000, 4096) == freed * 4096, "one page more than was asked for"
    assert memory.read(0x30001000, 4096) == phyp.before.read(0x30001000, 4096)


def test_without_the_quirk_just_what_was_asked_for_is_freed() -> None:
    done = phypan.simulate(
        kernel="2.6.32", memory="1G", page_size=4096, without_quirk=("one-page-more",)
    )
    _release(done.boot, 0x20000000, 0x100000)
    assert done.boot.released == [(0x20000000, 0x100000)]


def test_a_release_below_the_reserved_memory_is_moved_up_not_cut(phyp) -> None:
    _release(phyp.boot, 0x0FFFF000, 0x2000)
    assert phyp.boot.released == [(0x10000000, 0x3000)], "start raised, length kept, one page more"


def test_a_full_release_registers_anew(phyp) -> None:
    """The kernel counts what starts in the save area twice; both counts must come out exactly."""
    boot = phyp.boot
    _release(boot, boot.reserve_start, boot.reserve_size - boot.scratch_size)
    _release(boot, boot.layout.start, boot.scratch_size - 4096)
    assert boot.hypervisor.active is not None, "a page is missing"
    _release(boot, boot.layout.start + boot.scratch_size - 4096, 4096)
    assert boot.hypervisor.active is None
    assert boot.hypervisor.registered is not None
    assert boot.rounds == 1
    assert "sys/kernel/release_region" not in boot.files()


def test_command_2_is_refused_by_a_firmware_that_follows_lopar() -> None:
    done = phypan.simulate(kernel="2.6.32", memory="1G")
    boot = done.boot
    boot.quirks = boot.quirks | {Quirk.COMMAND_2}
    _release(boot, boot.reserve_start, boot.reserve_size - boot.scratch_size)
    _release(boot, boot.layout.start, boot.scratch_size)
    assert boot.hypervisor.active is not None, "the dump is still active"
    assert boot.rounds == 0


@pytest.mark.parametrize("text", ["", "0x1000", "zero one", "0x10000000-0x1000"])
def test_a_release_that_is_not_two_numbers_is_refused(phyp, text) -> None:
    with pytest.raises(phypan.PhypanError, match="invalid argument"):
        phyp.boot.files()["sys/kernel/release_region"].write(text.encode())


def test_fadump_gives_everything_back_at_once_and_registers_when_asked() -> None:
    """As 6.12 does: tests/real/test_second_boot.py has the same of a real kernel."""
    done = phypan.simulate(memory="512M", boot_memory="64M")
    boot = done.boot
    files = boot.files()
    registered = files["sys/kernel/fadump/registered"]
    assert registered.read(0, 10) == b"0\n"
    with pytest.raises(phypan.PhypanError, match="not permitted"):
        registered.write(b"1")
    assert b"CPU :[" in files["sys/kernel/debug/powerpc/fadump_region"].read(0, 4096)
    with pytest.raises(phypan.PhypanError):
        files["sys/kernel/fadump/release_mem"].write(b"0")
    files["sys/kernel/fadump/release_mem"].write(b"1\n")
    assert "proc/vmcore" not in boot.files()
    assert registered.read(0, 10) == b"0\n"
    with pytest.raises(phypan.PhypanError, match="not permitted"):
        files["sys/kernel/fadump/release_mem"].write(b"1")
    for asked in (b"1\n", b"0\n", b"1\n", b"1\n"):
        registered.write(asked)
        assert registered.read(0, 10).strip() == asked.strip()
    assert boot.hypervisor.registered is not None
    with pytest.raises(phypan.PhypanError, match="invalid"):
        registered.write(b"2")
    assert sum(size for _, size in boot.released) == (512 - 64) << 20


def test_the_kernel_refuses_a_dump_with_errors_and_phypan_does_not(tmp_path) -> None:
    done = phypan.simulate(memory="512M", boot_memory="64M", fault=("short-copy",))
    assert "proc/vmcore" not in done.boot.files()
    with phypan.open(write(done, tmp_path / "crashed")) as dump:
        assert dump.memory.size > 300 << 20


def test_the_property_is_there_while_a_dump_waits(phyp) -> None:
    files = phyp.boot.files()
    raw = files["proc/device-tree/rtas/ibm,kernel-dump"].read(0, 4096)
    assert raw == phyp.boot.hypervisor.kernel_dump_property()
    phyp.boot.guest.invalidate(rtas.INVALIDATE)
    assert "proc/device-tree/rtas/ibm,kernel-dump" not in phyp.boot.files()


def _reserved(boot, start: int, end: int) -> list[bool]:
    """What /proc/kpageflags says of each page, read in one piece."""
    page = boot.guest.page_size
    flags = boot.files()["proc/kpageflags"].read(start // page * 8, (end - start) // page * 8)
    words = [flags[at : at + 8] for at in range(0, len(flags), 8)]
    return [bool(int.from_bytes(word, boot.guest.byte_order) >> 32 & 1) for word in words]


def test_page_flags_tell_what_is_still_held_back(phyp) -> None:
    boot, page, start = phyp.boot, 4096, phyp.boot.reserve_start
    assert _reserved(boot, start - page, start + page) == [False, True]
    _release(boot, 0x20000000, 0x3000)
    window = _reserved(boot, 0x20000000 - page, 0x20000000 + 5 * page)
    assert window == [True, False, False, False, False, True]
    assert boot.files()["proc/kpageflags"].read((1 << 30) // page * 8, 8) == b"", "no such page"


def test_what_is_freed_twice_keeps_what_its_new_owner_wrote(phyp) -> None:
    boot = phyp.boot
    _release(boot, 0x20000000, 0x1000)
    boot.lpar.memory.write(0x20000000, b"somebody's")
    _release(boot, 0x20000000, 0x1000)
    assert boot.lpar.memory.read(0x20000000, 10) == b"somebody's"


def test_a_boot_after_the_second_holds_everything_back_again(phyp) -> None:
    boot = phyp.boot
    _release(boot, 0x20000000, 0x1000)
    after = second_boot.again(boot)
    assert after.files()["proc/sys/kernel/random/boot_id"].read(0, 99) != (
        boot.files()["proc/sys/kernel/random/boot_id"].read(0, 99)
    )
    assert "sys/kernel/release_region" in after.files()
    assert all(_reserved(after, 0x20000000, 0x20003000))
    _release(after, after.reserve_start, after.reserve_size - after.scratch_size)
    _release(after, after.layout.start, after.scratch_size)
    assert after.rounds == 1, "it counts anew"


def test_with_much_memory_the_old_kernel_keeps_more_than_was_preserved() -> None:
    """prom.c, phyp_dump_reserve_mem(): a twentieth of memory, in whole 256 MiB."""
    boot = phypan.simulate(kernel="2.6.32", memory="12G").boot
    assert boot.reserve_start == 512 << 20
    assert boot.guest.boot_memory == 256 << 20
    text = boot.files()["sys/kernel/release_region"].read(0, 4096).decode()
    assert release_region.read(text).rest.start == 512 << 20


@pytest.mark.parametrize(
    ("kernel", "mmu", "page_size", "era"),
    [
        ("2.6.32", "hash", 65536, "64K hash, Linux 2.6.21 to 3.6"),
        ("6.12", "hash", 4096, "4K hash, Linux since 5.2"),
        ("6.12", "radix", 4096, "4K radix, Linux since 5.2"),
        ("6.12", "radix", 65536, "64K radix, Linux since 5.2"),
    ],
)
def test_the_guests_page_tables_are_known_without_a_doubt(
    tmp_path, kernel, mmu, page_size, era
) -> None:
    """Those of a radix guest are there; a hashed one has mapped nothing by them."""
    folder = tmp_path / "crashed"
    phypan.simulate(folder, memory="700M", kernel=kernel, mmu=mmu, page_size=page_size)
    with phypan.open(folder) as dump:
        assert dump.spaces.era.name == era
        assert not [problem for problem in dump.problems if problem.where == "page tables"]
        vmalloc = 0xD << 60 if kernel == "2.6.32" else 0xC008 << 48
        found = dump.spaces["kernel"].translate(vmalloc)
        if mmu == "radix":
            assert found.physical == dump.vmcoreinfo.symbol("swapper_pg_dir") & ~(0xF << 60)
        else:
            assert found.physical is None
