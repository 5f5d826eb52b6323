"""What a confined child does: take a job from the wire, run it, answer, and again while it is fit for another.

Knows nothing of confinement or of what a program computes. What jobs leave behind is `slate`'s matter.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from typing import Any, Protocol

from executors.sandbox import frames, jail
from executors.sandbox.frames import AskedJob, ChildSpec
from executors.sandbox.slate import Slate

PROGRAMS = {
    "python": "executors.sandbox.program_python",
    "duckdb": "executors.sandbox.program_duckdb",
    "shell": "executors.sandbox.program_shell",
}


class Program(Protocol):
    """What a program module offers."""

    def preload(self) -> None:
        """Import what jobs will want; start no thread and open nothing."""

    def warm_up(self) -> None:
        """Touch what the first job will touch, in a child that waits for one."""

    def run(self, payload: dict[str, Any], output_bytes: int) -> dict[str, Any]:
        """Compute the answer, in the child."""


def serve(wire: socket.socket, spec: ChildSpec, program: Program) -> None:
    """Serve jobs until the worker ends this child or the child is unfit for more.

    Raises: `OSError` when a job took the wire away.
    """
    me = os.getpid()
    slate = Slate(spec)
    program.warm_up()
    is_first = True
    while asked := AskedJob.receive(wire):
        answer = _answer(asked, spec, program, is_first=is_first)
        if os.getpid() != me:
            # A fork that came back from the job's code: nobody asked it.
            return
        if not asked.is_kept:
            frames.send_answer(wire, asked.mark, answer)
            return
        slate.end_printed(asked.mark)
        # Before the wiping, which nobody has to wait for.
        frames.send_answer(wire, asked.mark, answer)
        if not slate.wipe():
            frames.say_farewell(wire, asked.mark)
            return
        is_first = False


def refuse(wire: socket.socket, message: str) -> None:
    """Answer the first job with why it cannot be run here (`sandbox_error`)."""
    if asked := AskedJob.receive(wire):
        frames.send_answer(wire, asked.mark, _encoded(frames.failure("sandbox_error", message)))


def _answer(asked: AskedJob, spec: ChildSpec, program: Program, *, is_first: bool) -> bytes:
    try:
        jail.limit_cpu(asked.soft_seconds, asked.hard_seconds if is_first else None)
        answer = _encoded(program.run(json.loads(asked.question), spec.output_bytes))
    except BaseException as error:
        # The job's code may raise anything, and whoever asked wants an answer.
        answer = _encoded(frames.failure("sandbox_error", f"{type(error).__name__}: {error}"))
    # User code may have replaced or closed the stream; the answer matters more than its last words.
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    return answer


def _encoded(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, allow_nan=False).encode()
