"""Work that is shared among threads; NumPy's and Numba's loops release the GIL.

Meanwhile the BLAS has one thread: two products of matrices at a time, each on one thread, take less
time than one after the other on both, and their last digits do not depend on the number of threads.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numba
import numpy as np
from threadpoolctl import ThreadpoolController

S = TypeVar("S")
T = TypeVar("T")
BLAS = ThreadpoolController().select(user_api="blas")


def thread_count() -> int:
    """Threads to use: OMP_NUM_THREADS, as the BLAS does, within what Numba allows."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    most: int = vars(numba.config)["NUMBA_NUM_THREADS"]
    return min(int(limit), most) if limit.isdigit() and int(limit) > 0 else most


def in_threads(function: Callable[[int, int], None], tasks: int) -> None:
    """Call function(start, stop) on the parts of range(tasks), one part a thread."""
    parts = min(thread_count(), tasks)
    bounds = np.linspace(0, tasks, parts + 1).astype(int)
    with BLAS.limit(limits=1), ThreadPoolExecutor(parts) as pool:
        list(pool.map(function, bounds[:-1], bounds[1:]))


def in_order(function: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """function(item) of every item, in their order, one item a thread; the calling thread takes
    items as threads become free.
    """
    threads = thread_count()
    with BLAS.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        running: deque[Future[T]] = deque()
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
