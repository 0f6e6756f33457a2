"""Work shared among threads: in order, not far ahead, and the BLAS left as it was."""

import threading

import pytest
from threadpoolctl import threadpool_limits

from netreduce.threads import BLAS, in_order, in_threads


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr("netreduce.threads.thread_count", lambda: 2)
    with threadpool_limits(2, user_api="blas"):
        yield
        assert blas_threads() == {2}


def blas_threads():
    return {library["num_threads"] for library in BLAS.info()}


def test_results_come_in_the_order_of_the_items():
    second_done = threading.Event()

    def slow_first(item):
        assert second_done.wait(10) if item == 0 else not second_done.set()
        return item, blas_threads()

    assert list(in_order(slow_first, range(5))) == [(item, {1}) for item in range(5)]


def test_items_are_taken_as_threads_become_free():
    taken = []

    def items():
        for item in range(10):
            taken.append(item)
            yield item

    results = in_order(str, items())
    assert [next(results), next(results)] == ["0", "1"]
    assert len(taken) <= 4
    assert list(results) == [str(item) for item in range(2, 10)]


def test_errors_of_items_and_of_work_arrive():
    def items():
        yield 1
        raise KeyError("item")

    with pytest.raises(KeyError, match="item"):
        list(in_order(str, items()))
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 / item, [1, 0, 1]))
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda start, stop: 1 / 0, 2)


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_parts_cover_all_tasks_once(tasks):
    parts = []
    in_threads(lambda start, stop: parts.append((start, stop, *blas_threads())), tasks)
    assert [task for start, stop, _ in sorted(parts) for task in range(start, stop)] == list(
        range(tasks)
    )
    assert {threads for *_, threads in parts} == {1}
