"""The pipeline: pages of memory are read, compressed in threads, and handed on in order.

What is in work is bounded whatever the size of the dump, and what comes out does not depend on the
number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from phypan.conversion import working
from phypan.conversion.keeping import Keepers
from phypan.conversion.working import BATCH, Runs, Work, Workers
from phypan.memory import Memory
from phypan.pages import bits
from phypan.pages.bits import Bits
from phypan.pages.codec import Codec

Batch = working.Batch


def threads_here() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compressed(
    memory: Memory,
    stored: Bits,
    page_size: int,
    codec: Codec,
    *,
    keep: bool = False,
    threads: int = 0,
) -> Generator[Batch, None, None]:
    """Batches of the pages whose bits are set in `stored`, in ascending order.

    A page of which only a part is in memory has zeros in the place of the rest.

    keep     pages that are stored already are taken as they are; `codec` is for the others
    threads  that compress at the same time; 0 for one on each processor
    """
    threads = threads or threads_here()
    workers = (Keepers if keep else Workers)(memory, page_size, codec)
    pool = ThreadPoolExecutor(threads, "phypan")
    waiting: deque[Future[Work]] = deque()
    try:
        for runs in _batches(stored, max(1, BATCH // page_size)):
            waiting.append(pool.submit(workers.work, runs))
            if len(waiting) > threads + 1:
                yield from workers.finished(waiting.popleft())
        while waiting:
            yield from workers.finished(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(stored: Bits, most: int) -> Iterator[Runs]:
    """Runs of up to `most` pages together."""
    batch: Runs = []
    room = most
    for first, count, there in bits.runs(stored, 0, len(stored) * 8):
        start, end = first, first + count if there else first
        while start < end:
            taken = min(end - start, room)
            batch.append((start, taken))
            start, room = start + taken, room - taken
            if not room:
                yield batch
                batch, room = [], most
    if batch:
        yield batch
