"""The executions' door: what other apps may call."""

from __future__ import annotations

from executions.domain.commands import SetTimer, StartChild
from executions.domain.engine import Engine, begin
from executions.domain.events import ACTION_COMPLETED, OUTCOMES, SPELLINGS, Event
from executions.domain.forecast import Forecast, Unknown, forecast
from executions.domain.jobs import EnqueueJob
from executions.domain.memory import step_statuses
from executions.domain.outcomes import ActionOutcome, child_answer_invalid, child_outcome, child_refused
from executions.errors import (
    EventIdTaken,
    EventNotFound,
    ExecutionEnded,
    ExecutionError,
    ExecutionNotFound,
    LogInconsistent,
    NodeReserved,
    OutcomeRecorded,
    StartConflict,
    TemplateError,
    WorkloadInvalid,
)
from executions.failpoints import failpoint
from executions.nudges import Nudge, carry_with
from executions.posting import enqueue_external_job, post_annotation
from executions.rendering import Rendering
from executions.selectors import (
    ExecutionView,
    StepView,
    count_executions_of_version,
    count_recent_executions,
    find_executions_to_evaluate,
    find_fold_difference,
    find_item_error,
    get_execution,
    get_outcome,
    list_events,
    list_executions,
    list_latest_events,
    list_steps,
    read_log,
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
    "ACTION_COMPLETED",
    "OUTCOMES",
    "SPELLINGS",
    "ActionOutcome",
    "Engine",
    "EnqueueJob",
    "Event",
    "EventIdTaken",
    "EventNotFound",
    "ExecutionEnded",
    "ExecutionError",
    "ExecutionNotFound",
    "ExecutionView",
    "Forecast",
    "LogInconsistent",
    "NodeReserved",
    "Nudge",
    "OutcomeRecorded",
    "Rendering",
    "Report",
    "SetTimer",
    "StartChild",
    "StartConflict",
    "StepView",
    "TemplateError",
    "Unknown",
    "WorkloadInvalid",
    "begin",
    "cancel_execution",
    "carry_with",
    "child_answer_invalid",
    "child_outcome",
    "child_refused",
    "count_executions_of_version",
    "count_recent_executions",
    "enqueue_external_job",
    "evaluate_execution",
    "failpoint",
    "find_executions_to_evaluate",
    "find_fold_difference",
    "find_item_error",
    "forecast",
    "get_execution",
    "get_outcome",
    "list_events",
    "list_executions",
    "list_latest_events",
    "list_steps",
    "post_annotation",
    "read_log",
    "reap_expired_lease",
    "release_lease",
    "report_results",
    "requeue_dead_job",
    "start_execution",
    "step_statuses",
]
