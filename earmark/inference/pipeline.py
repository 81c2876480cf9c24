"""Reading and networks at once, on all cores: results in order, memory bounded. No torch here.

Recordings hand the steps of their work to threads that all of them share, so that one long
recording keeps every core busy, and so do many short ones. What comes out never depends on which
thread was faster.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_this_thread = threading.local()


class Stopped(Exception):
    """Ends the work on a recording whose result nobody waits for any more."""


class Workers:
    """Threads that everything in progress shares; they end with the last that needs them.

    Args:
        count: how many.
        begin: what each thread calls first.
    """

    def __init__(self, count: int, begin: Callable[[], None] | None = None) -> None:
        self.count = count
        self._begin = begin
        self._lock = threading.Lock()
        self._users = 0
        self._pool: ThreadPoolExecutor | None = None

    def in_order(
        self, work: Callable[[Item], Result], items: Generator[Item], ahead: int
    ) -> Iterator[Result]:
        """What ``work`` gives for each item, in their order.

        ``items`` are made by the same threads, one after another. At most ``ahead`` of them are in
        work, or done and not yet taken. An error in ``items`` or in ``work`` is raised after the
        results before it. Whoever stops early closes ``items``, and no thread is left behind.
        """
        with self._opened() as pool:
            line = _Line(pool, work, items, ahead)
            try:
                yield from line.results()
            finally:
                line.close()

    @contextmanager
    def _opened(self) -> Iterator[ThreadPoolExecutor]:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, "earmark", self._first)
            pool = self._pool
            self._users += 1
        try:
            yield pool
        finally:
            with self._lock:
                self._users -= 1
                last = not self._users
                if last:
                    self._pool = None
            if last:
                pool.shutdown(wait=not _is_worker())

    def _first(self) -> None:
        _this_thread.worker = True
        if self._begin is not None:
            self._begin()


class _Line(Generic[Item, Result]):
    """One recording's items on their way through shared threads.

    A step makes the next item, lets another thread make the one after it, and then works on its
    own: a thread never waits for another.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        work: Callable[[Item], Result],
        items: Generator[Item],
        ahead: int,
    ) -> None:
        self._pool = pool
        self._work = work
        self._items = items
        self._slots: SimpleQueue[Future[Result] | None] = SimpleQueue()  # None after the last
        self._changed = threading.Condition()
        self._room = ahead
        self._steps = 0  # that are to run or running
        self._making: Future[None] | None = None  # the one of them that makes the next item
        self._ended = False

    def results(self) -> Iterator[Result]:
        self._go_on(0)
        while (slot := self._slots.get()) is not None:
            result = slot.result()
            stop: threading.Event | None = getattr(_this_thread, "stop", None)
            if stop is not None and stop.is_set():
                raise Stopped
            del slot
            self._go_on(1)
            yield result
            del result

    def close(self) -> None:
        with self._changed:
            self._ended = True
            if self._making is not None and self._making.cancel():
                self._steps -= 1
            # Garbage may be collected in any thread, and this line's own would wait for itself.
            if _is_worker():
                return
            self._changed.wait_for(lambda: not self._steps)
        self._items.close()

    def _go_on(self, taken: int) -> None:
        """Has the next item made, if there is room for it; ``taken`` more have been taken."""
        with self._changed:
            self._room += taken
            if self._making is None and self._room and not self._ended:
                self._room -= 1
                self._steps += 1
                self._making = self._pool.submit(self._step)

    def _step(self) -> None:
        try:
            self._make_and_work()
        finally:
            with self._changed:
                self._steps -= 1
                self._changed.notify_all()

    def _make_and_work(self) -> None:
        slot: Future[Result] = Future()
        try:
            item = next(self._items)
        except StopIteration:
            self._end(None)
            return
        except BaseException as error:
            slot.set_exception(error)
            self._end(slot)
            del slot  # which else holds itself, through the error's traceback
            return
        self._slots.put(slot)
        with self._changed:
            self._making = None
        self._go_on(0)
        try:
            slot.set_result(self._work(item))
        except BaseException as error:
            slot.set_exception(error)
            del slot

    def _end(self, last: Future[Result] | None) -> None:
        with self._changed:
            self._ended = True
            self._making = None
        self._slots.put(last)


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Generator[Future[Result]]:
    """Works on ``count`` items at a time; gives their futures in the order of the items.

    At most twice ``count`` are ahead of the one that is given. Whoever stops early ends the work
    that goes through ``Workers`` at its next result, and no thread is left behind.
    """
    stop = threading.Event()

    def stoppable(item: Item) -> Result:
        _this_thread.stop = stop
        return work(item)

    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(count, "recording")
    try:
        for item in items:
            waiting.append(pool.submit(stoppable, item))
            if len(waiting) > 2 * count:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _is_worker() -> bool:
    return getattr(_this_thread, "worker", False)
