"""The wires between the worker, the zygote and a child: what is asked, and how an answer is framed.

To the zygote, one datagram on its control socket asks for a child; beside it go three descriptors: wire (a packet
socket for jobs and answers), printed (a pipe) and channel (a socket: the worker's end shut means "kill it"; the zygote
answers there with the exit status). On the wire, a packet of the worker is a job, marked with dice that only this job
has; an answer is one or more packets with the same mark. Whatever bears another mark is not an answer to this job.
In what is printed, the mark ends a job's part when the child is kept for another.
Knows nothing of what a program does.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from dataclasses import asdict, dataclass
from typing import Any

STATUS = struct.Struct("<i")
FORK_FAILED = -1
"""In place of a wait status: no child was made."""
REQUEST_MAX_BYTES = 16 * 1024
DESCRIPTORS = 3

MARK_BYTES = 16
JOB = struct.Struct(f"<{MARK_BYTES}sIIB")
"""Mark, seconds of CPU time it may use (soft and hard limit), whether the child is kept for another job."""
ANSWER = struct.Struct(f"<{MARK_BYTES}sB")
MORE, LAST, LEAVES, HELLO = range(4)
"""What follows an answer's packet: more of it; nothing.

Two stand alone. LEAVES: the child is unfit for another job and reads no more of them. HELLO, before any job: a wrapped
child came through its wrapping.
"""
CHUNK_BYTES = 64 * 1024
PACKET_BYTES = CHUNK_BYTES + max(JOB.size, ANSWER.size)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one child is confined. A bound of 0 is no bound; `uid` is None to keep the zygote's."""

    workdir: str
    uid: int | None
    gid: int
    memory_bytes: int
    file_bytes: int
    open_files: int
    processes: int
    output_bytes: int
    command: tuple[str, ...] = ()
    """What wraps the child: a program to start in place of a fork that serves itself."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> ChildSpec:
        return cls(**json.loads(data))


@dataclass(frozen=True, slots=True)
class AskedJob:
    """A job as it reaches the child. Seconds are of CPU time; `question` is JSON."""

    mark: bytes
    soft_seconds: int
    hard_seconds: int
    is_kept: bool
    question: bytes

    def send(self, wire: socket.socket) -> None:
        """Put it on a child's wire, which has room for a few packets. Raises: `OSError`."""
        head = JOB.pack(self.mark, self.soft_seconds, self.hard_seconds, self.is_kept)
        if len(self.question) <= CHUNK_BYTES:
            wire.send(head + self.question, socket.MSG_DONTWAIT)
            return
        # A large question goes in a memory file: nobody has to wait until the other side reads.
        file = os.memfd_create("job")
        try:
            write_all(file, self.question)
            os.lseek(file, 0, os.SEEK_SET)
            socket.send_fds(wire, [head], [file], socket.MSG_DONTWAIT)
        finally:
            os.close(file)

    @classmethod
    def receive(cls, wire: socket.socket) -> AskedJob | None:
        """Wait for the next job, in the child. None: the worker wants no more."""
        packet, files, _, _ = socket.recv_fds(wire, PACKET_BYTES, 1)
        if not packet:
            return None
        mark, soft, hard, is_kept = JOB.unpack_from(packet)
        question = packet[JOB.size :]
        for file in files:
            question = read_all(file)
            os.close(file)
        return cls(mark, soft, hard, bool(is_kept), question)


def say_hello(wire: socket.socket) -> None:
    """Tell the worker that this wrapped child is there."""
    wire.send(ANSWER.pack(bytes(MARK_BYTES), HELLO))


def say_farewell(wire: socket.socket, mark: bytes) -> None:
    """Tell the worker, if there is room for it, that the child takes no job after the one of this mark."""
    with contextlib.suppress(OSError):
        wire.send(ANSWER.pack(mark, LEAVES), socket.MSG_DONTWAIT)


def send_answer(wire: socket.socket, mark: bytes, answer: bytes) -> None:
    """Answer the job of this mark. Raises: `OSError` when the wire is gone."""
    for start in range(0, max(1, len(answer)), CHUNK_BYTES):
        follows = MORE if start + CHUNK_BYTES < len(answer) else LAST
        wire.send(ANSWER.pack(mark, follows) + answer[start : start + CHUNK_BYTES])


def failure(code: str, message: str, *, traceback: str = "", data: Any = None) -> dict[str, Any]:
    """An answer that says what went wrong."""
    return {"ok": False, "code": code, "message": message, "traceback": traceback, "data": data}


def success(value: Any) -> dict[str, Any]:
    """An answer that holds the result."""
    return {"ok": True, "value": value}


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_all(descriptor: int) -> bytes:
    chunks = []
    while chunk := os.read(descriptor, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)
