"""Analyses wait in line, and one at a time is worked on, in a thread; each can be cancelled."""

import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from earmark.errors import UserError

logger = logging.getLogger("earmark")

State = Literal["queued", "running", "done", "failed", "cancelled"]
MOST_REMEMBERED = 1000
"""Of the jobs that have ended the latest can still be asked for."""


class QueueFull(Exception):
    """No further job is taken now."""


class Cancelled(Exception):
    """Ends the work on a job that was cancelled."""


@dataclass(slots=True, eq=False)
class Job:
    """The analysis of a recording by a model.

    Attributes:
        recording, model: their ids.
        progress: the share that is done.
        error: why it failed, in a line.
    """

    recording: str
    model: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = "queued"
    progress: float = 0.0
    error: str | None = None
    _cancel: threading.Event = field(default_factory=threading.Event)

    def step(self, progress: float) -> None:
        """Says how far the work is; raises Cancelled if nobody waits for it any more."""
        if self._cancel.is_set():
            raise Cancelled
        self.progress = min(1.0, progress)


class Jobs:
    """The line of jobs, and the thread that works on them.

    Args:
        work: does a job and calls its ``step`` on the way; a UserError is why it failed.
        most_waiting: how many may be in line.
    """

    def __init__(self, work: Callable[[Job], None], most_waiting: int) -> None:
        self._work = work
        self._most_waiting = most_waiting
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._jobs: dict[str, Job] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="analyses", daemon=True)
        self._thread.start()

    def submit(self, recording: str, model: str, *, done: bool = False) -> Job:
        """The job for a recording and a model: the one that is under way, or a new one.

        Args:
            recording: its id, and so ``model``.
            done: whether there is nothing left to do.

        Raises:
            QueueFull: too many wait.
        """
        with self._changed:
            for job in (*self._waiting, *filter(None, [self._running])):
                alike = (job.recording, job.model) == (recording, model)
                if alike and not job._cancel.is_set():
                    return job
            if done:
                job = Job(recording, model, state="done", progress=1.0)
            elif len(self._waiting) >= self._most_waiting or self._closed:
                raise QueueFull
            else:
                job = Job(recording, model)
                self._waiting.append(job)
                self._changed.notify_all()
            self._remember(job)
            return job

    def get(self, job_id: str) -> tuple[Job, int] | None:
        """A job, and how many come before it or are in work till then."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is None:
                return None
            ahead = self._waiting.index(job) + 1 if job in self._waiting else 0
            return job, ahead

    def cancel(self, job_id: str) -> None:
        """Ends a job that has not ended yet."""
        with self._changed:
            if (job := self._jobs.get(job_id)) is not None:
                self._cancel(job)

    def cancel_recording(self, recording: str) -> None:
        """Ends all jobs of a recording; afterwards none of them is in work."""
        with self._changed:
            for job in list(self._jobs.values()):
                if job.recording == recording:
                    self._cancel(job)
            self._changed.wait_for(
                lambda: self._running is None or self._running.recording != recording
            )

    def close(self) -> None:
        """Ends all jobs, and the thread with them."""
        with self._changed:
            self._closed = True
            for job in list(self._jobs.values()):
                self._cancel(job)
            self._changed.notify_all()
        self._thread.join()

    def _cancel(self, job: Job) -> None:
        job._cancel.set()
        if job in self._waiting:
            self._waiting.remove(job)
            job.state = "cancelled"

    def _remember(self, job: Job) -> None:
        self._jobs[job.id] = job
        ended = [j.id for j in self._jobs.values() if j.state not in ("queued", "running")]
        for old in ended[: max(0, len(ended) - MOST_REMEMBERED)]:
            del self._jobs[old]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._running = self._waiting.popleft()
                job.state = "running"
            state: State = "failed"
            try:
                self._work(job)
                state = "done"
            except Cancelled:
                state = "cancelled"
            except UserError as error:
                job.error = str(error)
            except Exception:
                logger.exception("an analysis failed")
                job.error = "something went wrong here; the server's log says why"
            with self._changed:
                job.progress = 1.0 if state == "done" else job.progress
                job.state = state
                self._running = None
                self._changed.notify_all()
