"""One job as the worker sees it: its descriptors, what came through them, and what that means.

Knows nothing of how the zygote is started or why a job is run. What the child sends is foreign input.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from executors.sandbox import frames
from executors.sandbox.frames import ChildSpec
from executors.sandbox.sanitise import MAX_OUTPUT_BYTES

CANCEL_POLL_SECONDS = 0.05
DEATH_WAIT_SECONDS = 5.0
READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one job; 0 is no bound."""

    memory_bytes: int = 1 << 30
    file_bytes: int = 256 << 20
    open_files: int = 256
    processes: int = 64
    output_bytes: int = MAX_OUTPUT_BYTES
    printed_bytes: int = 64 << 10


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job gave no value.

    Codes: `timeout`, `cancelled`, `killed`, `exited`, `python_error`, `code_invalid`, `sql_error`,
    `database_locked`, `input_invalid`, `output_invalid`, `output_too_large`, `sandbox_error`.
    """

    code: str
    message: str
    traceback: str = ""
    data: Any = None


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended: `failure` is None when `value` counts."""

    value: Any = None
    failure: JobFailure | None = None
    printed: str = ""
    printed_truncated: bool = False


@dataclass(slots=True)
class _Inflow:
    """What was read from one pipe so far: at most `limit` bytes are kept, all are taken."""

    descriptor: int
    limit: int
    kept: bytearray = field(default_factory=bytearray)
    dropped: bool = False
    ended: bool = False

    def pump(self) -> None:
        try:
            chunk = os.read(self.descriptor, READ_BYTES)
        except BlockingIOError:
            return
        room = self.limit - len(self.kept)
        self.kept += chunk[:room]
        self.dropped |= len(chunk) > room
        self.ended |= not chunk

    def drain(self) -> None:
        """Take what is there without waiting; for when no writer lives any more."""
        while not self.ended:
            before = len(self.kept)
            self.pump()
            if len(self.kept) == before:
                return


class Job:
    """One job's descriptors on the worker's side, and what came through them."""

    def __init__(self, limits: Limits) -> None:
        self._output_bytes = limits.output_bytes
        self._descriptors = contextlib.ExitStack()
        reply, self._reply_end = self._pipe()
        printed, self._printed_end = self._pipe()
        # Room for the envelope of a result just within the bound; an escape takes up to 6 characters.
        self._reply = _Inflow(reply, limits.output_bytes * 6 + 65_536)
        self._printed = _Inflow(printed, limits.printed_bytes)
        self._channel, self._channel_end = socket.socketpair()
        self._descriptors.enter_context(self._channel)
        self._status: int | None = None
        self._gone = False

    def _pipe(self) -> tuple[int, int]:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        self._descriptors.callback(os.close, ours)
        return ours, theirs

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self._descriptors.close()
        self._close_far_ends()

    def _close_far_ends(self) -> None:
        for descriptor in (self._reply_end, self._printed_end):
            if descriptor >= 0:
                os.close(descriptor)
        self._reply_end = self._printed_end = -1
        self._channel_end.close()

    def send(self, control: socket.socket, spec: ChildSpec, question: bytes) -> None:
        """Hand the job to the zygote. Raises: `OSError` when it is gone; nothing was started then."""
        payload = os.memfd_create("job")
        try:
            frames.write_all(payload, question)
            os.lseek(payload, 0, os.SEEK_SET)
            ends = [payload, self._reply_end, self._printed_end, self._channel_end.fileno()]
            socket.send_fds(control, [spec.encode()], ends)
        finally:
            os.close(payload)
        self._close_far_ends()

    def wait(self, deadline: float, cancelled: Event) -> str:
        """Read until there is an answer or no process; what came first: `timeout`, `cancelled` or ''."""
        while not self._answered and not self._gone:
            left = deadline - time.monotonic()
            if cancelled.is_set():
                return "cancelled"
            if left <= 0:
                return "timeout"
            self._pump(min(left, CANCEL_POLL_SECONDS))
        return ""

    def stop(self) -> bool:
        """Have the zygote kill what is left, and wait until it says so. False: it does not answer."""
        if not self._gone:
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)
        give_up_at = time.monotonic() + DEATH_WAIT_SECONDS
        while not self._gone and time.monotonic() < give_up_at:
            self._pump(CANCEL_POLL_SECONDS)
        self._reply.drain()
        self._printed.drain()
        return self._gone

    def _pump(self, seconds: float) -> None:
        poll = select.poll()
        for inflow in (self._reply, self._printed):
            if not inflow.ended:
                poll.register(inflow.descriptor, select.POLLIN)
        poll.register(self._channel, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
        for inflow in (self._reply, self._printed):
            if inflow.descriptor in ready:
                inflow.pump()
        if self._channel.fileno() in ready:
            message = self._channel.recv(frames.STATUS.size)
            if message:
                (self._status,) = frames.STATUS.unpack(message)
            self._gone = True

    @property
    def _answered(self) -> bool:
        if self._reply.dropped:
            return True
        kept = self._reply.kept
        if len(kept) < frames.HEADER.size:
            return False
        (size,) = frames.HEADER.unpack_from(kept)
        return bool(size > self._reply.limit or len(kept) >= frames.HEADER.size + size)

    def result(self, cause: str, timeout_seconds: float) -> JobResult:
        value, failure = None, None
        if cause == "timeout":
            failure = JobFailure("timeout", f"stopped after {timeout_seconds:g} s")
        elif cause == "cancelled":
            failure = JobFailure("cancelled", "stopped because the job was cancelled")
        elif self._answered:
            value, failure = self._read_answer()
        else:
            failure = self._how_it_died()
        printed = _plain(self._printed.kept.decode(errors="replace"))
        return JobResult(value, failure, printed, self._printed.dropped)

    def _read_answer(self) -> tuple[Any, JobFailure | None]:
        """The child's answer. Foreign code ran there, so nothing about its form is taken for granted."""
        (size,) = frames.HEADER.unpack_from(self._reply.kept)
        if size > self._reply.limit - frames.HEADER.size:
            return None, JobFailure("output_too_large", f"the output is larger than {self._output_bytes} bytes")
        body = self._reply.kept[frames.HEADER.size : frames.HEADER.size + size]
        try:
            answer = json.loads(body)
            if answer["ok"] is True:
                return answer["value"], None
            code, message, trace = (_plain(str(answer[key])) for key in ("code", "message", "traceback"))
            return None, JobFailure(code, message, trace, answer["data"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            return None, JobFailure("output_invalid", f"the process gave an unreadable answer ({type(error).__name__})")

    def _how_it_died(self) -> JobFailure:
        if self._status is None:
            return JobFailure("killed", "the sandbox's process server died")
        if self._status == frames.FORK_FAILED:
            return JobFailure("sandbox_error", "no process could be started for the job")
        if os.WIFSIGNALED(self._status):
            number = os.WTERMSIG(self._status)
            return JobFailure("killed", f"the process was killed by {signal.Signals(number).name}")
        status = os.WEXITSTATUS(self._status)
        return JobFailure("exited", f"the code ended its process with status {status} before main returned")


def _plain(text: str) -> str:
    """Text that Postgres and every log can hold."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
