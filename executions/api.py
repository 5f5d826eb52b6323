"""The executions' door: what other apps may call."""

from __future__ import annotations

from executions.errors import (
    ExecutionError,
    ExecutionNotFound,
    LogInconsistent,
    StartConflict,
    WorkloadInvalid,
)
from executions.failpoints import failpoint
from executions.nudges import Nudge, carry_with
from executions.selectors import (
    ExecutionView,
    StepView,
    find_executions_to_evaluate,
    find_fold_difference,
    get_execution,
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
    "ExecutionError",
    "ExecutionNotFound",
    "ExecutionView",
    "LogInconsistent",
    "Nudge",
    "Report",
    "StartConflict",
    "StepView",
    "WorkloadInvalid",
    "cancel_execution",
    "carry_with",
    "evaluate_execution",
    "failpoint",
    "find_executions_to_evaluate",
    "find_fold_difference",
    "get_execution",
    "list_events",
    "list_executions",
    "list_steps",
    "reap_expired_lease",
    "report_results",
    "start_execution",
]
