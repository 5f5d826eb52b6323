"""Runs a step's shell command, in the child. Knows how it is started and what is kept; nothing of confinement.

Payload: `command`, `shell`, `args` (texts), `env` (texts by name), `stdin` (text) and `kept_bytes`. Standard library
only: the zygote loads this file. The command is handed to the shell as it is written; whatever a step gives it comes as
an argument, a variable or its input, none of which a shell reads as code.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
from typing import IO, Any

from executors.sandbox.frames import failure, success

PATH = "/usr/local/bin:/usr/bin:/bin"
READ_BYTES = 1 << 16
LEFT_SECONDS = 0.2
"""For what a command has left behind to close its output, after the command itself has ended."""
LOOK_SECONDS = 0.05
MAX_MESSAGE = 300


def preload() -> None:
    """Nothing to import: the shell is another program."""


def warm_up() -> None:
    """Nothing to touch."""


def run(payload: dict[str, Any], output_bytes: int) -> dict[str, Any]:
    """The answer: `{exit_code, stdout, stderr}`, or how the command failed, with the same as its data."""
    # A name of its own in $0, and in the shell's messages.
    line = [payload["shell"], "-c", payload["command"], "step", *payload["args"]]
    folder = os.getcwd()
    env = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder, "PWD": folder, **payload["env"]}
    try:
        process = subprocess.Popen(
            line, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return failure("not_started", f"the command could not be started: {why}")
    kept = _Kept(payload["kept_bytes"])
    code = _attend(process, payload["stdin"].encode(errors="replace"), kept)
    told = {"exit_code": code, "stdout": kept.text("stdout"), "stderr": kept.text("stderr"), "truncated": kept.is_cut}
    if code == 0:
        return success(told)
    said = kept.text("stderr").strip().rpartition("\n")[2][:MAX_MESSAGE]
    by = f"was killed by {signal.Signals(code - 128).name}" if process.returncode < 0 else f"ended with {code}"
    return failure("exit_code", f"the command {by}{': ' if said else ''}{said}", data=told)


class _Kept:
    """The first bytes of each output; the rest is read, so that the command goes on, and dropped."""

    def __init__(self, most: int) -> None:
        self.is_cut = False
        self._most = most
        self._parts = {"stdout": bytearray(), "stderr": bytearray()}

    def add(self, name: str, chunk: bytes) -> None:
        part = self._parts[name]
        part += chunk[: self._most - len(part)]
        self.is_cut |= len(part) == self._most and len(chunk) > 0

    def text(self, name: str) -> str:
        return self._parts[name].decode(errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _attend(process: subprocess.Popen[bytes], given: bytes, kept: _Kept) -> int:
    """Feed the command and read from it until it ends. Returns: its exit code, 128 and more for a signal."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    for stream in (process.stdin, process.stdout, process.stderr):
        os.set_blocking(stream.fileno(), False)
    left = memoryview(given)
    quiet_looks = 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "stdout")
        selector.register(process.stderr, selectors.EVENT_READ, "stderr")
        if left:
            selector.register(process.stdin, selectors.EVENT_WRITE, "stdin")
        else:
            process.stdin.close()
        # Its end is not that of its outputs: what it has left in the background may hold them open for ever. Nor is
        # theirs its own: it may write elsewhere, and still read.
        while selector.get_map() and quiet_looks * LOOK_SECONDS < LEFT_SECONDS:
            ready = selector.select(LOOK_SECONDS)
            has_ended = process.poll() is not None
            quiet_looks = quiet_looks + 1 if has_ended else 0
            for key, _ in ready:
                if key.data == "stdin":
                    left = _feed(selector, process.stdin, left)
                else:
                    _take(selector, key, kept)
    with contextlib.suppress(OSError):
        process.stdin.close()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _feed(selector: selectors.BaseSelector, stdin: IO[bytes], left: memoryview) -> memoryview:
    """Write what there is room for. Returns: what is left; nothing when the command reads no more."""
    try:
        left = left[os.write(stdin.fileno(), left[:READ_BYTES]) :]
    except BlockingIOError:
        return left
    except OSError:
        left = left[:0]
    if not left:
        selector.unregister(stdin)
        stdin.close()
    return left


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey, kept: _Kept) -> None:
    try:
        chunk = os.read(key.fd, READ_BYTES)
    except BlockingIOError:
        return
    if chunk:
        kept.add(key.data, chunk)
    else:
        selector.unregister(key.fileobj)
