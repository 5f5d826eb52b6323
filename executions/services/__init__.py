"""The transactions of executions. Each locks the execution first and its queue rows after (rule R2), and only here is
the event log written (rule R1).

What a step leads to is decided by `domain.planner`; these modules load what the planner asks for and carry out what it
decides: `starting`, `reporting`, `evaluation` (with `turns` and `children`), `steering`, `repairs`, `sweeping`.
`posting` writes what others add to an execution.
"""

from executions.services.evaluation import evaluate_execution, fire_timers
from executions.services.posting import enqueue_external_job, post_annotation
from executions.services.repairs import release_lease, requeue_dead_job
from executions.services.reporting import (
    Report,
    append_log,
    reap_expired_lease,
    report_and_take,
    report_results,
)
from executions.services.starting import rerun_execution, start_execution
from executions.services.steering import (
    Approver,
    answer_approval,
    cancel_execution,
    pause_execution,
    resume_execution,
    send_signal,
)
from executions.services.sweeping import Repair, repair_execution

__all__ = [
    "Approver",
    "Repair",
    "Report",
    "answer_approval",
    "append_log",
    "cancel_execution",
    "enqueue_external_job",
    "evaluate_execution",
    "fire_timers",
    "pause_execution",
    "post_annotation",
    "reap_expired_lease",
    "release_lease",
    "repair_execution",
    "report_and_take",
    "report_results",
    "requeue_dead_job",
    "rerun_execution",
    "resume_execution",
    "send_signal",
    "start_execution",
]
