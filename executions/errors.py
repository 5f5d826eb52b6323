"""What can go wrong with an execution, each with a stable code. No HTTP and no exit codes here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ExecutionError(Exception):
    """Root of the executions' errors."""

    code = "execution_error"


class ExecutionNotFound(ExecutionError):
    """No execution has this id."""

    code = "execution_not_found"

    def __init__(self, execution_id: int | str) -> None:
        self.execution_id = str(execution_id)
        super().__init__(f"there is no execution {execution_id}")


class ImpossibleEvent(ExecutionError):
    """An event that cannot follow the ones before it; the state was left as it was."""

    code = "impossible_event"

    def __init__(self, event_type: str, node_id: str, reason: str) -> None:
        self.event_type = event_type
        self.node_id = node_id
        super().__init__(f"{event_type} of {node_id} cannot happen: {reason}")


class EventsTooNew(ExecutionError):
    """The log has events of a form that a newer release writes: whoever reads it here would misread it."""

    code = "events_too_new"

    def __init__(self, execution_id: int | str, form: int, known: int) -> None:
        super().__init__(
            f"execution {execution_id} has events of format {form}, and this release knows no format after {known}: "
            "a newer one works on it"
        )


class TemplateError(ExecutionError):
    """A template could not be rendered."""

    code = "template_error"

    def __init__(self, template: str, message: str) -> None:
        self.template = template
        self.reason = message
        super().__init__(f"{message} in {shorten(template)}")


class WorkloadInvalid(ExecutionError):
    """The payload of a start is no map, or the playbook's workload cannot be rendered; nothing was started."""

    code = "workload_invalid"


class StartConflict(ExecutionError):
    """An idempotency key was used before with another request; nothing was started."""

    code = "start_conflict"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the idempotency key {key!r} was used for another start")


class TooBusy(ExecutionError):
    """So much waits or runs that no execution is started now; nothing was started."""

    code = "too_busy"
    retry_after_seconds = 5

    def __init__(self, what: str, bound: int) -> None:
        self.bound = bound
        super().__init__(f"{what}, and no more than {bound} are allowed here: try again later")


class OutcomeRecorded(ExecutionError):
    """A dead job of a step has its outcome in the log, and a node has one outcome only; nothing was changed."""

    code = "outcome_recorded"

    def __init__(self, job_id: int | str) -> None:
        self.job_id = str(job_id)
        super().__init__(
            f"job {job_id} failed its step with lease_exhausted, and a step has one outcome: "
            "mend what ended its workers, then start the playbook again"
        )


class ExecutionEnded(ExecutionError):
    """The execution is over: nothing starts work in it any more."""

    code = "execution_ended"

    def __init__(self, execution_id: int | str, status: str) -> None:
        super().__init__(f"execution {execution_id} is {status}: it takes no more jobs")


class NotPausable(ExecutionError):
    """The execution is in no status to be paused or resumed; nothing was changed."""

    code = "not_pausable"

    def __init__(self, execution_id: int | str, status: str, wanted: str) -> None:
        super().__init__(f"execution {execution_id} is {status}: it cannot be {wanted}")


class ApprovalClosed(ExecutionError):
    """Nothing waits for an approval there: answered, ended, or not asked for yet; nothing was changed."""

    code = "approval_closed"

    def __init__(self, execution_id: int | str, place: str) -> None:
        super().__init__(f"execution {execution_id} waits for no approval at {place!r}")


class NotApprover(ExecutionError):
    """Who answers an approval is none of its approvers; nothing was changed."""

    code = "not_approver"

    def __init__(self, step: str, name: str) -> None:
        super().__init__(f"{name or 'nobody'} is none of the approvers of the step {step!r}")


class NodeReserved(ExecutionError):
    """A job enqueued by hand was given a node id that belongs to the planner; nothing was enqueued."""

    code = "node_reserved"

    def __init__(self, node_id: str) -> None:
        prefix = node_id.partition(":")[0]
        super().__init__(f"node ids that begin with {prefix}: are the planner's: give the job another one")


class EventIdTaken(ExecutionError):
    """An event was posted under the id of another event of its execution; nothing was written."""

    code = "event_id_taken"

    def __init__(self, posted_id: str) -> None:
        super().__init__(f"another event of the execution was posted under the id {posted_id}")


class EventNotFound(ExecutionError):
    """No event has this id."""

    code = "event_not_found"

    def __init__(self, event_id: int | str) -> None:
        super().__init__(f"there is no event {event_id}")


class LogInconsistent(ExecutionError):
    """The stored state and the event log disagree; the execution is left as it is for an operator."""

    code = "log_inconsistent"

    def __init__(self, execution_id: int | str, details: Mapping[str, Any]) -> None:
        self.details = dict(details)
        super().__init__(f"execution {execution_id}: stored state and event log disagree: {self.details}")


def shorten(text: str, limit: int = 200) -> str:
    """The text, or its beginning with an ellipsis when it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
