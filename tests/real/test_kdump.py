"""Compressed dumps of real kernels: what comes back, what peers make of them, and theirs.

crash, drgn, libkdumpfile and makedumpfile are asked about phypan's files; phypan reads those that
makedumpfile and QEMU wrote.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import phypan
from phypan import Hole
from phypan.formats import elfcore
from tests import real_dumps
from tests.makedumpfiles import OUR_NAMES, filtered_by, kept
from tests.needs import missing
from tests.peers import run_folder

PAGE = 65536
FRAMES = 0x5000  # of the real dumps, 1.25 GiB
CODECS = ("none", "zlib", "lzo", "snappy", "zstd")
LITTLE = ("le-hash8", "le-radix10")
# The crash for big-endian is a static one: it has gdb's zlib, and no other compression.
IN_CRASH = [
    *((name, codec) for name in LITTLE for codec in CODECS),
    *(("be-radix9", codec) for codec in ("none", "zlib")),
]
ANSWERS = ("ps", "bt -a", "log", "kmem -i", "mod")


@pytest.fixture(scope="session")
def compressed(tmp_path_factory, vmcores) -> Callable[..., Path]:
    """The compressed dump of a real vmcore, made once for all workers of a run."""
    folder = run_folder(tmp_path_factory)

    def make(real: real_dumps.RealDump, codec: str, level: int = 0) -> Path:
        path = folder / f"kdump-{real.name}-{codec}-{level}"
        with (folder / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                phypan.convert(
                    vmcores(real).ours, path, format="kdump", compress=codec, dump_level=level
                )
        return path

    return make


def mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def taken_apart(data: memoryview) -> tuple[elfcore.ElfCore, list[elfcore.Note]]:
    core = elfcore.read(lambda at, size: data[at : at + size], len(data))
    first = core.segments[0]
    notes = elfcore.read_notes(data[first.offset : first.offset + first.filesz], core.order)
    return core, list(notes)


def told(note: elfcore.Note) -> object:
    """A note, but for the name of the file that it was made of."""
    data = bytes(note.data)
    if note.name != b"PHYPAN" or not data.startswith(b"{"):
        return note.name, note.type, data
    return {key: value for key, value in json.loads(data).items() if key != "source"}


@pytest.mark.parametrize("codec", CODECS)
def test_from_elf_to_compressed_to_elf_nothing_changes(
    real, compressed, folder, codec, vmcores
) -> None:
    phypan.convert(compressed(real, codec), folder / "again")
    first, second = mapped(vmcores(real).ours), mapped(folder / "again")
    (core, notes), (again, others) = taken_apart(first), taken_apart(second)
    assert [told(note) for note in others] == [told(note) for note in notes]
    assert (core.order, core.flags) == (again.order, again.flags)
    places = [(load.paddr, load.vaddr, load.filesz, load.memsz) for load in core.loads]
    assert places == [(load.paddr, load.vaddr, load.filesz, load.memsz) for load in again.loads]
    for one, other in zip(core.loads, again.loads, strict=True):
        assert one.filesz
        for done in range(0, one.filesz, 16 << 20):
            size = min(16 << 20, one.filesz - done)
            here = first[one.offset + done : one.offset + done + size]
            there = second[other.offset + done : other.offset + done + size]
            assert bytes(here) == bytes(there), hex(one.paddr + done)


LIBKDUMPFILE = """
import json, sys, zlib, kdumpfile
file = kdumpfile.kdumpfile(sys.argv[1])
found = {}
for pfn in range(int(sys.argv[2])):
    try:
        page = file.read(kdumpfile.KDUMP_MACHPHYSADDR, pfn * 65536, 65536)
    except kdumpfile.exceptions.NoDataException:
        continue
    found[pfn] = zlib.crc32(page)
print(json.dumps(found))
"""


def pages_of(path: Path) -> dict[str, int]:
    """The CRC-32 of each page of an ELF vmcore by page frame number, read without phypan's help."""
    data = mapped(path)
    core, _ = taken_apart(data)
    found: dict[str, int] = {}
    for load in core.loads:
        at, end = load.paddr, load.paddr + load.filesz
        while at < end:
            low = at // PAGE * PAGE
            stop = min(low + PAGE, end)
            page = bytes(at - low) + data[load.offset + at - load.paddr :][: stop - at]
            found[str(low // PAGE)] = zlib.crc32(page.ljust(PAGE, b"\0"))
            at = stop
    return found


@pytest.mark.parametrize("codec", CODECS)
def test_libkdumpfile_reads_every_page_equal(
    real, compressed, libkdumpfile, codec, vmcores
) -> None:
    found = json.loads(libkdumpfile(LIBKDUMPFILE, compressed(real, codec), FRAMES))
    assert len(found) > 15000
    assert found == pages_of(vmcores(real).ours)


@pytest.mark.parametrize(("name", "codec"), IN_CRASH)
def test_crash_gives_the_same_ps(real_dump, compressed, crash, crash_says, name, codec) -> None:
    real = real_dump(name)
    said = crash(real, compressed(real, codec), "ps")
    assert said.get("ps") == crash_says(real, "ps"), said["messages"][-500:]


def test_crash_answers_the_same_from_the_filtered_dump(real, compressed, crash, crash_says) -> None:
    path = compressed(real, "zlib", 31)
    assert path.stat().st_size < compressed(real, "zlib").stat().st_size * 3 // 4
    said = crash(real, path, *ANSWERS)
    for command in ANSWERS:
        assert said.get(command) == crash_says(real, command), command


def drgns(real: real_dumps.RealDump, path: Path) -> dict[str, object]:
    """What drgn says of tasks, stacks, log, memory and modules."""
    try:
        import drgn
    except ImportError:
        missing("drgn is not installed")
    from drgn.helpers.linux import (
        cpu_curr,
        for_each_module,
        for_each_online_cpu,
        for_each_task,
        global_node_page_state,
        global_zone_page_state,
        totalram_pages,
    )
    from drgn.helpers.linux.printk import get_dmesg

    prog = drgn.Program()
    prog.set_core_dump(str(path))
    prog.load_debug_info([str(real.vmlinux)])
    tasks = list(for_each_task(prog))
    running = [cpu_curr(prog, cpu) for cpu in for_each_online_cpu(prog)]
    return {
        "ps": [(int(task.pid), task.comm.string_(), task.mm.value_()) for task in tasks],
        "bt -a": [str(prog.stack_trace(task)) for task in running],
        "bt of who sleeps": [str(prog.stack_trace(task)) for task in tasks if task not in running],
        "log": get_dmesg(prog),
        "kmem -i": (
            int(totalram_pages(prog)),
            int(global_zone_page_state(prog, prog["NR_FREE_PAGES"])),
            int(global_node_page_state(prog, prog["NR_FILE_PAGES"])),
        ),
        "mod": [module.name.string_() for module in for_each_module(prog)],
    }


def test_drgn_answers_the_same_from_the_filtered_dump(real, compressed) -> None:
    whole = drgns(real, compressed(real, "zstd"))
    assert len(whole["ps"]) > 40
    assert drgns(real, compressed(real, "zstd", 31)) == whole


@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_a_split_set_and_a_stream_hold_the_same(real_dump, compressed, folder, codec) -> None:
    whole = compressed(real_dump("le-radix10"), codec)
    with phypan.open(whole) as dump:
        parts = phypan.convert(dump, folder / "part", format="kdump", compress=codec, split=3)
        phypan.convert(dump, folder / "flat", format="kdump", compress=codec, flattened=True)
        with phypan.open(*parts.paths) as split, phypan.open(folder / "flat") as flat:
            whole_memory = checksums(dump)
            assert checksums(split) == checksums(flat) == whole_memory
    phypan.join(parts.paths, folder / "joined")
    with phypan.open(folder / "joined") as joined:
        assert checksums(joined) == whole_memory


def checksums(dump: phypan.Dump) -> dict[int, tuple[int, int] | str]:
    """Of all that is there the size and CRC-32 by 1 MiB of addresses; of holes the reasons."""
    found: dict[int, tuple[int, int] | str] = {}
    for piece in dump.memory.pieces(0, dump.memory.end):
        if isinstance(piece, Hole):
            found[piece.start] = f"{piece.size} {piece.why}"
            continue
        for low in range(piece.start, piece.end, 1 << 20):
            size = min(1 << 20, piece.end - low)
            found[low] = size, zlib.crc32(dump.memory.read(low, size))
    return found


# makedumpfile


@pytest.mark.parametrize(
    ("name", "level"),
    [("le-hash8", 31), *(("le-radix10", level) for level in (1, 2, 4, 8, 16, 31))],
)
def test_each_page_is_left_out_that_makedumpfile_leaves_out(
    real_dump, compressed, makedumpfile, folder, name, level, vmcores
) -> None:
    real = real_dump(name)
    counted = filtered_by(
        makedumpfile, vmcores(real).ours, folder / "theirs", "-c", "-d", str(level)
    )
    done = phypan.convert(
        vmcores(real).ours, folder / "ours", format="kdump", compress="lzo", dump_level=level
    )
    assert done.excluded == {OUR_NAMES[k]: n for k, n in counted.items() if k in OUR_NAMES and n}
    if level & 1:
        assert done.written[0].zeros == counted["Pages filled with zero"]
        written = done.written[0].pages - done.written[0].zeros
        assert written == counted["Remaining pages"]
    with phypan.open(folder / "ours") as ours, phypan.open(folder / "theirs") as theirs:
        assert ours.dump_level == theirs.dump_level == level
        assert kept(ours) == kept(theirs)
        for piece in theirs.memory.pieces(0, theirs.memory.end):
            if not isinstance(piece, Hole):
                assert ours.memory.read(piece.start, 64) == theirs.memory.read(piece.start, 64)


@pytest.mark.parametrize("name", LITTLE)
@pytest.mark.parametrize("letter", ["-c", "-l", "-z", "-F"])
def test_what_makedumpfile_wrote_is_read(
    real_dump, makedumpfile, folder, name, letter, vmcores
) -> None:
    real, target = real_dump(name), folder / "theirs"
    if letter == "-F":
        with target.open("wb") as file:
            words = [makedumpfile, "-F", "-l", "-d", "0", vmcores(real).ours]
            subprocess.run(words, stdout=file, stderr=subprocess.DEVNULL, check=True)
    else:
        filtered_by(makedumpfile, vmcores(real).ours, target, letter, "-d", "0")
    with phypan.open(target) as dump, phypan.open(real.path) as first:
        assert dump.vmcoreinfo == first.vmcoreinfo
        assert [cpu.regs() for cpu in dump.cpus] == [cpu.regs() for cpu in first.cpus]
        assert not any(row.address is not None for row in phypan.verify(dump))
        found = {str(pfn): zlib.crc32(page) for pfn, page in whole_pages(dump)}
    expected = pages_of(vmcores(real).ours)
    assert found == {pfn: expected[pfn] for pfn in found}
    assert len(found) >= len(expected) - 1, "it drops a page of which only a part is memory"


def whole_pages(dump: phypan.Dump) -> Iterator[tuple[int, bytes]]:
    for piece in dump.memory.extents:
        for at in range(-(-piece.start // PAGE) * PAGE, piece.end - PAGE + 1, PAGE):
            yield at // PAGE, dump.memory.read(at, PAGE)


@pytest.mark.parametrize("name", LITTLE)
@pytest.mark.parametrize("codec", ["zlib", "lzo", "zstd"])
def test_makedumpfile_reads_phypans_file(
    real_dump, compressed, makedumpfile, folder, name, codec, vmcores
) -> None:
    real = real_dump(name)
    of_ours = filtered_by(makedumpfile, compressed(real, codec), folder / "a", "-c", "-d", "31")
    of_elf = filtered_by(makedumpfile, vmcores(real).ours, folder / "b", "-c", "-d", "31")
    assert of_ours.get("Remaining pages", 0) == of_elf["Remaining pages"]
    with phypan.open(folder / "a") as one, phypan.open(folder / "b") as other:
        assert kept(one) == kept(other)


def test_a_split_set_is_put_together_by_makedumpfile(
    real_dump, compressed, makedumpfile, folder
) -> None:
    real = real_dump("le-radix10")
    whole = compressed(real, "zlib")
    parts = phypan.convert(whole, folder / "part", format="kdump", compress="zlib", split=2)
    subprocess.run(
        [makedumpfile, "--reassemble", *parts.paths, folder / "joined"],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    with phypan.open(folder / "joined") as joined, phypan.open(whole) as first:
        assert list(phypan.verify(joined)) == []
        assert checksums(joined) == checksums(first)


def test_crash_and_libkdumpfile_open_what_is_repaired(
    real_dump, compressed, crash, crash_says, libkdumpfile, folder, vmcores
) -> None:
    """Five bits are flipped in the last sixteenth of the file, and its end is cut off."""
    real = real_dump("le-radix10")
    data = bytearray(compressed(real, "zlib").read_bytes())
    for n in range(5):
        data[len(data) * 15 // 16 + n * 70_000] ^= 1 << n
    (folder / "damaged").write_bytes(data[:-1000])
    with phypan.open(folder / "damaged") as dump:
        found = [row for row in phypan.verify(dump) if row.address is not None]
        lost = {str(row.address // PAGE + n) for row in found for n in range(row.size // PAGE)}
    assert len(lost) >= 6
    phypan.repair([folder / "damaged"], folder / "repaired")
    with phypan.open(folder / "repaired") as dump:
        assert dump.incomplete
        assert [row.where for row in phypan.verify(dump)] == ["memory"] * len(found)
    pages = json.loads(libkdumpfile(LIBKDUMPFILE, folder / "repaired", FRAMES))
    expected = pages_of(vmcores(real).ours)
    assert pages == {pfn: expected[pfn] for pfn in expected if pfn not in lost}
    said = crash(real, folder / "repaired", "ps")
    assert said.get("ps") == crash_says(real, "ps"), said["messages"][-500:]


# QEMU


@pytest.mark.parametrize("letter", ["", "-z"])
def test_what_qemu_wrote_of_memory_that_is_known_is_read(qemu, folder, letter) -> None:
    content = b"".join(bytes([n]) * PAGE if n % 3 else noise(n) for n in range(24))
    (folder / "content").write_bytes(content)
    loader = f"loader,file={folder / 'content'},addr=0x1000000,force-raw=on"
    subprocess.run(
        [qemu, "-M", "pseries", "-accel", "tcg", "-m", "256M", "-S", "-nodefaults",
         "-display", "none", "-monitor", "stdio", "-device", loader],
        input=f"dump-guest-memory {letter} {folder / 'dump'}\nquit\n",
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    head = (folder / "dump").read_bytes()[:12]
    assert head.startswith(b"makedumpfile" if letter else b"\x7fELF")
    with phypan.open(folder / "dump") as dump:
        assert dump.memory.size == 256 << 20
        assert (dump.byte_order, dump.page_size) == ("big", PAGE)
        assert dump.memory.read(0x1000000, len(content)) == content
        assert not any(dump.memory.read(0x1000000 + len(content), 1 << 20))
        assert dump.cpus[0].regs()["nip"] == 0x100
        assert not any(row.address is not None for row in phypan.verify(dump))


def noise(seed: int) -> bytes:
    import random

    return random.Random(seed).randbytes(PAGE)


@pytest.mark.parametrize("suffix", ["zlib", "raw-zlib"])
def test_what_qemu_wrote_of_a_kernel_equals_its_elf(suffix) -> None:
    files = [
        (path / f"vmcore.{suffix}", path / "vmcore")
        for path in real_dumps.FURTHER.glob("*-plain")
        if (path / f"vmcore.{suffix}").exists()
    ]
    if not files:
        pytest.skip(f"no dumps of further kernels in {real_dumps.FURTHER}")
    for packed, elf in files:
        with phypan.open(packed) as dump, phypan.open(elf) as first:
            assert checksums(first) == checksums(dump)
            assert [cpu.regs() for cpu in dump.cpus] == [cpu.regs() for cpu in first.cpus]
