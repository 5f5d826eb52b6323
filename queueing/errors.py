"""What can go wrong with a job, each with a stable code. No HTTP and no exit codes here."""

from __future__ import annotations


class QueueError(Exception):
    """Root of the queue's errors."""

    code = "queue_error"


class JobNotFound(QueueError):
    """No job has this id."""

    code = "job_not_found"

    def __init__(self, job_id: int | str) -> None:
        self.job_id = str(job_id)
        super().__init__(f"there is no job {job_id}")
