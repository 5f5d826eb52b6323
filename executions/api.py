"""The executions' door: what other apps may call."""

from __future__ import annotations

from executions.domain.events import ACTION_COMPLETED, OUTCOMES, SPELLINGS, Event
from executions.errors import (
    EventIdTaken,
    EventNotFound,
    ExecutionEnded,
    ExecutionError,
    ExecutionNotFound,
    LogInconsistent,
    NodeReserved,
    StartConflict,
    TemplateError,
    WorkloadInvalid,
)
from executions.nudges import Nudge, carry_with
from executions.posting import enqueue_external_job, post_annotation
from executions.rendering import Rendering
from executions.selectors import (
    ExecutionView,
    StepView,
    find_executions_to_evaluate,
    find_fold_difference,
    find_posted,
    get_execution,
    get_outcome,
    list_events,
    list_executions,
    list_steps,
)
from executions.services import (
    Report,
    cancel_execution,
    evaluate_execution,
    reap_expired_lease,
    report_results,
    start_execution,
)

__all__ = [
    "ACTION_COMPLETED",
    "OUTCOMES",
    "SPELLINGS",
    "Event",
    "EventIdTaken",
    "EventNotFound",
    "ExecutionEnded",
    "ExecutionError",
    "ExecutionNotFound",
    "ExecutionView",
    "LogInconsistent",
    "NodeReserved",
    "Nudge",
    "Rendering",
    "Report",
    "StartConflict",
    "StepView",
    "TemplateError",
    "WorkloadInvalid",
    "cancel_execution",
    "carry_with",
    "enqueue_external_job",
    "evaluate_execution",
    "find_executions_to_evaluate",
    "find_fold_difference",
    "find_posted",
    "get_execution",
    "get_outcome",
    "list_events",
    "list_executions",
    "list_steps",
    "post_annotation",
    "reap_expired_lease",
    "report_results",
    "start_execution",
]
