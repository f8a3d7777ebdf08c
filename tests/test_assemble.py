"""From a RAM image to a Dump: a synthetic partition, whole and with everything wrong in turn."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from phypan.assemble import from_ram
from phypan.formats import kernel_dump, ppc_notes, pt_regs
from phypan.formats.kernel_dump import SectionType
from phypan.memory import Hole, PageState
from phypan.regions import Regions
from phypan.stores import BytesStore
from tests import synthetic
from tests.synthetic import MIB, Partition

ORDERS = ["big", "little"]


def assembled(partition: Partition, ram: bytes | None = None, **changes):
    dump = kernel_dump.read(partition.property)
    sections = tuple(changes.get("sections", dump.sections))
    regions = Regions(replace(dump, sections=sections), property=partition.property)
    return from_ram(BytesStore(partition.ram if ram is None else ram, "ram"), regions, "test")


def said(dump) -> list[str]:
    return [str(problem) for problem in dump.problems]


@pytest.mark.parametrize("order", ORDERS)
def test_a_whole_dump(order) -> None:
    partition = Partition(order)
    dump = assembled(partition)
    assert said(dump) == []
    assert dump.byte_order == order
    assert dump.page_size == 65536
    assert dump.vmcoreinfo.text == synthetic.VMCOREINFO
    assert dump.crash_time == 1700000000
    assert not dump.incomplete
    for piece in dump.memory.pieces(0, partition.size):
        if not isinstance(piece, Hole):
            assert (
                dump.memory.read(piece.start, piece.size)
                == partition.before[piece.start : piece.end]
            )
    (hole,) = dump.memory.holes()
    assert (hole.start, hole.end) == (partition.save, partition.end)
    assert [cpu.number for cpu in dump.cpus] == [0, 1]
    for cpu in dump.cpus:
        assert dict(cpu.firmware) == partition.cpus[cpu.number]
        assert cpu.online
    assert dump.crashing_cpu is dump.cpus[1]
    assert dump.crashing_cpu.kernel == pt_regs.of(range(100, 148))


def test_the_crashing_cpu_has_both_sets_of_registers() -> None:
    zero, one = assembled(Partition()).cpus
    assert one.regs() == one.regs("os") == pt_regs.of(range(100, 148))
    assert one.regs("firmware")["nip"] == 0xC000000000010001
    assert zero.regs() == zero.regs("firmware")
    assert zero.kernel is None
    assert one["NIA"] == 0xC000000000010001
    assert one.differences()["NIA"] == (0xC000000000010001, 132)
    assert zero.differences() == {}
    with pytest.raises(KeyError):
        zero["VR00_HI"]


def test_everything_that_was_preserved_is_kept_raw() -> None:
    partition = Partition()
    raw = assembled(partition).raw
    assert raw[ppc_notes.NT_KERNEL_DUMP] == partition.property
    assert raw[ppc_notes.NT_REGSAVE] == partition.ram[partition.save : partition.copy]
    assert raw[ppc_notes.NT_CRASH_INFO] == partition.ram[partition.header : partition.end]


def test_a_dump_that_only_a_text_told_of_keeps_what_was_made_of_it() -> None:
    partition = Partition()
    made = kernel_dump.read(partition.property)
    dump = from_ram(BytesStore(partition.ram), Regions(made), "test")
    assert kernel_dump.read(dump.raw[ppc_notes.NT_KERNEL_DUMP]) == made


def sections(partition, **change):
    """The partition's sections, one of them changed: cpu= or low= (a dict of fields)."""
    cpu, low = kernel_dump.read(partition.property).sections
    return replace(cpu, **change.get("cpu", {})), replace(low, **change.get("low", {}))


@pytest.mark.parametrize("order", ORDERS)
def test_no_register_save_area(order) -> None:
    partition = Partition(order)
    dump = assembled(partition, sections=sections(partition)[1:])
    assert any("no register save area" in text for text in said(dump))
    (cpu,) = dump.cpus
    assert (cpu.number, cpu.crashing, cpu.firmware) == (1, True, None)
    assert cpu["NIA"] == 132, "what the kernel has under that name"
    assert dump.byte_order == order


def test_a_register_save_area_that_was_written_over() -> None:
    partition = Partition()
    partition.ram[partition.save : partition.save + 16] = b"the boot loader "
    dump = assembled(partition)
    assert any("the firmware's registers are lost" in text for text in said(dump))
    assert [cpu.number for cpu in dump.cpus] == [1]
    assert ppc_notes.NT_REGSAVE in dump.raw, "for who can make more of it"


def test_an_area_that_was_dumped_short() -> None:
    partition = Partition()
    dump = assembled(partition, sections=sections(partition, cpu={"dumped": 0x20 + 16 * 20}))
    assert [len(cpu.firmware) for cpu in dump.cpus if cpu.firmware] == [19]
    assert any("ends inside CPU 0" in text for text in said(dump))
    assert any("CPU 1, which crashed" in text for text in said(dump))


@pytest.mark.parametrize("place", [4 * MIB, 1 << 40, (1 << 64) - 1])
def test_an_area_outside_of_memory(place) -> None:
    partition = Partition()
    dump = assembled(partition, sections=sections(partition, cpu={"destination": place}))
    assert any("outside of memory" in text for text in said(dump))


def test_an_area_that_ends_behind_memory() -> None:
    partition = Partition(save=3 * MIB - 4096)
    area = bytes(partition.ram[partition.save : partition.copy])
    ram = partition.ram + area
    changed = sections(partition, cpu={"destination": 4 * MIB, "length": MIB, "dumped": MIB})
    dump = assembled(partition, ram=bytes(ram), sections=changed)
    assert any("ends behind memory" in text for text in said(dump))
    assert len(dump.cpus) == 2


def test_an_area_of_a_gigabyte_is_not_read_whole() -> None:
    partition = Partition()

    class Huge(BytesStore):
        """A sparse image with the partition at its beginning."""

        size = property(lambda self: 1 << 40)

        def view(self, offset, count):
            assert count <= 64 << 20
            return memoryview(bytes(partition.ram[offset : offset + count]).ljust(count, b"\0"))

    cpu, low = sections(partition, cpu={"length": 1 << 39, "dumped": 1 << 39})
    dump = replace(kernel_dump.read(partition.property), sections=(cpu, low))
    opened = from_ram(Huge(b"", "ram"), Regions(dump), "test")
    assert any("only 0x4000000 were looked at" in text for text in said(opened))
    assert len(opened.cpus) == 2


@pytest.mark.parametrize("order", ORDERS)
def test_without_a_header_the_firmwares_registers_and_the_memory_tell(order) -> None:
    partition = Partition(order)
    partition.ram[partition.header : partition.end] = bytes(partition.end - partition.header)
    dump = assembled(partition)
    assert (dump.crash_info, dump.crashing_cpu) == (None, None)
    assert dump.byte_order == order
    assert dump.vmcoreinfo.text == synthetic.VMCOREINFO, "found by looking through memory"
    assert len(dump.cpus) == 2


def test_a_damaged_header_is_said() -> None:
    partition = Partition()
    at = partition.header + 32
    partition.ram[at : at + 4] = b"\xff\xff\xff\xff"  # the size of pt_regs
    dump = assembled(partition)
    assert any("registers of 4294967295" in text for text in said(dump))
    assert dump.crash_info is None


@pytest.mark.parametrize("place", [(0, 0), (1 << 63, 4096), (4 * MIB - 10, 4096), (0x100, 1 << 62)])
def test_a_header_that_leads_nowhere_for_vmcoreinfo(place) -> None:
    partition = Partition()
    partition.ram[partition.header + 16 : partition.header + 32] = struct.pack(">QQ", *place)
    assert assembled(partition).vmcoreinfo.text == synthetic.VMCOREINFO


def test_without_vmcoreinfo_page_size_is_a_guess_and_said() -> None:
    partition = Partition()
    partition.ram[partition.copy + 0x8000 : partition.copy + 0x9000] = bytes(4096)
    dump = assembled(partition)
    assert dump.vmcoreinfo is None
    assert (dump.page_size, dump.crash_time) == (65536, None)
    assert any("no VMCOREINFO in memory" in text for text in said(dump))
    assert any("65536 is assumed" in text for text in said(dump))


def test_a_byte_order_that_nothing_tells_is_said() -> None:
    partition = Partition()
    partition.ram[partition.header : partition.end] = bytes(partition.end - partition.header)
    partition.ram[partition.copy + 0x8000 : partition.copy + 0x9000] = bytes(4096)
    dump = assembled(partition, sections=sections(partition)[1:])
    assert dump.byte_order == "big"
    assert any("the byte order is unknown" in text for text in said(dump))


def test_a_copy_that_is_short_makes_the_dump_incomplete() -> None:
    partition = Partition()
    dump = assembled(partition, sections=sections(partition, low={"dumped": MIB // 2}))
    assert dump.incomplete
    assert dump.memory.at(MIB // 2).state is PageState.DAMAGED
    assert dump.memory.read(0, MIB // 2) == partition.before[: MIB // 2]


def test_an_image_that_was_cut_short_makes_the_dump_incomplete() -> None:
    partition = Partition(save=2 * MIB)
    for size in (0, 1, 4096, MIB, 2 * MIB + 100, 3 * MIB, partition.header + 100, 4 * MIB - 1):
        dump = assembled(partition, ram=bytes(partition.ram[:size]))
        assert dump.memory.size <= size
        # The dying kernel wrote its header itself: to where it is, it belongs to memory.
        partition.before[partition.header : size] = partition.ram[partition.header : size]
        for piece in dump.memory.pieces(0, 4 * MIB):
            if not isinstance(piece, Hole):
                got = dump.memory.read(piece.start, piece.size)
                assert got == partition.before[piece.start : piece.end]


def v0_header(partition: Partition, order: str, mask: int, behind: bytes) -> None:
    """Put a header of before 6.10 in place of the other, and `behind` it."""
    sign = ">" if order == "big" else "<"
    size = 24 + 352 + mask
    head = struct.pack(sign + "QQII", 0x4641444D50494E46, partition.header + size, 1, 0)
    head += struct.pack(sign + "44Q", *range(100, 144))
    head += struct.pack(sign + "Q", 3).ljust(mask, b"\0")
    partition.ram[partition.header : partition.header + 8192] = (head + behind).ljust(8192, b"\0")


@pytest.mark.parametrize("order", ORDERS)
def test_a_header_of_before_6_10_leads_to_vmcoreinfo_through_its_core_file(order) -> None:
    partition = Partition(order)
    note_at = partition.copy + 0x8000
    sign = ">" if order == "big" else "<"
    elf = bytearray(synthetic.core(order, [(0, b""), (partition.end + 0x2000, b"")]))
    elf[64 + 8 : 64 + 16] = struct.pack(sign + "Q", note_at)
    elf[64 + 32 : 64 + 40] = struct.pack(sign + "Q", 4096)
    v0_header(partition, order, 256, bytes(elf))
    dump = assembled(partition)
    assert dump.crash_info.version == 0
    assert dump.vmcoreinfo.text == synthetic.VMCOREINFO
    assert dump.crash_info.online == {0, 1}
    (hole,) = dump.memory.holes()
    assert hole.end == partition.end + 0x2000, "memory goes on where the core file says"


@pytest.mark.parametrize("place", [0, 1 << 62, (1 << 64) - 1, 3 * MIB])
def test_a_core_file_said_to_be_elsewhere_takes_no_memory_away(place) -> None:
    partition = Partition()
    v0_header(partition, "big", 256, b"")
    partition.ram[partition.header + 8 : partition.header + 16] = place.to_bytes(8, "big")
    dump = assembled(partition)
    assert dump.memory.size > 2 * MIB


def test_cpus_that_are_not_online_are_marked() -> None:
    partition = Partition()
    at = partition.end - 8
    partition.ram[at : at + 8] = struct.pack(">Q", 0b10)
    zero, one = assembled(partition).cpus
    assert (zero.online, one.online) == (False, True)


def test_online_cpus_without_registers_are_said_in_one_line() -> None:
    partition = Partition()
    at = partition.end - 8
    partition.ram[at : at + 8] = struct.pack(">Q", 0b1101_1111)
    (line,) = said(assembled(partition))
    assert line == (
        "CPUs 2-4,6-7: not in the register save area; what their registers held is lost"
    )


def test_the_second_area_of_a_kind_is_said() -> None:
    partition = Partition()
    cpu, low = sections(partition)
    dump = assembled(partition, sections=(cpu, cpu, low))
    assert len(dump.cpus) == 2
    assert any("more than one" in text for text in said(dump))


def test_a_section_of_the_os_without_copy_is_memory_in_its_place() -> None:
    partition = Partition()
    parameters = kernel_dump.Section(
        SectionType.PARAMETER_AREA, 3 * MIB + 65536, 2048, 3 * MIB + 65536, 2048
    )
    dump = assembled(partition, sections=(*sections(partition), parameters))
    assert said(dump) == []
    assert dump.memory.read(3 * MIB + 65536, 2048) == partition.before[3 * MIB + 65536 :][:2048]
