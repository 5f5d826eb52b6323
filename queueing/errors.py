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


class LeaseLost(QueueError):
    """The job is in other hands or over, or it cannot be told which of its leases is meant; nothing was written."""

    code = "lease_lost"

    def __init__(self, job_id: int | str) -> None:
        self.job_id = str(job_id)
        super().__init__(
            f"you do not hold job {job_id}: its lease ran out, was given to somebody else, or is not told apart from "
            "an earlier one (give its lease_token)"
        )
