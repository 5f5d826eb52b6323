"""What actions print and log: rows beside the event log, numbered and counted per execution."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings

from executions.domain.lines import JobLines, count_bytes
from executions.store.statements import execute, json_text, rows


def append_lines(execution_id: int, logged: Sequence[JobLines]) -> None:
    """Append lines of jobs, at the latest when the transaction commits; past the bound they are only counted.

    They are numbered under the lock of the execution's row of totals: whoever reads on from a number misses none.
    """
    documents = [
        {
            "place": place,
            "at": line.at,
            "node_id": job.node_id,
            "step": job.step,
            "attempt": job.attempt,
            "item_index": job.index,
            "stream": line.stream,
            "level": line.level,
            "text": line.text,
        }
        for place, (job, line) in enumerate(((job, line) for job in logged for line in job.lines), 1)
    ]
    if not documents:
        return
    execute(
        "append_lines",
        execution_id=execution_id,
        lines=json_text(documents),
        count=len(documents),
        bytes=sum(count_bytes(job.lines) for job in logged),
        most_bytes=settings.NOETL_LOG_BYTES_PER_EXECUTION,
    )


def count_dropped_lines(execution_id: int) -> int:
    """How many lines of an execution came when its log was full."""
    found = rows("dropped_lines", execution_id=execution_id)
    return found[0][0] if found else 0


def logging_steps(execution_id: int) -> list[str]:
    """The steps that have lines in the execution's log, by name; found step by step through the index."""
    return [name for (name,) in rows("logging_steps", execution_id=execution_id)]
