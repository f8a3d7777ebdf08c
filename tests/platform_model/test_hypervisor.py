"""RTAS calls and preserving, against what LoPAR says of them."""

from __future__ import annotations

import struct

import pytest

from phypan.formats import hptesave, kernel_dump, regsave
from phypan.formats.kernel_dump import ErrorFlag, KernelDump, Section, SectionType, Status
from phypan.platform import hypervisor as rtas
from phypan.platform import lpar
from phypan.platform.faults import Fault
from phypan.platform.hypervisor import Hypervisor

ARGUMENTS, STRUCTURE = 0x1000, 0x2000
LOW = Section(SectionType.REAL_MODE_REGION, 0, 0x100000, 0x1000000)


@pytest.fixture
def partition() -> lpar.Lpar:
    return lpar.make(memory=64 << 20, cpus=3, hash_mmu=True, seed=1)


def call(hypervisor: Hypervisor, token: int, *inputs: int, outputs: int = 1) -> int:
    """As the operating system does it: a buffer of big-endian cells; the status is an output."""
    memory = hypervisor.lpar.memory
    memory.write(
        ARGUMENTS, struct.pack(f">{3 + len(inputs)}I", token, len(inputs), outputs, *inputs)
    )
    status = hypervisor.rtas(ARGUMENTS)
    (told,) = struct.unpack(">i", memory.read(ARGUMENTS + 12 + 4 * len(inputs), 4))
    assert told == status
    return status


def register(hypervisor: Hypervisor, *sections: Section) -> int:
    data = kernel_dump.write(KernelDump(sections))
    hypervisor.lpar.memory.write(STRUCTURE, data)
    return call(hypervisor, rtas.CONFIGURE_KERNEL_DUMP, rtas.REGISTER, STRUCTURE, len(data))


def crash(hypervisor: Hypervisor) -> KernelDump:
    hypervisor.lpar.memory.write(0x3000, b"OS panic: test\0")
    assert call(hypervisor, rtas.OS_TERM, 0x3000) == rtas.SUCCESS
    waiting = hypervisor.kernel_dump_property()
    assert waiting is not None
    return kernel_dump.read(waiting)


def test_the_states_of_a_registration(partition) -> None:
    hypervisor = Hypervisor(partition)
    assert call(hypervisor, rtas.OS_TERM, 0x3000) == rtas.HARDWARE_ERROR, "nothing is registered"
    assert register(hypervisor, LOW) == rtas.SUCCESS
    assert register(hypervisor, LOW) == rtas.ALREADY_REGISTERED
    configure = rtas.CONFIGURE_KERNEL_DUMP
    assert call(hypervisor, configure, rtas.INVALIDATE, 0, 0) == rtas.PARAMETER_ERROR
    assert call(hypervisor, configure, rtas.UNREGISTER, 0, 0) == rtas.SUCCESS
    assert register(hypervisor, LOW) == rtas.SUCCESS
    assert hypervisor.kernel_dump_property() is None, "no dump before the crash"
    crash(hypervisor)
    assert register(hypervisor, LOW) == rtas.DUMP_ACTIVE
    assert call(hypervisor, configure, rtas.UNREGISTER, 0, 0) == rtas.DUMP_ACTIVE
    assert call(hypervisor, configure, rtas.INVALIDATE, 0, 0) == rtas.SUCCESS
    assert hypervisor.kernel_dump_property() is None, "none after it was taken"
    assert register(hypervisor, LOW) == rtas.SUCCESS


@pytest.mark.parametrize("size", [0, 39, 40, 79, 81, 1 << 31])
def test_a_wrong_length_is_a_parameter_error(partition, size) -> None:
    hypervisor = Hypervisor(partition)
    partition.memory.write(STRUCTURE, kernel_dump.write(KernelDump((LOW,))))
    configure = rtas.CONFIGURE_KERNEL_DUMP
    assert call(hypervisor, configure, rtas.REGISTER, STRUCTURE, size) == rtas.PARAMETER_ERROR


def test_unknown_calls_are_parameter_errors(partition) -> None:
    hypervisor = Hypervisor(partition)
    assert call(hypervisor, 0x9999, 1) == rtas.PARAMETER_ERROR
    assert call(hypervisor, rtas.CONFIGURE_KERNEL_DUMP, 4, 0, 0) == rtas.PARAMETER_ERROR
    assert call(hypervisor, rtas.CONFIGURE_KERNEL_DUMP, 1) == rtas.PARAMETER_ERROR
    assert register(hypervisor, *[LOW] * 11) == rtas.PARAMETER_ERROR, "ten sections at the most"
    assert register(hypervisor, *[LOW] * 10) == rtas.SUCCESS


def test_busy_and_refused(partition) -> None:
    busy = Hypervisor(partition, faults=frozenset({Fault.BUSY}))
    statuses = [register(busy, LOW) for _ in range(3)]
    assert statuses == [rtas.EXTENDED_DELAY_1MS, rtas.BUSY, rtas.SUCCESS]
    refused = Hypervisor(partition, faults=frozenset({Fault.REFUSED}))
    assert register(refused, LOW) == rtas.HARDWARE_ERROR


def test_what_the_guest_writes_later_does_not_count(partition) -> None:
    hypervisor = Hypervisor(partition)
    register(hypervisor, LOW)
    partition.memory.write(STRUCTURE, bytes(80))
    assert crash(hypervisor).sections[0].destination == LOW.destination


def test_sections_are_carried_out(partition) -> None:
    hypervisor = Hypervisor(partition)
    partition.memory.write(0x12345, b"low memory")
    cpu = Section(SectionType.CPU_STATE, 0, hypervisor.cpu_area_size, 0x2000000)
    hpte = Section(SectionType.HPTE, 0, hypervisor.hpte_area_size, 0x2100000)
    own = Section(0x4242, 0x12345, 10, 0x2200000)
    assert register(hypervisor, cpu, hpte, LOW, own) == rtas.SUCCESS
    dump = crash(hypervisor)
    assert dump.status == Status.PERFORMED | Status.TRIGGERED
    assert [(s.dumped, s.error_flags) for s in dump.sections] == [
        (s.length, 0) for s in (cpu, hpte, LOW, own)
    ]
    memory = partition.memory
    assert memory.read(0x1012345, 10) == memory.read(0x2200000, 10) == b"low memory"
    area = regsave.read(memory.read(cpu.destination, cpu.length))
    assert [(c.number, c.registers) for c in area.cpus] == [
        (p.number, p.registers) for p in partition.processors
    ]
    entries = hptesave.read(memory.read(hpte.destination, hpte.length)).entries
    assert len(entries) == 4, "64 MiB of VRMA in pages of 16 MiB"


@pytest.mark.parametrize(
    ("section", "flag"),
    [
        (Section(0x0005, 0, 0x1000, 0x2000000), ErrorFlag.INVALID_TYPE),
        (Section(0x0011, 64 << 20, 0x1000, 0x2000000), ErrorFlag.INVALID_SOURCE),
        (Section(0x0011, 63 << 20, 2 << 20, 0x2000000), ErrorFlag.LENGTH_EXCEEDS_SOURCE),
        (Section(0x0011, 0, 2 << 20, 63 << 20), ErrorFlag.INVALID_DESTINATION),
        (Section(0x0001, 0, 0x100, 0x2000000), ErrorFlag.DESTINATION_TOO_SMALL),
    ],
)
def test_each_error_flag_has_its_cause(partition, section, flag) -> None:
    hypervisor = Hypervisor(partition)
    assert register(hypervisor, section, LOW) == rtas.SUCCESS
    dump = crash(hypervisor)
    assert dump.sections[0].error_flags == flag
    assert dump.sections[0].dumped == (section.length if section.type == 1 else 0)
    assert dump.sections[1].error_flags == 0, "the others are carried out all the same"
    assert dump.status & Status.ERROR


def test_qemus_layout(partition) -> None:
    """79 entries for each CPU, the count at byte 0x10, 12 bytes of rubbish at the end."""
    hypervisor = Hypervisor(partition, layout="qemu")
    assert hypervisor.cpu_area_size == 0x20 + 79 * 16 * 3
    assert hypervisor.hpte_area_size == 0
    cpu = Section(SectionType.CPU_STATE, 0, hypervisor.cpu_area_size, 0x2000000)
    register(hypervisor, cpu)
    crash(hypervisor)
    area = regsave.read(partition.memory.read(cpu.destination, cpu.length))
    assert area.num_cpus_offset == 0x10
    assert area.problems == ()
    assert [len(c.registers) for c in area.cpus] == [77] * 3
