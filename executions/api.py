"""The executions' door: what other apps may call."""

from __future__ import annotations

from executions.errors import (
    ExecutionEnded,
    ExecutionError,
    ExecutionNotFound,
    LogInconsistent,
    OutcomeRecorded,
    StartConflict,
    WorkloadInvalid,
)
from executions.nudges import Nudge, carry_with
from executions.selectors import (
    ExecutionView,
    StepView,
    count_executions_of_version,
    count_recent_executions,
    find_executions_to_evaluate,
    find_fold_difference,
    find_item_error,
    get_execution,
    list_events,
    list_executions,
    list_latest_events,
    list_steps,
)
from executions.services import (
    Report,
    cancel_execution,
    evaluate_execution,
    reap_expired_lease,
    release_lease,
    report_results,
    requeue_dead_job,
    start_execution,
)

__all__ = [
    "ExecutionEnded",
    "ExecutionError",
    "ExecutionNotFound",
    "ExecutionView",
    "LogInconsistent",
    "Nudge",
    "OutcomeRecorded",
    "Report",
    "StartConflict",
    "StepView",
    "WorkloadInvalid",
    "cancel_execution",
    "carry_with",
    "count_executions_of_version",
    "count_recent_executions",
    "evaluate_execution",
    "find_executions_to_evaluate",
    "find_fold_difference",
    "find_item_error",
    "get_execution",
    "list_events",
    "list_executions",
    "list_latest_events",
    "list_steps",
    "reap_expired_lease",
    "release_lease",
    "report_results",
    "requeue_dead_job",
    "start_execution",
]
