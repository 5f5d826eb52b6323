"""What a job may use, and how it ended.

What a child says is foreign input: nothing about its form is taken for granted. Knows no descriptors.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from typing import Any, Final

from executors.sandbox import frames
from executors.sandbox.sanitise import MAX_OUTPUT_BYTES


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one job; 0 is no bound."""

    memory_bytes: int = 1 << 30
    file_bytes: int = 256 << 20
    open_files: int = 256
    processes: int = 64
    output_bytes: int = MAX_OUTPUT_BYTES


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job gave no value.

    Codes: `timeout`, `cancelled`, `killed`, `exited`, `python_error`, `out_of_memory`, `code_invalid`, `sql_error`,
    `database_locked`, `input_invalid`, `output_invalid`, `output_too_large`, `sandbox_error`,
    `isolation_unavailable`.
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


def read_answer(answer: bytes | bytearray) -> tuple[Any, JobFailure | None]:
    """The value or the failure in a child's answer."""
    try:
        told = json.loads(answer)
        if told["ok"] is True:
            return told["value"], None
        code, message, trace = (plain(str(told[key])) for key in ("code", "message", "traceback"))
        return None, JobFailure(code, message, trace, told["data"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return None, JobFailure("output_invalid", f"the process gave an unreadable answer ({type(error).__name__})")


def how_it_died(status: int | None) -> JobFailure:
    """Why a child gave no answer. `status` is its wait status; None: nobody is left to tell."""
    if status is None:
        return JobFailure("killed", "the sandbox's process server died")
    if status == frames.FORK_FAILED:
        return JobFailure("sandbox_error", "no process could be started for the job")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        cause = _CAUSES.get(number, "")
        return JobFailure("killed", f"the process was killed by {_name(number)}{cause}")
    return JobFailure("exited", f"the code ended its process with status {os.WEXITSTATUS(status)} before it answered")


_CAUSES: Final[dict[int, str]] = {
    signal.SIGXCPU: ": it has used up its CPU time",
    signal.SIGXFSZ: ": it has written a larger file than it may",
    signal.SIGKILL: ", by itself, by the kernel (out of memory, or of CPU time), or by the machine's owner",
    signal.SIGSEGV: ": it has read or written memory that is not its own",
}


def _name(number: int) -> str:
    # Real-time signals but the first and the last have no name.
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def plain(text: str) -> str:
    """Text that Postgres and every log can hold."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
