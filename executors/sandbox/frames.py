"""The wire between the worker, the zygote and a job's child: what is asked, and how a reply is framed.

A request is one datagram on the control socket, with four descriptors beside it: payload (a memory file),
reply (a pipe), printed (a pipe) and channel (a socket: the worker's end shut means "kill it"; the zygote
answers there with the exit status). Knows nothing of what a program does.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import asdict, dataclass
from typing import Any

HEADER = struct.Struct("<Q")
STATUS = struct.Struct("<i")
FORK_FAILED = -1
"""In place of a wait status: no child was made."""
REQUEST_MAX_BYTES = 16 * 1024
DESCRIPTORS = 4


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one child is confined. A bound of 0 is no bound; `uid` is None to keep the zygote's."""

    workdir: str
    uid: int | None
    gid: int
    cpu_seconds: int
    memory_bytes: int
    file_bytes: int
    open_files: int
    processes: int
    output_bytes: int

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> ChildSpec:
        return cls(**json.loads(data))


def failure(code: str, message: str, *, traceback: str = "", data: Any = None) -> dict[str, Any]:
    """A reply that says what went wrong."""
    return {"ok": False, "code": code, "message": message, "traceback": traceback, "data": data}


def success(value: Any) -> dict[str, Any]:
    """A reply that holds the result."""
    return {"ok": True, "value": value}


def encode_reply(reply: dict[str, Any]) -> bytes:
    body = json.dumps(reply, allow_nan=False).encode()
    return HEADER.pack(len(body)) + body


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_all(descriptor: int) -> bytes:
    chunks = []
    while chunk := os.read(descriptor, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)
