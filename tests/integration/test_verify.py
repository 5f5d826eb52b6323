"""`verify` sees what it says it sees: a seeded fault for each of its invariants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from django.db import connections

from catalog.api import register_playbook
from executors.selectors import find_violations, invariants
from tests.support.books import CHAIN, FAN, lease, report, start, work_off
from tests.support.language import CHILD, CODE, EACH, PARENT, WAIT, book

pytestmark = pytest.mark.usefixtures("fresh_db")

LIMITED: Final = f"""
workflow:
  - {{step: start, next: each}}
  - {{step: each, type: python, {CODE}, limit: {{key: k, max: 2}}, next: end,
     loop: {{in: [0, 1, 2, 3, 4, 5], iterator: item}}}}
  - step: end
"""
NEW_EVENT: Final = "INSERT INTO event_log (execution_id, seq, event_type, node_id, node_name, node_type"


# -- what there is before the fault ------------------------------------------------------------------


def running() -> None:
    """Five items: one is done, one is leased, three wait."""
    start(FAN)
    first, _ = lease(count=2)
    report(first, 1)


def completed() -> None:
    """Two steps in a row are done."""
    start(CHAIN)
    work_off(lambda job: {"n": 2})


def calling() -> None:
    """A parent waits for its child, which has not begun."""
    register_playbook(book(CHILD, "child"))
    start(book(PARENT))


def waiting() -> None:
    """A timer is all there is."""
    start(book(WAIT))


def looping() -> None:
    """A loop over steps has three items running, each a frame."""
    start(book(EACH))


def limited() -> None:
    """Six items of which a key allows two: two are leased, the others parked."""
    start(book(LIMITED))
    assert len(lease(count=9)) == 2


Before = Callable[[], None]

SEEDED: Final[list[tuple[str, Before, str]]] = [
    ("live_execution_has_work", running, "DELETE FROM queue"),
    ("live_execution_has_work", calling, "DELETE FROM execution WHERE depth = 1"),
    ("live_execution_has_work", waiting, "DELETE FROM timer"),
    ("running_node_has_its_job", running, "DELETE FROM queue WHERE item_index = 3"),
    ("running_node_has_its_job", calling, "DELETE FROM execution WHERE depth = 1"),
    ("ended_execution_has_no_queued_job", running, "UPDATE execution SET status = 'failed', ended_at = now()"),
    ("seq_is_dense", completed, f"{NEW_EVENT}) SELECT id, last_seq + 2, 'warning', 'x', 'x', 'step' FROM execution"),
    ("last_seq_is_the_logs", running, "UPDATE execution SET last_seq = last_seq + 1"),
    ("one_start_per_execution", completed, "UPDATE execution SET id = id + 1"),
    ("terminal_event_matches_status", running, "UPDATE execution SET status = 'completed', ended_at = now()"),
    (
        "one_outcome_per_node",
        completed,
        # The database itself refuses it otherwise.
        f"DROP INDEX event_log_one_outcome; {NEW_EVENT}) "
        "SELECT execution_id, seq + 100, 'action_error', node_id, node_name, node_type FROM event_log "
        "WHERE event_type = 'action_completed' AND node_name = 'one'",
    ),
    ("finished_job_has_its_outcome", running, "UPDATE queue SET status = 'done' WHERE status = 'queued'"),
    ("outcome_has_its_job", running, "DELETE FROM queue WHERE status = 'done'"),
    (
        "accepted_lease_is_in_history",
        running,
        "UPDATE queue SET accepted_token = gen_random_uuid() WHERE status = 'done'",
    ),
    (
        "accepted_once",
        completed,
        "INSERT INTO lease_history (job_id, execution_id, node_id, attempt, worker_id, lease_token, ended_at, ending) "
        "SELECT job_id, execution_id, node_id, attempt + 1, 'w2', gen_random_uuid(), ended_at, 'failed' "
        "FROM lease_history",
    ),
    ("attempts_are_the_leases", running, "UPDATE queue SET attempts = attempts + 1"),
    ("open_lease_is_held", running, "UPDATE lease_history SET ending = NULL, ended_at = NULL"),
    (
        "held_lease_is_open",
        running,
        "UPDATE lease_history SET ending = 'lost', ended_at = now() WHERE ending IS NULL",
    ),
    (
        "expired_lease_is_reaped",
        running,
        "UPDATE queue SET lease_until = now() - interval '2 minutes' WHERE status = 'leased'",
    ),
    ("cancelled_job_was_called_off", running, "UPDATE queue SET status = 'cancelled' WHERE status = 'queued'"),
    ("held_job_has_a_paused_execution", running, "UPDATE queue SET held = true"),
    ("ended_execution_has_no_timer", running, "INSERT INTO timer VALUES (1, '1', 'wait', now())"),
    (
        "due_timer_is_fired",
        running,
        "INSERT INTO timer SELECT id, 'x', 'wait', now() - interval '2 minutes' FROM execution",
    ),
    (
        "ended_execution_waits_for_no_child",
        calling,
        "UPDATE execution SET status = 'failed', ended_at = now() WHERE depth = 0",
    ),
    ("unwanted_child_is_cancelled", calling, "UPDATE execution SET parent_waits = false WHERE depth = 1"),
    (
        "ended_child_is_told",
        calling,
        "UPDATE execution SET status = 'failed', ended_at = now() - interval '1h' WHERE depth = 1",
    ),
    ("child_has_its_parents_word", calling, "UPDATE execution SET parent_node_id = 'x' WHERE depth = 1"),
    (
        "large_result_is_there",
        running,
        f"{NEW_EVENT}, result_ref) SELECT id, 999, 'warning', 'x', 'x', 'step', 'gone' FROM execution",
    ),
    ("log_lines_are_counted", running, "INSERT INTO action_log_total SELECT id, 3, 3, 0 FROM execution"),
    ("nothing_without_its_execution", running, "DELETE FROM execution"),
    ("result_is_the_logs", completed, "UPDATE execution SET result = '1'"),
    ("evaluation_is_not_stuck", running, "UPDATE execution SET evaluation_failures = 3"),
    ("fold_of_log_is_state", running, "UPDATE execution SET state = jsonb_set(state, '{root,visited}', '\"ff\"')"),
]

SEEDED_ALONE: Final[list[tuple[str, Before, str]]] = [
    ("fold_of_log_is_state", looping, "DELETE FROM frame WHERE key = '1.1'"),
    ("fold_of_log_is_state", looping, "UPDATE frame SET data = '{}'"),
    ("fold_of_log_is_state", looping, "INSERT INTO frame SELECT id, '1.9', '{}' FROM execution"),
    ("no_key_above_its_limit", limited, "UPDATE queue SET limit_maxs = '{1}' WHERE status = 'leased'"),
    (
        "parked_job_has_no_room",
        limited,
        "UPDATE queue SET parked_by = 'key:k', limit_maxs = '{9}', updated_at = now() - interval '2 minutes' "
        "WHERE status = 'queued'; UPDATE queue SET updated_at = now() - interval '2 minutes'",
    ),
    (
        "waiting_job_has_a_worker",
        limited,
        "INSERT INTO runtime (name, component_type, labels, capabilities, runtime) "
        "VALUES ('w', 'worker_pool', '{\"queues\": [\"noetl.x\"]}', '{}', '{}');"
        "UPDATE queue SET parked_by = NULL, available_at = now() - interval '2 minutes', "
        "updated_at = now() - interval '2 minutes'",
    ),
]
"""Faults that break one invariant and no other."""


def violated_after(before: Before, fault: str) -> set[str]:
    """The invariants that a fault breaks; none is broken before it."""
    before()
    assert find_violations() == []
    # As the tables' owner: the database keeps the application from some of it.
    with connections["admin"].cursor() as cursor:
        cursor.execute(fault)
    return {violation.invariant for violation in find_violations()}


@pytest.mark.parametrize(("invariant", "before", "fault"), SEEDED)
def test_verify_sees_a_seeded_fault(invariant: str, before: Before, fault: str) -> None:
    assert invariant in violated_after(before, fault)


@pytest.mark.parametrize(("invariant", "before", "fault"), SEEDED_ALONE)
def test_verify_sees_a_seeded_fault_and_nothing_else(invariant: str, before: Before, fault: str) -> None:
    assert violated_after(before, fault) == {invariant}


def test_there_is_a_seeded_fault_for_each_invariant() -> None:
    assert {invariant for invariant, _, _ in [*SEEDED, *SEEDED_ALONE]} == set(invariants())
