"""Running a job in a sandbox and keeping what it prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from executors.sandbox.host import JobResult, Sandbox


@dataclass(frozen=True, slots=True)
class Ran(JobResult):
    """How a job ended, and all that it printed."""

    printed: str = ""


def run_printing(sandbox: Sandbox, payload: dict[str, Any], **options: Any) -> Ran:
    """Run a job."""
    chunks: list[bytes] = []
    result = sandbox.run(payload, printed=chunks.append, **options)
    return Ran(result.value, result.failure, b"".join(chunks).decode(errors="replace"))
