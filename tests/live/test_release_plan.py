"""Whatever is saved in whatever steps: nothing unsaved is given back, and the sums come out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import phypan
from phypan.formats.release_region import Pair
from phypan.live import release_plan
from phypan.live.release_plan import LEAST, PAGE, Reservation, next_release
from phypan.platform.second_boot import DEFAULT_QUIRKS, Quirk
from phypan.ranges import Ranges


class OldKernel:
    """store_release_region() as FORMATS tells of it, on its own: not the model's code."""

    def __init__(self, reservation: Reservation, page: int, more: int) -> None:
        self.r, self.page, self.more = reservation, page, more
        self.reserved_count = self.scratch_count = self.registered = 0
        self.freed = Ranges()

    def store(self, start: int, length: int) -> None:
        r, page = self.r, self.page
        if r.start <= start <= r.start + r.size:
            self.reserved_count += length
            if r.area_start <= start <= r.area_start + r.area_size:
                self.scratch_count += length
        if (self.reserved_count, self.scratch_count) == (r.size, r.area_size):
            self.registered += 1
        first = max(start, r.start) // page
        end = (first + length // page + self.more) * page
        self.freed.add(first * page, min(end, r.end))


@st.composite
def kernels(draw) -> OldKernel:
    """Save areas at the top, at the bottom, of odd sizes; pages of 4 and 64 KiB."""
    page = draw(st.sampled_from([4096, PAGE]))
    start = draw(st.integers(0, 1 << 12)) * page
    below = draw(st.sampled_from([0, 1, 3, 4, 50]) | st.integers(0, 1 << 12)) * page
    area = draw(st.integers(LEAST, 1 << 24))
    behind = draw(st.sampled_from([0, 1, 4095, 4096, PAGE]) | st.integers(0, 1 << 22))
    size = -(-(below + area + behind) // page) * page
    odd = draw(st.sampled_from([0, 0, 32])) if size - below - area >= 32 else 0
    r = Reservation(start, size, start + below + odd, area)
    return OldKernel(r, page, draw(st.sampled_from([0, 1])))


def releases(r: Reservation, steps: list[int]) -> Iterator[tuple[Pair, int]]:
    """(what is released, all below this is safe then) while saving gets on in `steps`."""
    asked = 0
    for safe in [*sorted(r.start + step % r.size for step in steps), r.end]:
        while pair := next_release(r, asked, safe):
            yield pair, safe
            asked += pair.length
    assert asked == r.size, "when all is safe, everything is released"


STEPS = st.lists(st.integers(0, 1 << 30), max_size=12)


@given(kernels(), STEPS)
@settings(max_examples=300)
def test_no_unsaved_page_is_freed_and_the_kernel_registers_anew_once(kernel, steps) -> None:
    r, asked = kernel.r, 0
    for pair, safe in releases(r, steps):
        assert pair.length > 0
        kernel.store(pair.start, pair.length)
        for _, end in kernel.freed:
            assert safe == r.end or end <= min(safe, r.area_start), "freed and not saved"
        asked += pair.length
        assert kernel.registered == (asked == r.size)
    left = sum(end - start for start, end in kernel.freed.gaps(r.start, r.end))
    assert left < (1 if kernel.more else 3) * kernel.page, "all of it is the system's again"


@given(kernels(), STEPS)
@example(OldKernel(Reservation(0, 4 * PAGE, 0, 4 * PAGE - 1), 4096, 1), [])
@settings(max_examples=300)
def test_page_flags_tell_of_every_release_whether_it_was_done(kernel, steps) -> None:
    """Before it all telling pages are reserved; after it some are not."""
    page, freed = kernel.page, kernel.freed
    for pair, _ in releases(kernel.r, steps):
        frames = list(release_plan.telling(pair, kernel.r, page))[:50]
        assert not any(freed.covers(n * page, n * page + page) for n in frames)
        kernel.store(pair.start, pair.length)
        assert bool(frames) == (pair.start < kernel.r.end)
        if frames and (kernel.more or pair.length >= page):
            assert any(freed.covers(n * page, n * page + page) for n in frames)


@given(
    st.integers(600, 1100), st.integers(1, 40), st.sampled_from([4096, PAGE]), st.booleans(), STEPS,
)  # fmt: skip
@settings(max_examples=40)
def test_the_model_registers_anew_and_frees_nothing_unsaved(
    memory, cpus, page, more, steps
) -> None:
    boot = phypan.simulate(
        kernel="2.6.32", memory=f"{memory}M", cpus=cpus, page_size=page,
        without_quirk=() if more else ("one-page-more",),
    ).boot  # fmt: skip
    layout = boot.layout
    r = Reservation(boot.reserve_start, boot.reserve_size, layout.start, boot.scratch_size)
    assert r.sound
    unsaved, safe = 0, r.start

    def watch(start: int, end: int) -> None:
        nonlocal unsaved
        unsaved += max(0, end - max(start, safe))

    boot.on_free = watch
    for pair, safe in releases(r, steps):  # noqa: B007 - watch() looks at it
        boot.release(pair)
    assert unsaved == 0
    assert boot.rounds == 1
    assert boot.hypervisor.registered is not None
    left = r.size - Ranges((start, start + size) for start, size in boot.released).size
    assert left == 0 if more else left <= page


def test_releasing_just_what_is_safe_would_lose_a_page() -> None:
    """What the lag of a page is for: the kernel's habit, seen on the model."""
    boot = phypan.simulate(kernel="2.6.32", memory="1G", page_size=4096).boot
    freed = []
    boot.on_free = lambda start, end: freed.append((start, end))
    boot.release(Pair(boot.reserve_start, 0x100000))
    assert freed == [(boot.reserve_start, boot.reserve_start + 0x101000)]
    assert Quirk.ONE_PAGE_MORE in DEFAULT_QUIRKS


@pytest.mark.parametrize("area", [(0, 100), (1 << 20, 0), (1 << 30, 1 << 20), (2 << 20, 1 << 30)])
def test_a_save_area_outside_of_what_is_reserved_is_not_sound(area) -> None:
    assert not Reservation(1 << 20, 1 << 24, *area).sound
