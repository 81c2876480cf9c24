"""Analyses in line: one at a time, each can be cancelled, none is lost."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from earmark.errors import UserError
from earmark.web import jobs
from earmark.web.jobs import Job, Jobs, QueueFull


class Work:
    """Work that goes on when it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.done: list[str] = []
        self.at_once = 0

    def __call__(self, job: Job) -> None:
        self.at_once += 1
        assert self.at_once == 1
        try:
            self.begun.release()
            job.step(0.5)
            assert self.go.acquire(timeout=20)
            job.step(0.9)
            if job.recording == "bad":
                raise UserError("can't be read", where="bad.wav")
            if job.recording == "worse":
                raise RuntimeError("/secret/path")
            self.done.append(job.recording)
        finally:
            self.at_once -= 1


@contextmanager
def line(work: Work, most: int = 10) -> Iterator[Jobs]:
    jobs = Jobs(work, most)
    try:
        yield jobs
    finally:
        work.go.release(1000)
        jobs.close()


def ended(jobs: Jobs, job: Job) -> str:
    with jobs._changed:
        assert jobs._changed.wait_for(lambda: job.state not in ("queued", "running"), 20)
    return job.state


def test_one_after_another() -> None:
    work = Work()
    with line(work) as jobs:
        first, second, third = (jobs.submit(name, "m") for name in "abc")
        assert work.begun.acquire(timeout=20)
        assert (first.state, first.progress) == ("running", 0.5)
        assert [jobs.get(job.id) for job in (first, second, third)] == [
            (first, 0),
            (second, 1),
            (third, 2),
        ]
        assert jobs.submit("b", "m") is second
        assert jobs.submit("a", "m") is first
        assert jobs.submit("b", "other").id != second.id
        work.go.release(4)
        assert [ended(jobs, job) for job in (first, second, third)] == ["done"] * 3
        assert first.progress == 1
        assert jobs.submit("a", "m", done=True).state == "done"
    assert work.done[:3] == ["a", "b", "c"]
    assert not [thread for thread in threading.enumerate() if thread.name == "analyses"]


def test_cancelling() -> None:
    work = Work()
    with line(work) as jobs:
        first, second, third = (jobs.submit(name, "m") for name in "abc")
        assert work.begun.acquire(timeout=20)
        jobs.cancel(second.id)
        assert second.state == "cancelled"
        assert jobs.get(third.id) == (third, 1)
        jobs.cancel(first.id)
        assert jobs.submit("a", "m") is not first
        work.go.release(1)
        assert ended(jobs, first) == "cancelled"
        work.go.release(10)
        assert ended(jobs, third) == "done"
        jobs.cancel(third.id)
        assert third.state == "done"
    assert work.done == ["c", "a"]


def test_a_recording_that_goes_takes_its_jobs_along() -> None:
    work = Work()
    with line(work) as jobs:
        first, second, other = jobs.submit("a", "m"), jobs.submit("a", "n"), jobs.submit("b", "m")
        assert work.begun.acquire(timeout=20)
        threading.Timer(0.05, work.go.release, [10]).start()
        jobs.cancel_recording("a")
        assert (first.state, second.state) == ("cancelled", "cancelled")
        assert ended(jobs, other) == "done"


def test_failures(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.go.release(10)
    with line(work) as jobs:
        bad, worse, good = (jobs.submit(name, "m") for name in ("bad", "worse", "good"))
        assert ended(jobs, good) == "done"
        assert (bad.state, bad.error) == ("failed", "bad.wav: can't be read")
        assert worse.state == "failed"
        assert "secret" not in str(worse.error)
    assert "secret" in caplog.text  # the log is the server's own


def test_a_full_line() -> None:
    work = Work()
    with line(work, most=1) as jobs:
        first = jobs.submit("a", "m")
        assert work.begun.acquire(timeout=20)
        jobs.submit("b", "m")
        with pytest.raises(QueueFull):
            jobs.submit("c", "m")
        assert jobs.submit("a", "m") is first
        work.go.release(10)


def test_the_end() -> None:
    work = Work()
    with line(work) as jobs:
        first, second = jobs.submit("a", "m"), jobs.submit("b", "m")
        assert work.begun.acquire(timeout=20)
    assert (first.state, second.state, work.done) == ("cancelled", "cancelled", [])


def test_jobs_that_ended_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_REMEMBERED", 2)
    with line(Work()) as waiting:
        done = [waiting.submit(str(number), "m", done=True) for number in range(4)]
        assert [waiting.get(job.id) is None for job in done] == [True, True, False, False]
