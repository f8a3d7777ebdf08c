"""The second boot as a file system, used as on the machine: by cat, dd and echo."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import phypan
from phypan.formats import kernel_dump
from phypan.platform.partition_memory import PartitionMemory
from phypan.platform.simulation import Simulation
from tests import mounting
from tests.makedumpfiles import OUR_NAMES, filtered_by, kept
from tests.platform_model.test_simulation import assert_memory_is_what_it_was

BANNER = 0x700000  # the physical address of the synthetic kernel's
MIB = 1 << 20
MEMORY = ("--memory", "1G", "--boot-memory", "128M")


@pytest.fixture
def second_boot(tmp_path: Path) -> Iterator[Path]:
    """The files of the second boot, mounted."""
    with mounting.mounted(tmp_path / "mounted", "--kernel", "2.6.32", *MEMORY) as place:
        yield place


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_memory_changes_once_it_is_given_back_by_echo(second_boot, tmp_path) -> None:
    """Offsets are physical addresses in that kernel's /proc/vmcore: 512 blocks of 1 MiB."""
    region = "sys/kernel/release_region"
    assert shell(f"cat {region}", second_boot).startswith("CPU:")
    take = "dd if=proc/vmcore bs=1M skip=512 count=1 | sha256sum"
    before = shell(take, second_boot)
    assert shell(take, second_boot) == before
    shell(f"echo 0x20000000 0x10000000 > {region}", second_boot)
    assert shell(take, second_boot) != before


def test_low_memory_is_where_the_property_says(second_boot, tmp_path) -> None:
    found = (second_boot / "proc/device-tree/rtas/ibm,kernel-dump").read_bytes()
    (low,) = kernel_dump.read(found).of_type(kernel_dump.SectionType.REAL_MODE_REGION)
    assert low.source == 0
    place = low.destination + BANNER
    words = f"dd if=proc/vmcore of={tmp_path}/banner bs=1 skip={place} count=20"
    shell(words, second_boot)
    assert (tmp_path / "banner").read_bytes() == b"Linux version 2.6.32"


def test_the_example_of_the_document_by_hand(tmp_path) -> None:
    """phyp-assisted-dump.txt gives back 256 MiB at 1 GiB like this."""
    with mounting.mounted(tmp_path / "m", "--kernel", "2.6.32", "--memory", "2G") as place:
        shown = shell("cat release_region", place / "sys/kernel")
        assert shown.startswith("CPU:")
        assert "DUMP:" in shown
        shell("echo 0x40000000 0x10000000 > release_region", place / "sys/kernel")
        ((start, size),) = mounting.state(place)["released"]
        assert (start, size - size % MIB) == (1 << 30, 256 * MIB), "and the kernel's page more"
        with pytest.raises(subprocess.CalledProcessError):
            shell("echo nonsense > release_region", place / "sys/kernel")


def test_cat_dd_and_cp_read_the_memory_of_the_model(second_boot, tmp_path) -> None:
    model = phypan.simulate(kernel="2.6.32", memory="1G", boot_memory="128M").boot.lpar.memory
    truth = hashlib.sha256()
    for at in range(0, 1 << 30, 16 * MIB):
        truth.update(model.read(at, 16 * MIB))
    shell(f"cp proc/vmcore {tmp_path}/copy", second_boot)
    assert (tmp_path / "copy").stat().st_size == 1 << 30
    for command in (f"cat {tmp_path}/copy", "dd if=proc/vmcore bs=7M"):
        said = shell(f"{command} | sha256sum", second_boot)
        assert said.split()[0] == truth.hexdigest(), command
    (tmp_path / "copy").unlink()


def test_capture_at_the_prompt_saves_it_gives_it_back_and_it_is_registered_anew(
    second_boot, tmp_path
) -> None:
    shell(f"{' '.join(mounting.PHYPAN)} capture {tmp_path}/vmcore --root .", second_boot)
    told = mounting.state(second_boot)
    assert told["registered_anew"] == 1
    assert not told["dump_waiting"]
    before = phypan.simulate(kernel="2.6.32", memory="1G", boot_memory="128M").before
    with phypan.open(tmp_path / "vmcore") as dump:
        assert assert_memory_is_what_it_was(dump, before)


def test_the_vmcore_of_fadump_is_copied_by_cp_and_echo_gives_it_all_back(tmp_path) -> None:
    """As a start script does where there is no makedumpfile."""
    with mounting.mounted(tmp_path / "m", "--kernel", "6.12", *MEMORY) as place:
        shell(f"cp proc/vmcore {tmp_path}/vmcore && echo 1 > sys/kernel/fadump/release_mem", place)
        assert not (place / "proc/vmcore").exists()
        assert shell("cat sys/kernel/fadump/registered", place) == "0\n"
        shell("echo 1 > sys/kernel/fadump/registered", place)
        told = json.loads(shell("cat model/state.json", place))
        assert told["registered_anew"] == 1
    model = phypan.simulate(kernel="6.12", memory="1G", boot_memory="128M")
    with phypan.open(tmp_path / "vmcore") as dump:
        assert assert_memory_is_what_it_was(dump, model.before)


# makedumpfile reads no big-endian dumps. Of kernels since 6.6 with radix and 4K pages it takes
# struct pages from wrong places: of the top table it reads the first page only.
MADE_FOR = [
    ("6.12", 65536, "hash"), ("6.12", 4096, "hash"), ("6.12", 65536, "radix"),
    ("5.10", 65536, "hash"), ("5.10", 4096, "hash"), ("5.10", 65536, "radix"),
    ("5.10", 4096, "radix"),
]  # fmt: skip
SMALL = {"memory": "320M", "boot_memory": "32M"}


def options(chosen: dict[str, object]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]


def frames(dump: phypan.Dump) -> set[int]:
    """The page frames of which a dump has anything."""
    size = dump.page_size
    runs = kept(dump)
    return {n for at, count in runs for n in range(at // size, -(-(at + count) // size))}


def as_makedumpfile_has_it(done: Simulation) -> PartitionMemory:
    """Memory before the crash; but makedumpfile fills up the page that the save area ends in."""
    end, page = done.boot.layout.end, done.boot.guest.page_size
    done.before.clear(end // page * page, end % page)
    return done.before


@pytest.mark.parametrize(("kernel", "page_size", "mmu"), MADE_FOR)
def test_makedumpfile_leaves_out_the_pages_that_phypan_leaves_out(
    makedumpfile, kernel, page_size, mmu, tmp_path
) -> None:
    chosen = {"kernel": kernel, "page_size": page_size, "mmu": mmu, **SMALL}
    with mounting.mounted(tmp_path / "m", *options(chosen)) as place:
        vmcore = place / "proc/vmcore"
        said = filtered_by(makedumpfile, vmcore, tmp_path / "theirs", "-c", "-d", "31")
        with phypan.open(vmcore) as dump:
            done = phypan.convert(
                dump, tmp_path / "ours", format="kdump", compress="zlib", dump_level=31
            )
            census: Counter[str] = Counter()
            for row in phypan.run(dump, "pages"):
                census[row.type] += row.in_dump
    ours = Counter(done.excluded)
    assert {name: census[name] for name in ours} == ours
    assert ours["hugetlb"], "makedumpfile counts them as the user's"
    ours["user"] += ours.pop("hugetlb")
    assert ours == {OUR_NAMES[k]: n for k, n in said.items() if k in OUR_NAMES and n}
    assert len(ours) == 6, "there are pages of all kinds"
    assert done.written[0].zeros == said["Pages filled with zero"]
    before = as_makedumpfile_has_it(phypan.simulate(**chosen))
    with phypan.open(tmp_path / "ours") as one, phypan.open(tmp_path / "theirs") as other:
        assert frames(one) == frames(other)
        assert assert_memory_is_what_it_was(other, before)


def test_what_makedumpfile_makes_of_the_vmcore_holds_the_memory_before_the_crash(
    makedumpfile, tmp_path
) -> None:
    """A dump with all pages, a core file, and the form for a pipe."""
    with mounting.mounted(tmp_path / "m", "--mmu=radix", *options(SMALL)) as place:
        vmcore = place / "proc/vmcore"
        filtered_by(makedumpfile, vmcore, tmp_path / "whole", "-l", "-d", "0")
        filtered_by(makedumpfile, vmcore, tmp_path / "core", "-E", "-d", "31")
        with (tmp_path / "flat").open("wb") as file:
            flat = [makedumpfile, "-F", "-c", "-d", "31", vmcore]
            subprocess.run(flat, stdout=file, stderr=subprocess.DEVNULL, check=True)
    done = phypan.simulate(mmu="radix", **SMALL)
    before = as_makedumpfile_has_it(done)
    formats, gone = {}, {}
    for name in ("whole", "core", "flat"):
        with phypan.open(tmp_path / name) as dump:
            assert assert_memory_is_what_it_was(dump, before), name
            formats[name] = dump.format, dump.dump_level
            gone[name] = sum(hole.size for hole in dump.memory.holes())
    assert formats == {"whole": ("kdump", 0), "core": ("elf", 0), "flat": ("kdump", 31)}
    layout = done.boot.layout
    save_area = layout.end // 65536 * 65536 - layout.start
    assert gone["whole"] == save_area + 2 * 65536, "and a poisoned page, and one that is offline"
    assert gone["core"] > 100 * MIB
    assert gone["flat"] > gone["core"], "which leaves out long runs only"
