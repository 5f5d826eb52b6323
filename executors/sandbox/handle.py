"""One child as the worker sees it: jobs go down its wire, answers and prints come up, and it can be ended.

Knows nothing of how a zygote is started, why a job is run or for whom a child is kept.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from threading import Event

from executors.sandbox import frames
from executors.sandbox.frames import AskedJob, ChildSpec
from executors.sandbox.results import JobFailure, JobResult, Limits, how_it_died, plain, read_answer
from executors.sandbox.zygote_process import ZygoteProcess

CANCEL_POLL_SECONDS = 0.05
DEATH_WAIT_SECONDS = 5.0
READ_BYTES = 1 << 16


class ChildHandle:
    """A child's descriptors on the worker's side. Whoever holds it is alone with it.

    `jobs` is how many it was given; `is_fit`: it answered the last one and can take another.
    `cpu_seconds` is the most that one of its jobs may use, fixed by the first.
    """

    def __init__(self, spec: ChildSpec, limits: Limits) -> None:
        self.spec = spec
        self.jobs = 0
        self.is_fit = True
        self.cpu_seconds = 0
        self.first_job_at = 0.0
        self._limits = limits
        # An escape of JSON takes up to 6 characters; the rest is the answer's envelope.
        self._answer_bytes = limits.output_bytes * 6 + 65_536
        self._zygote: ZygoteProcess | None = None
        self._wire, self._wire_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel, self._channel_end = socket.socketpair()
        self._printed_at, self._printed_end = os.pipe()
        os.set_blocking(self._printed_at, False)
        self._poll = select.poll()
        for descriptor in (self._wire.fileno(), self._channel.fileno(), self._printed_at):
            self._poll.register(descriptor, select.POLLIN)
        self._status: int | None = None
        self._gone = False
        self._mark = b""
        self._answer = bytearray()
        self._answered = False
        self._said_hello = False
        self._printed = bytearray()
        self._printed_dropped = False

    def start(self, zygote: ZygoteProcess) -> None:
        """Ask the zygote for the child. Raises: `OSError` when the zygote is gone."""
        ends = [self._wire_end.fileno(), self._printed_end, self._channel_end.fileno()]
        socket.send_fds(zygote.control, [self.spec.encode()], ends)
        self._zygote = zygote
        self._close_far_ends()

    def send(self, question: bytes, cpu_seconds: int, *, spare_seconds: int, is_kept: bool) -> None:
        """Give it a job. `spare_seconds` of CPU time are for the jobs after this one; they count with the first.

        Raises: `OSError` when the child is gone; the job was not started then.
        """
        if not self.jobs:
            self.cpu_seconds, self.first_job_at = cpu_seconds, time.monotonic()
        self._mark = os.urandom(frames.MARK_BYTES)
        self._answer, self._answered = bytearray(), False
        self._printed, self._printed_dropped = bytearray(), False
        self.is_fit = False
        AskedJob(self._mark, cpu_seconds, cpu_seconds + 1 + spare_seconds, is_kept, question).send(self._wire)
        self.jobs += 1

    def wait(self, deadline: float, timeout_seconds: float, cancelled: Event) -> JobResult:
        """How the job ended: by its answer, its death, its deadline (monotonic) or its cancellation.

        A child that gave no answer is ended.
        """
        cause = self._wait(deadline, cancelled)
        if not self._answered:
            self.end()
        self._drain_printed()
        value, failure = None, None
        if cause == "timeout":
            failure = JobFailure("timeout", f"stopped after {timeout_seconds:g} s")
        elif cause == "cancelled":
            failure = JobFailure("cancelled", "stopped because the job was cancelled")
        elif len(self._answer) > self._answer_bytes:
            most = self._limits.output_bytes
            failure = JobFailure("output_too_large", f"the output is larger than {most} bytes")
        elif self._answered:
            value, failure = read_answer(self._answer)
        elif self.spec.command and not self._said_hello:
            said = plain(self._printed.decode(errors="replace")).strip() or "it ended before the job began"
            failure = JobFailure("isolation_unavailable", f"this worker cannot run jobs in bubblewrap: {said}")
        else:
            failure = how_it_died(self._status)
        return JobResult(value, failure, plain(self._printed.decode(errors="replace")), self._printed_dropped)

    def tell_to_die(self) -> None:
        """Have the child killed with all it started, without waiting until it is dead."""
        self.is_fit = False
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
        self._wire.close()
        self._channel.close()
        if self._printed_at >= 0:
            os.close(self._printed_at)
        self._printed_at = -1

    def _close_far_ends(self) -> None:
        self._wire_end.close()
        self._channel_end.close()
        if self._printed_end >= 0:
            os.close(self._printed_end)
        self._printed_end = -1

    def _wait(self, deadline: float, cancelled: Event) -> str:
        """Read until there is an answer or no process; what came first: `timeout`, `cancelled` or ''."""
        while not self._answered and not self._gone:
            left = deadline - time.monotonic()
            if cancelled.is_set():
                return "cancelled"
            if left <= 0:
                return "timeout"
            self._pump(min(left, CANCEL_POLL_SECONDS))
        return ""

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
                self._take_packets()
            else:
                self._take_packet()

    def _take_packets(self) -> None:
        """What a child sent before it died still counts."""
        while not self._answered and self._take_packet():
            pass

    def _take_packet(self) -> bool:
        """Read one packet. Returns: whether there may be more."""
        try:
            packet = self._wire.recv(frames.PACKET_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            packet = b""
        if not packet:
            # The child closed it, or is about to be dead; which one the channel will tell.
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._wire)
            return False
        if len(packet) >= frames.ANSWER.size:
            mark, follows = frames.ANSWER.unpack_from(packet)
            self._said_hello |= follows == frames.HELLO
            # Another mark: a word of an earlier job, which nobody wants any more.
            if mark == self._mark:
                self._answer += packet[frames.ANSWER.size :]
                self.is_fit = follows == frames.LAST_AND_FIT
                self._answered = follows != frames.MORE or len(self._answer) > self._answer_bytes
        return True

    def _take_printed(self) -> bool:
        """Read one portion of what was printed; all is taken, the bound is kept. Returns: whether there may be more."""
        try:
            chunk = os.read(self._printed_at, READ_BYTES)
        except BlockingIOError:
            return False
        room = self._limits.printed_bytes - len(self._printed)
        self._printed += chunk[:room]
        self._printed_dropped |= len(chunk) > room
        if not chunk:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._printed_at)
        return len(chunk) == READ_BYTES

    def _drain_printed(self) -> None:
        # No job writes any more, but a process that it left could for ever: a pipe's worth is enough.
        for _ in range(32):
            if not self._take_printed():
                return
