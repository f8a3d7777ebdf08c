"""Damaged and hostile input of every kind, from the opening to the converted file and back.

Whatever is done to what is read: a PhypanError of one line or a Dump with Problems, in little time
and memory, and no file but the finished or the unfinished one.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phypan
from phypan.errors import PhypanError
from phypan.formats import device_tree
from phypan.formats.device_tree import Node
from phypan.plugins.sources import elf
from tests import synthetic
from tests.damage import cut_short, extremes, flipped, words_at_extremes
from tests.synthetic import Partition

SMALL = {"size": 1 << 18, "boot": 1 << 16, "save": 1 << 17}
ORDERS = ["big", "little"]


@contextmanager
def bounded(gigabytes: float = 1) -> Iterator[None]:
    """Let this process have so much more memory than it has now, and no more."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + int(gigabytes * (1 << 30)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class InMemory:
    """An Output that is bytes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write_at(self, offset: int, data: bytes) -> None:
        self.truncate(max(len(self.data), offset + len(data)))
        self.data[offset : offset + len(data)] = data

    def copy(self, store: phypan.Store, offset: int, size: int, at: int) -> None:
        self.write_at(at, store.view(offset, size))

    def truncate(self, size: int) -> None:
        self.data += bytes(size - len(self.data))


def use(path: Path, regions: Iterable[Path] = ()) -> bool:
    """Open, ask, show, convert and open again; whether it could be opened."""
    with contextlib.ExitStack() as stack:
        try:
            dump = stack.enter_context(phypan.open(path, regions=regions))
        except PhypanError as error:
            said = str(error)
        else:
            look_at(dump)
            return True
    assert said
    assert "\n" not in said
    return False


def look_at(dump: phypan.Dump) -> None:
    for renderer in ("table", "json"):
        phypan.render(phypan.run(dump, "info"), dump, renderer=renderer, file=io.StringIO())
    assert all(problem.what and problem.where and problem.meaning for problem in dump.problems)
    assert len(dump.problems) < 100
    output = InMemory()
    phypan.writers()["elf"].write(dump, output, lambda done, total: None)
    given = phypan.Input(Path("out"), phypan.BytesStore(output.data), bytes(output.data[:4096]))
    again = elf.open_(given)
    assert again.memory.size == dump.memory.size
    assert again.incomplete == dump.incomplete
    assert again.problems[: len(dump.problems)] == dump.problems
    assert len(again.problems) <= len(dump.problems) + (not dump.memory.size)
    assert {cpu.number for cpu in again.cpus} >= {cpu.number for cpu in dump.cpus if cpu.online}
    assert set(again.notes) == set(dump.notes)


def survived(
    damaged: Iterable[bytes], write: Callable[[bytes], object], use_it: Callable[[], bool]
) -> int:
    """How many of the damaged could be used."""
    count = 0
    with bounded():
        for data in damaged:
            write(data)
            began = time.process_time()
            try:
                count += use_it()
            except Exception as error:
                raise AssertionError(f"{len(data)} bytes: {data[:300].hex()}") from error
            assert time.process_time() - began < 5, data[:300].hex()
    return count


@pytest.fixture
def crashed(folder):
    """A small partition in a directory: the image, and what to call to use it."""

    class Crashed:
        def __init__(self, order: str) -> None:
            self.partition = Partition(order, **SMALL)
            self.partition.save_to(folder)
            self.ram, self.property = folder / "ram", folder / "ibm,kernel-dump"

        def use(self) -> bool:
            return use(self.ram, [self.property])

        def patch(self, at: int) -> Callable[[bytes], None]:
            """A function that writes bytes over the image at an address."""

            def write(data: bytes) -> None:
                with self.ram.open("r+b") as file:
                    file.seek(at)
                    file.write(data)

            return write

    return Crashed


def test_the_property_cut_at_every_byte(crashed) -> None:
    it = crashed("big")
    cut = cut_short(it.partition.property)
    assert survived(cut, it.property.write_bytes, it.use) == len(cut) - 80, "with one section"


@pytest.mark.parametrize("width", [2, 4, 8])
def test_every_field_of_the_property_at_extreme_values(crashed, width) -> None:
    it = crashed("little")
    damaged = words_at_extremes(it.partition.property, width, "big")[:: 3 if width == 2 else 1]
    assert survived(damaged, it.property.write_bytes, it.use) > len(damaged) // 2


def test_sections_that_overlap_exceed_memory_or_wrap_around(crashed) -> None:
    """All pairs of absurd and of touching places for two sections, and twelve of them."""
    it = crashed("big")
    size = it.partition.size
    places = [0, 1, 4096, size - 1, size, size + 1, 1 << 40, (1 << 64) - 4096, (1 << 64) - 1]
    lengths = [0, 1, 1 << 16, size, 1 << 40, (1 << 64) - 1]
    damaged = [
        synthetic.kernel_dump(
            synthetic.section(kind, source, length, place),
            synthetic.section(0x11, 0, it.partition.boot, it.partition.copy),
        )
        for kind in (1, 0x11)
        for source in (0, 1 << 63)
        for length in lengths
        for place in places
    ]
    damaged.append(synthetic.kernel_dump(*[synthetic.section(0x11, 0, 4096, 8192)] * 12))
    damaged.append(synthetic.kernel_dump(*[synthetic.section(0x11, 0, 1, 2)] * 65535))
    assert survived(damaged, it.property.write_bytes, it.use) == len(damaged)


@pytest.mark.parametrize("order", ORDERS)
def test_every_field_of_the_crash_info_header_at_extreme_values(crashed, order) -> None:
    it = crashed(order)
    header = bytes(it.partition.ram[it.partition.header : it.partition.end])
    for width in (4, 8):
        damaged = words_at_extremes(header, width, order, 40)
        assert survived(damaged, it.patch(it.partition.header), it.use) == len(damaged)


@pytest.mark.parametrize("order", ORDERS)
def test_every_field_of_the_old_crash_info_header_at_extreme_values(crashed, order) -> None:
    it = crashed(order)
    sign = ">" if order == "big" else "<"
    header = struct.pack(sign + "QQII", 0x4641444D50494E46, it.partition.header + 632, 1, 0)
    header += bytes(352) + struct.pack(sign + "Q", 3).ljust(256, b"\0")
    header += synthetic.core(order, [(0, b""), (1 << 17, b"")])
    it.patch(it.partition.header)(header)
    for at, width, size in ((0, 8, 24), (0, 4, 24), (632, 8, 64 + 168), (632, 2, 64)):
        words = words_at_extremes(header[at:], width, order, size)
        damaged = [header[:at] + rest for rest in words[:: 2 if at else 1]]
        assert survived(damaged, it.patch(it.partition.header), it.use) == len(damaged)


def test_every_word_of_the_register_save_area_at_extreme_values(crashed) -> None:
    it = crashed("big")
    area = bytes(it.partition.ram[it.partition.save : it.partition.save + 0x80])
    damaged = words_at_extremes(area, 4, "big")
    assert survived(damaged, it.patch(it.partition.save), it.use) == len(damaged)


@pytest.mark.parametrize("order", ORDERS)
def test_the_note_with_vmcoreinfo_at_extreme_values(crashed, order) -> None:
    it = crashed(order)
    at = it.partition.copy + 0x8000
    note = bytes(it.partition.ram[at : at + 64])
    damaged = words_at_extremes(note, 4, order)
    assert survived(damaged, it.patch(at), it.use) == len(damaged)


def test_the_image_cut_anywhere(crashed) -> None:
    it = crashed("big")
    p = it.partition
    borders = (0, p.boot, p.save, p.save + 0x20, p.copy, p.copy + 0x8000, p.header, p.end, p.size)
    sizes = sorted({max(0, border + n) for border in borders for n in (-1, 0, 1, 16)})
    cut = [bytes(p.ram[:size]) for size in sizes]
    assert survived(cut, it.ram.write_bytes, it.use) == len(cut)


def test_the_device_tree_at_extreme_values(crashed, folder) -> None:
    it = crashed("big")
    it.property.unlink()
    reg = struct.pack(">QQQQ", 0, it.partition.size, 1 << 40, 4096)
    nodes = (
        Node("rtas", {"ibm,kernel-dump": it.partition.property}),
        Node("memory@0", {"device_type": b"memory\0", "reg": reg}),
        Node(
            "ibm,dynamic-reconfiguration-memory",
            {
                "ibm,lmb-size": (4096).to_bytes(8, "big"),
                "ibm,dynamic-memory-v2": struct.pack(">IIQIII", 1, 2, 1 << 41, 0, 0, 8),
            },
        ),
    )
    cells = dict.fromkeys(("#address-cells", "#size-cells"), b"\0\0\0\2")
    blob = device_tree.write(Node("/", cells, nodes))
    tree = folder / "boot2.dtb"
    damaged = [*words_at_extremes(blob, 4, "big")[::2], *cut_short(blob)[::7]]
    assert survived(damaged, tree.write_bytes, lambda: use(it.ram, [tree])) > 100


def vmcore(order: str) -> bytes:
    """A core file with two CPUs, VMCOREINFO and two segments."""
    notes = b"".join(
        synthetic.prstatus(order, pid, [0] * 33 + [0x8000000000001032 | (order == "little")])
        for pid in (1, 2)
    ) + synthetic.note(b"VMCOREINFO", 0, synthetic.VMCOREINFO, order)
    return synthetic.core(order, [(0, b"x" * 4096), (1 << 20, b"y" * 4096)], notes)


@pytest.mark.parametrize("order", ORDERS)
def test_a_core_file_cut_at_every_byte_of_its_headers(folder, order) -> None:
    data, path = vmcore(order), folder / "vmcore"
    head = 64 + 3 * 56
    cut = [data[:size] for size in [*range(head + 600), *range(head + 600, len(data), 331)]]
    used = survived(cut, path.write_bytes, lambda: use(path))
    assert used == len(cut) - head, "with whole program headers"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("width", [2, 4, 8])
def test_every_field_of_a_core_files_headers_at_extreme_values(folder, order, width) -> None:
    data, path = vmcore(order), folder / "vmcore"
    damaged = words_at_extremes(data, width, order, 64 + 3 * 56 + 12)
    damaged = damaged[:: 3 if width == 2 else 1]
    used = survived(damaged, path.write_bytes, lambda: use(path))
    assert used > len(damaged) // 2


@pytest.mark.parametrize("order", ORDERS)
def test_phypans_own_file_damaged_in_any_note(folder, order) -> None:
    partition = Partition(order, **SMALL)
    with phypan.open(partition.save_to(folder / "crashed")) as dump:
        phypan.convert(dump, folder / "whole")
    data, path = (folder / "whole").read_bytes(), folder / "vmcore"
    notes = data.index(b"CORE\0") - 12
    end = data.index(b'{"phypan"') + 1
    damaged = [
        data[:at] + value.to_bytes(4, order) + data[at + 4 :]
        for at in range(notes, end, 52)
        for value in extremes(4)[1::3]
    ]
    used = survived(damaged, path.write_bytes, lambda: use(path))
    assert used == len(damaged)


@given(st.sampled_from(ORDERS), st.data())
@settings(max_examples=60)
def test_random_bits_of_everything_flipped(tmp_path_factory, order, data) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    partition = Partition(order, **SMALL)
    partition.save_to(folder)
    (folder / "ibm,kernel-dump").write_bytes(data.draw(flipped(partition.property, 3)))
    ram = bytearray(partition.ram)
    for start, end in ((partition.save, partition.save + 200), (partition.header, partition.end)):
        piece = data.draw(flipped(bytes(ram[start:end]), 3))
        ram[start : start + len(piece)] = piece
    (folder / "ram").write_bytes(ram)
    with bounded():
        use(folder / "ram", [folder / "ibm,kernel-dump"])
        (folder / "vmcore").write_bytes(data.draw(flipped(vmcore(order), 5)))
        use(folder / "vmcore")


def test_real_dumps_with_every_field_of_their_property_at_extreme_values(real, folder) -> None:
    """Not converted, for each has a gigabyte; the memory that can be read is asked for."""
    blob = real.device_tree.read_bytes()
    whole = device_tree.kernel_dump(device_tree.read(blob))
    path = folder / "property"

    def look() -> None:
        with contextlib.suppress(PhypanError), phypan.open(real.ram, regions=[path]) as dump:
            assert list(phypan.run(dump, "info"))
            for piece in dump.memory.pieces(0, 1 << 32):
                if isinstance(piece, phypan.Extent):
                    assert len(dump.memory.read(piece.start, min(64, piece.size))) > 0

    damaged = words_at_extremes(whole, 8, "big", 200)[:: 4 if real.name == "le-hash8" else 16]
    with bounded(4):
        for data in damaged:
            path.write_bytes(data)
            look()


def test_a_real_kernels_own_head_damaged(real, folder) -> None:
    data, path = real.vmcore_head, folder / "vmcore"
    order = "big" if real.name.startswith("be") else "little"
    head = 64 + 3 * 56
    damaged = [data[:size] for size in range(0, head, 3)]
    damaged += words_at_extremes(data, 8, order, head)[::3]
    damaged += [
        data[:0x10000] + words + data[0x10040:]
        for words in words_at_extremes(data[0x10000:0x10040], 4, order)[::3]
    ]

    def look() -> bool:
        with contextlib.suppress(PhypanError), phypan.open(path) as dump:
            return bool(list(phypan.run(dump, "info")))
        return False

    assert survived(damaged, path.write_bytes, look) > len(damaged) // 2


COMMANDS = {
    "nothing there": lambda folder: ("info", folder / "nothing"),
    "an empty file": lambda folder: ("info", folder / "empty"),
    "an empty file as target's source": lambda folder: ("convert", folder / "empty", folder / "v"),
    "a directory without a dump": lambda folder: ("info", folder / "sub"),
    "a cut core file": lambda folder: ("convert", folder / "cut", folder / "v"),
    "regions that are none": lambda folder: (
        "convert", folder / "crashed" / "ram", "--regions", folder / "empty", folder / "v",
    ),
    "a device": lambda folder: ("info", "/dev/zero"),
    "a fifo": lambda folder: ("info", folder / "fifo"),
    "a target in no folder": lambda folder: ("convert", folder / "crashed", folder / "x" / "v"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_says_it_in_one_line(phypan_command, folder, name) -> None:
    Partition(**SMALL).save_to(folder / "crashed")
    (folder / "empty").touch()
    (folder / "sub").mkdir()
    (folder / "cut").write_bytes(vmcore("big")[:100])
    os.mkfifo(folder / "fifo")
    before = set(os.listdir(folder))
    done = phypan_command(*COMMANDS[name](folder), timeout=60)
    assert done.code == 1
    assert done.out == ""
    lines = done.err.splitlines()
    assert lines[0].startswith("phypan: ")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))
    assert set(os.listdir(folder)) - before <= {"v.incomplete"}


def test_no_permission(folder, unprivileged) -> None:
    partition = Partition(**SMALL)
    partition.save_to(folder / "crashed")
    for name in ("ram", "ibm,kernel-dump"):
        (folder / "crashed" / name).chmod(0o600)

    def attempt() -> str:
        told = []
        for arguments in (["info", "crashed"], ["convert", "crashed", "v"]):
            try:
                with phypan.open(arguments[1]):
                    told.append("opened")
            except PhypanError as error:
                told.append(f"{error} | {error.hint}")
        return "\n".join(told)

    for line in unprivileged(attempt, folder).splitlines():
        assert "Permission denied | dumps are readable by their owner only" in line


def test_a_full_disk(phypan_command, folder) -> None:
    """A limit of the size of files is what a disk that is full looks like, and needs no root."""
    crashed = Partition().save_to(folder / "crashed")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    done = phypan_command("convert", crashed, folder / "v", preexec_fn=limit)
    assert (done.code, done.out) == (1, "")
    first, second = done.err.splitlines()
    assert first == f"phypan: {folder / 'v'}.incomplete: File too large"
    assert "the unfinished file was kept" in second
    assert sorted(os.listdir(folder)) == ["crashed", "v.incomplete"]


def test_a_source_that_shrinks_while_it_is_converted(folder) -> None:
    crashed = Partition().save_to(folder / "crashed")
    with phypan.open(crashed) as dump:
        os.truncate(crashed / "ram", 3 << 20)
        with pytest.raises(phypan.InputError, match="shorter"):
            phypan.convert(dump, folder / "v")
    assert sorted(os.listdir(folder)) == ["crashed", "v.incomplete"]
