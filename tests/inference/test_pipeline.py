"""Steps on shared threads: the order, the bounds, and what is left when somebody stops."""

import itertools
import random
import threading
import time
import traceback

import pytest

from earmark.inference.pipeline import Stopped, Workers, side_by_side


def items(count, closed=None):
    try:
        yield from range(count)
    finally:
        if closed is not None:
            closed.append(True)


def threads_of_ours():
    return [t.name for t in threading.enumerate() if t.name.startswith(("earmark", "recording"))]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_results_are_in_order_whoever_is_faster(workers, count):
    rng = random.Random(count)
    delays = [rng.choice([0, 0, 0.004]) for _ in range(count)]

    def slow_items():
        for number in range(count):
            time.sleep(rng.choice([0, 0.002]))
            yield number

    def work(number):
        time.sleep(delays[number])
        return number * number

    found = list(Workers(workers).in_order(work, slow_items(), ahead=4))
    assert found == [number * number for number in range(count)]
    assert threads_of_ours() == []


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_than_asked_for_are_ahead(ahead):
    made, taken, most = itertools.count(), 0, 0

    def watched():
        nonlocal most
        for _ in range(30):
            most = max(most, next(made) + 1 - taken)
            yield

    for _ in Workers(4).in_order(lambda item: item, watched(), ahead):
        time.sleep(0.002)
        taken += 1
    # The consumer holds one more, which it has taken and not yet counted.
    assert ahead <= most <= ahead + 1


def test_all_workers_work_at_once():
    together = threading.Barrier(3, timeout=10)
    assert list(Workers(3).in_order(lambda _: together.wait() >= 0, items(6), 6)) == [True] * 6


def test_items_are_made_one_after_another_in_shared_threads():
    making = threading.Lock()
    makers = set()

    def alone():
        for number in range(50):
            assert making.acquire(blocking=False)
            makers.add(threading.current_thread().name)
            time.sleep(0.0005)
            making.release()
            yield number

    assert list(Workers(3).in_order(lambda item: item, alone(), 6)) == list(range(50))
    assert threading.current_thread().name not in makers


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_early_leaves_no_thread_and_closes_the_items(taken):
    closed = []
    held = items(10_000, closed)  # so that nothing but the line can close them
    results = Workers(3).in_order(lambda item: item, held, 6)
    assert list(itertools.islice(results, taken)) == list(range(taken))
    results.close()
    assert closed == [True] * bool(taken)
    assert threads_of_ours() == []


@pytest.mark.parametrize("where", ["items", "work"])
def test_an_error_comes_after_the_results_before_it_with_its_traceback(where):
    def broken_here(number):
        if number == 5:
            raise KeyError("five")
        return number

    def broken_items():
        for number in range(20):
            yield broken_here(number) if where == "items" else number

    work = broken_here if where == "work" else int
    found, error = until_error(Workers(3).in_order(work, broken_items(), 6))
    assert found == list(range(5))
    assert isinstance(error, KeyError)
    assert "broken_here" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert threads_of_ours() == []


def until_error(results):
    found = []
    try:
        for result in results:
            found.append(result)
    except Exception as error:
        return found, error
    return found, None


def test_interruption_by_the_consumer_ends_the_threads():
    def interrupted():
        for number in Workers(2).in_order(lambda item: item, items(1000), 4):
            if number == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert threads_of_ours() == []


def test_several_recordings_share_the_threads():
    workers, names = Workers(2), set()

    def work(item):
        names.add(threading.current_thread().name)
        time.sleep(0.001)
        return item

    lines = [workers.in_order(work, items(20), 4) for _ in range(5)]
    found = list(zip(*lines, strict=True))
    assert found == [(number,) * 5 for number in range(20)]
    assert len(names) == 2
    assert threads_of_ours() == []


def test_threads_begin_with_what_they_are_told():
    begun = []
    workers = Workers(2, lambda: begun.append(threading.current_thread().name))
    barrier = threading.Barrier(2, timeout=10)
    list(workers.in_order(lambda _: barrier.wait(), items(2), 2))
    assert len(set(begun)) == len(begun) == 2


@pytest.mark.parametrize("count", [1, 3])
def test_side_by_side_keeps_the_order(count):
    rng = random.Random(0)

    def work(item):
        time.sleep(rng.choice([0, 0.003]))
        if item % 7 == 3:
            raise ValueError(item)
        return -item

    found = []
    for future in side_by_side(work, range(40), count):
        error = future.exception()
        found.append(future.result() if error is None else error.args[0])
    assert found == [item if item % 7 == 3 else -item for item in range(40)]
    assert threads_of_ours() == []


def test_side_by_side_is_bounded():
    begun = []
    for given, future in enumerate(side_by_side(begun.append, range(60), 2)):
        future.result()
        time.sleep(0.001)
        assert len(begun) <= given + 1 + 2 * 2
    assert len(begun) == 60


def test_stopping_among_recordings_ends_those_in_progress():
    workers, begun, ended = Workers(2), threading.Barrier(4, timeout=10), []

    def endless(_):
        begun.wait()
        try:
            for _ in workers.in_order(int, (0 for _ in itertools.count()), 4):
                pass
        except Stopped:
            ended.append(True)

    futures = side_by_side(endless, range(10), 3)
    next(futures)
    begun.wait()
    futures.close()
    assert ended == [True] * 3
    assert threads_of_ours() == []
