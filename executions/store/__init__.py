"""The rows of executions and their log as values: the only place of this app that runs SQL.

Statements live in `executions/sql`; all run on the caller's connection, inside the caller's transaction.
"""

from executions.store.children import (
    EndedChild,
    NewChild,
    close_children,
    find_ended_children,
    find_parents_to_tell,
    insert_children,
    mark_told,
)
from executions.store.facts import load_facts, load_results, outcomes_below
from executions.store.frames import load_all_frames, load_frames, save_frames
from executions.store.log import (
    append_events,
    append_first_events,
    count_items,
    events_since,
    is_posted_id_taken,
    large_results,
    open_approvals,
)
from executions.store.rows import (
    EndOfExecution,
    LockedExecution,
    NewExecution,
    StoredExecution,
    find_start,
    find_to_evaluate,
    forget_cancel_request,
    insert_execution,
    lock_execution,
    lock_execution_if_free,
    mark_for_evaluation,
    new_id,
    new_ids,
    read_end,
    read_execution,
    save_state,
    set_last_seq,
)
from executions.store.statements import pipelined, savepoint
from executions.store.timers import DueTimer, drop_timers, find_due_executions, set_timers, take_due_timers

__all__ = [
    "DueTimer",
    "EndOfExecution",
    "EndedChild",
    "LockedExecution",
    "NewChild",
    "NewExecution",
    "StoredExecution",
    "append_events",
    "append_first_events",
    "close_children",
    "count_items",
    "drop_timers",
    "events_since",
    "find_due_executions",
    "find_ended_children",
    "find_parents_to_tell",
    "find_start",
    "find_to_evaluate",
    "forget_cancel_request",
    "insert_children",
    "insert_execution",
    "is_posted_id_taken",
    "large_results",
    "load_all_frames",
    "load_facts",
    "load_frames",
    "load_results",
    "lock_execution",
    "lock_execution_if_free",
    "mark_for_evaluation",
    "mark_told",
    "new_id",
    "new_ids",
    "open_approvals",
    "outcomes_below",
    "pipelined",
    "read_end",
    "read_execution",
    "save_frames",
    "save_state",
    "savepoint",
    "set_last_seq",
    "set_timers",
    "take_due_timers",
]
