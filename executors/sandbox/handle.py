"""One child as the worker sees it: jobs go down its wire, answers and prints come up, and it can be ended.

Knows nothing of how a zygote is started, why a job is run or for whom a child is kept.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from executors.sandbox import frames
from executors.sandbox.frames import AskedJob, ChildSpec
from executors.sandbox.results import JobFailure, JobResult, Limits, how_it_died, plain, read_answer
from executors.sandbox.zygote_process import ZygoteProcess

CANCEL_POLL_SECONDS = 0.05
DEATH_WAIT_SECONDS = 5.0
READ_BYTES = 1 << 16
HELD_BYTES = 1 << 16
"""How much is kept of what is printed while nobody is told of it."""


@dataclass(slots=True, eq=False)
class SentJob:
    """One job on its way through a child, and what came of it so far."""

    mark: bytes
    is_taken_back: bool = False
    answer: bytearray = field(default_factory=bytearray)
    is_answered: bool = False
    printed: bytearray = field(default_factory=bytearray)
    """What it printed and nobody has been told of."""
    tell: Callable[[bytes], None] | None = None
    """Who gets what it prints; None while nobody waits for it."""
    is_printed_over: bool = False


class ChildHandle:
    """A child's descriptors on the worker's side. Whoever holds it is alone with it, but for `recall`.

    It may have a second job before it has answered the first: it begins that one by itself then. `jobs` is how many it
    was given; `is_fit`: it has answered them all and can take another. `cpu_seconds` is the most that one of its jobs
    may use, fixed by the first.
    """

    def __init__(self, spec: ChildSpec, limits: Limits) -> None:
        self.spec = spec
        self.jobs = 0
        self.cpu_seconds = 0
        self.first_job_at = 0.0
        self._limits = limits
        # An escape of JSON takes up to 6 characters; the rest is the answer's envelope.
        self._answer_bytes = limits.output_bytes * 6 + 65_536
        self._zygote: ZygoteProcess | None = None
        # The child's end of the wire stays open here as well: to take a job back that the child has not read.
        self._wire, self._wire_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel, self._channel_end = socket.socketpair()
        self._printed_at, self._printed_end = os.pipe()
        os.set_blocking(self._printed_at, False)
        self._poll = select.poll()
        for descriptor in (self._wire.fileno(), self._channel.fileno(), self._printed_at):
            self._poll.register(descriptor, select.POLLIN)
        self._status: int | None = None
        self._gone = False
        self._leaves = False
        self._waiting: deque[SentJob] = deque()
        self._last_mark = b""
        self._said_hello = False
        self._printed = bytearray()

    @property
    def is_fit(self) -> bool:
        """Whether it can take another job, as far as it has told."""
        return not (self._gone or self._leaves or self._waiting)

    @property
    def is_gone(self) -> bool:
        """Whether it is dead, with all it started; looks, and does not wait."""
        if not self._gone:
            self._pump(0)
        return self._gone

    def start(self, zygote: ZygoteProcess) -> None:
        """Ask the zygote for the child. Raises: `OSError` when the zygote is gone."""
        ends = [self._wire_end.fileno(), self._printed_end, self._channel_end.fileno()]
        socket.send_fds(zygote.control, [self.spec.encode()], ends)
        self._zygote = zygote
        self._close_far_ends()

    def send(self, question: bytes, cpu_seconds: int, *, spare_seconds: int, is_kept: bool) -> SentJob:
        """Give it a job. `spare_seconds` of CPU time are for the jobs after this one; they count with the first."""
        if not self.jobs:
            self.cpu_seconds, self.first_job_at = cpu_seconds, time.monotonic()
        job = SentJob(os.urandom(frames.MARK_BYTES))
        AskedJob(job.mark, cpu_seconds, cpu_seconds + 1 + spare_seconds, is_kept, question).send(self._wire)
        self._waiting.append(job)
        self.jobs += 1
        return job

    def recall(self, job: SentJob) -> bool:
        """Take a job back: read it from the child's end of the wire, if it is what the child would read next.

        Returns: False when it has begun, or may have. May be called while another thread waits for the job before it.
        """
        look = socket.MSG_DONTWAIT | socket.MSG_PEEK
        try:
            if not job.is_taken_back and self._wire_end.recv(frames.MARK_BYTES, look) == job.mark:
                taken = self._wire_end.recv(frames.MARK_BYTES, socket.MSG_DONTWAIT)
                # Not this one when the child has read it since, and has another: then it is that one that is back.
                for each in [each for each in list(self._waiting) if each.mark == taken]:
                    each.is_taken_back = True
                    self._waiting.remove(each)
                    self.jobs -= 1
        except BlockingIOError:
            pass
        return job.is_taken_back

    def wait(
        self,
        job: SentJob,
        deadline: float,
        timeout_seconds: float,
        cancelled: Event,
        printed: Callable[[bytes], None],
    ) -> JobResult | None:
        """How a job ended: by its answer, its death, its deadline (monotonic) or its cancellation.

        A child that gave no answer is ended. `printed` gets what the job prints, as it comes. Returns: None when it did
        not begin the job, and never will.
        """
        job.tell = printed
        cause = self._wait(job, deadline, cancelled)
        if cause == "not begun":
            return None
        if not job.is_answered:
            self.end()
            # Unread it would be in the way of the job after it, which can still be taken back.
            self.recall(job)
        self._drain_printed(job)
        if not job.is_taken_back:
            self._waiting.remove(job)
        self._last_mark = job.mark
        return self._result(job, cause, timeout_seconds)

    def refusal(self, job: SentJob) -> JobResult:
        """Why it did not begin the job, as far as it is known."""
        self._drain_printed(job)
        return self._result(job, "", 0)

    def _result(self, job: SentJob, cause: str, timeout_seconds: float) -> JobResult:
        value, failure = None, None
        if cause == "timeout":
            failure = JobFailure("timeout", f"stopped after {timeout_seconds:g} s")
        elif cause == "cancelled":
            failure = JobFailure("cancelled", "stopped because the job was cancelled")
        elif len(job.answer) > self._answer_bytes:
            most = self._limits.output_bytes
            failure = JobFailure("output_too_large", f"the output is larger than {most} bytes")
        elif job.is_answered:
            value, failure = read_answer(job.answer)
        elif self.spec.command and not self._said_hello:
            said = plain(job.printed.decode(errors="replace")).strip() or "it ended before the job began"
            failure = JobFailure("isolation_unavailable", f"this worker cannot run jobs in bubblewrap: {said}")
        else:
            failure = how_it_died(self._status)
        return JobResult(value, failure)

    def tell_to_die(self) -> None:
        """Have the child killed with all it started, without waiting until it is dead."""
        self._leaves = True
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Have the child killed with all it started; returns when it is dead. May be called twice."""
        self.tell_to_die()
        if self._zygote is not None and not self._gone:
            give_up_at = time.monotonic() + DEATH_WAIT_SECONDS
            while not self._gone and time.monotonic() < give_up_at:
                self._pump(CANCEL_POLL_SECONDS)
            if not self._gone:
                # The zygote does not answer: its death takes every child along.
                self._zygote.stop()
                self._gone = True

    def close(self) -> None:
        """Let go of the descriptors: of a child that was ended, or that is another process's after a fork."""
        self._close_far_ends()
        self._wire_end.close()
        self._wire.close()
        self._channel.close()
        if self._printed_at >= 0:
            os.close(self._printed_at)
        self._printed_at = -1

    def _close_far_ends(self) -> None:
        self._channel_end.close()
        if self._printed_end >= 0:
            os.close(self._printed_end)
        self._printed_end = -1

    def _wait(self, job: SentJob, deadline: float, cancelled: Event) -> str:
        """Read until there is an answer or no process: `timeout`, `cancelled` or `not begun`; '' for what was begun."""
        while not job.is_answered and not self._gone:
            left = deadline - time.monotonic()
            if job.is_taken_back or (self._leaves and self.recall(job)):
                return "not begun"
            if cancelled.is_set():
                return "cancelled"
            if left <= 0:
                return "timeout"
            self._pump(min(left, CANCEL_POLL_SECONDS))
        return "" if job.is_answered or not self.recall(job) else "not begun"

    def _pump(self, seconds: float) -> None:
        """Wait for something to come, and take one portion of it."""
        for descriptor, _ in self._poll.poll(seconds * 1000):
            if descriptor == self._printed_at:
                self._take_printed()
            elif descriptor == self._channel.fileno():
                message = self._channel.recv(frames.STATUS.size)
                if message:
                    (self._status,) = frames.STATUS.unpack(message)
                self._gone = True
                # What it sent before it died still counts.
                while self._take_packet():
                    pass
            else:
                self._take_packet()

    def _take_packet(self) -> bool:
        """Read one packet. Returns: whether there may be more."""
        try:
            packet = self._wire.recv(frames.PACKET_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if len(packet) >= frames.ANSWER.size:
            mark, follows = frames.ANSWER.unpack_from(packet)
            self._said_hello |= follows == frames.HELLO
            self._leaves |= follows == frames.LEAVES and mark == self._last_mark
            # Another mark: a word of an earlier job, which nobody wants any more.
            # A copy: another thread may take a job back.
            job = next((job for job in list(self._waiting) if job.mark == mark), None)
            if job is not None and follows in (frames.MORE, frames.LAST):
                job.answer += packet[frames.ANSWER.size :]
                is_too_much = len(job.answer) > self._answer_bytes
                job.is_answered = follows == frames.LAST or is_too_much
                if is_too_much:
                    # It may write on for ever.
                    self.tell_to_die()
        return True

    def _take_printed(self) -> bool:
        """Read one portion of what was printed. Returns: whether there may be more."""
        try:
            chunk = os.read(self._printed_at, READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._printed_at)
        self._printed += chunk
        if self._waiting and self._waiting[0].tell is not None:
            self._sort_printed(self._waiting[0])
        # More can only be there when a job writes on after what should have been its end.
        del self._printed[HELD_BYTES + 2 * READ_BYTES :]
        return len(chunk) == READ_BYTES

    def _sort_printed(self, job: SentJob, *, is_all: bool = False) -> None:
        """Take the job's part out of what was printed. `is_all`: whatever is there is its own."""
        if job.is_printed_over:
            return
        end = self._printed.find(job.mark)
        job.is_printed_over = end >= 0
        # The mark at its end may have come half.
        own = end if end >= 0 else len(self._printed) if is_all else max(0, len(self._printed) - len(job.mark))
        self._tell_printed(job, self._printed[:own])
        del self._printed[: own + len(job.mark) if job.is_printed_over else own]

    def _tell_printed(self, job: SentJob, part: bytes | bytearray) -> None:
        job.printed += part
        if job.tell is None or (self.spec.command and not self._said_hello):
            # Until then it is no job's: it may be what keeps the wrapping from working.
            del job.printed[HELD_BYTES:]
        elif job.printed:
            job.tell(bytes(job.printed))
            job.printed.clear()

    def _drain_printed(self, job: SentJob) -> None:
        # A job that was answered writes no more, but a process that it left could for ever: a pipe's worth is enough.
        for _ in range(32):
            if job.is_printed_over or not self._take_printed():
                break
        self._sort_printed(job, is_all=True)
        self._tell_printed(job, b"")
