"""Break the code on purpose, one place at a time, and see the named test fail: `python -m tests.faults.mutants`.

Each mutant is a copy of the tree with one text replaced. A test that passes on it guards nothing: the mutant SURVIVED,
and this exits with 1. `--times 3` wants each to fail three times out of three; names choose mutants.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.progress import tell
from tests.faults.pytests import run_pytest
from tests.support.platform import ROOT
from tests.support.trees import copied_tree

TEST_SECONDS: Final = 180
"""For one named test, with the start of pytest and of servers."""
FURTHER_SECONDS: Final = 15
"""For each that is run together with others."""
FAILED: Final = 1
"""pytest's exit code for failed tests; any other one says that nothing was tested."""

SERVICES: Final = "tests/integration/test_execution_services.py"
SCHEDULES: Final = "tests/integration/test_forced_schedules.py"
LANGUAGE: Final = "tests/integration/test_language_services.py"
CHILDREN: Final = "tests/integration/test_child_executions.py"
RETRIES: Final = "tests/integration/test_retries_and_reruns.py"
ORDER: Final = "tests/integration/test_queue_order.py"
WORKER: Final = "tests/unit/test_worker.py"
HANDS: Final = "tests/integration/test_full_hands.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file`, `old` becomes `new`; `test` must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


FINISH_FENCE: Final = """    WHERE q.execution_id = :execution_id AND q.status = 'leased'
      AND q.attempts = shown.attempt AND q.lease_token = shown.token
"""
BATCHES: Final = f"{SCHEDULES}::test_two_batches_over_the_same_jobs_never_wait_for_each_other"
SHOWN: Final = """
WITH held AS (
    SELECT q.id
    FROM (SELECT * FROM unnest(:job_ids::bigint[], :attempts::int[], :tokens::uuid[]) AS given (id, attempt, token)
          ORDER BY id) AS shown"""
BEATING: Final = f"whoever may reap it decides (rule R4).{SHOWN}"
FINISHING: Final = "AS given (id, attempt, token, status) ORDER BY id) AS shown"
GIVING_BACK: Final = f"nothing is counted against it.{SHOWN}"
QUEUE: Final = "queueing/sql/queue.sql"
AHEAD: Final = (
    " + __import__('time').time()"
    " - connection.ask_prepared('now', 'SELECT extract(epoch FROM clock_now())::float8', {})()[0][0]"
)
"""How far a worker's clock is ahead of the database's: a lease until the worker's clock says so."""
FIRST_ROUND: Final = """               (extract(epoch FROM clock_now()) * 1000000)::bigint) AS round
    FROM unnest("""
LOCKED: Final = """       parent_node_id, depth, cancel_reason, created_by, rerun_of, priority
FROM execution WHERE id = :execution_id FOR NO KEY UPDATE"""
REAPING: Final = """        locked = store.lock_execution_if_free(expired.execution_id)
        reaped = reap_lease(expired.job_id, expired.attempt) if locked is not None else None
"""

MUTANTS: Final = (
    Mutant(
        "fan-out-in-one-round", QUEUE, "least(round, waited_for) + further,", "least(round, waited_for),",
        f"{ORDER}::test_a_newcomer_is_taken_after_at_most_one_job_of_each_other",
    ),
    Mutant(
        "what-follows-begins-with-the-others", QUEUE, "ORDER BY q.node_id LIMIT 1), 0)", "LIMIT 0), 0)",
        f"{ORDER}::test_what_follows_is_not_punished_and_starves_nobody",
    ),
    Mutant(
        "rounds-begin-anew", QUEUE, FIRST_ROUND,
        FIRST_ROUND.replace("(extract(epoch FROM clock_now()) * 1000000)", "0"),
        f"{ORDER}::test_where_the_queue_was_empty_rounds_go_on",
    ),
    Mutant(
        "keys-without-locks", "queueing/services.py", "store.lock_keys(keys_of(limited), wait=may_wait)",
        "set(keys_of(limited))",
        f"{ORDER}::test_within_a_transaction_a_lease_waits_for_no_key",
    ),
    Mutant(
        "full-keys-are-not-parked", "queueing/services.py", "            _park(judged, full)\n", "",
        f"{ORDER}::test_a_full_key_keeps_nobody_behind_it_waiting",
    ),
    Mutant(
        "nobody-is-admitted", "queueing/services.py",
        "    if keys:\n        # A failure", "    if not keys:\n        # A failure",
        f"{ORDER}::test_no_more_leases_than_a_key_allows_and_each_end_admits_the_next",
    ),
    Mutant(
        "limits-are-not-judged", "queueing/domain/limits.py", "if taken[limit.key] >= limit.most", "if False",
        f"{ORDER}::test_jobs_that_nobody_has_put_aside_share_the_room_of_their_key",
    ),
    Mutant(
        "finish-without-token", QUEUE, FINISH_FENCE, FINISH_FENCE.replace(" AND q.lease_token = shown.token", ""),
        f"{SCHEDULES}::test_a_lease_is_told_by_its_attempt_and_by_its_token",
    ),
    Mutant(
        "finish-without-attempt", QUEUE, FINISH_FENCE, FINISH_FENCE.replace("q.attempts = shown.attempt AND ", ""),
        f"{SCHEDULES}::test_a_lease_is_told_by_its_attempt_and_by_its_token",
    ),
    Mutant(
        "finish-of-any-execution", QUEUE, FINISH_FENCE, FINISH_FENCE.replace("q.execution_id = :execution_id AND ", ""),
        f"{SERVICES}::test_a_job_of_another_execution_is_not_finished",
    ),
    Mutant(
        "report-without-lock", "executions/sql/executions.sql", f"{LOCKED};",
        f"{LOCKED};".replace(" FOR NO KEY UPDATE", ""),
        f"{SCHEDULES}::test_a_report_waits_for_the_report_of_another_job",
    ),
    Mutant(
        "evaluate-without-lock", "executions/sql/executions.sql", f"{LOCKED} SKIP LOCKED;",
        f"{LOCKED} SKIP LOCKED;".replace(" FOR NO KEY UPDATE SKIP LOCKED", ""),
        f"{SCHEDULES}::test_a_second_evaluator_leaves_the_execution_to_the_first",
    ),
    Mutant(
        "report-locks-the-job-first", "executions/services/reporting.py",
        "lock = store.ask_for_lock(execution_id)", "lock = partial(store.lock_execution, execution_id)",
        f"{SCHEDULES}::test_a_report_waits_for_the_execution_before_it_touches_the_queue",
    ),
    Mutant(
        "reaper-locks-the-job-first", "executions/services/reporting.py", REAPING,
        "        reaped = reap_lease(expired.job_id, expired.attempt)\n"
        "        locked = store.lock_execution(expired.execution_id)\n",
        f"{SCHEDULES}::test_the_reaper_touches_no_job_of_an_execution_that_somebody_holds",
    ),
    Mutant(
        "outcome-not-unique", "executions/sql/outcomes.sql",
        "CREATE UNIQUE INDEX event_log_one_outcome", "CREATE INDEX event_log_one_outcome",
        f"{SERVICES}::test_the_database_refuses_a_second_outcome[action_completed]",
    ),
    Mutant(
        "end-not-unique", "executions/sql/event_log.sql",
        "CREATE UNIQUE INDEX event_log_one_terminal", "CREATE INDEX event_log_one_terminal",
        f"{SERVICES}::test_the_database_refuses_a_second_outcome[execution_completed]",
    ),
    Mutant(
        "reap-without-checks", QUEUE,
        " AND q.status = 'leased' AND q.attempts = :attempt AND q.lease_until < clock_now()", "",
        f"{SCHEDULES}::test_the_reaper_leaves_a_job_that_was_reported_meanwhile",
    ),
    Mutant(
        "reap-without-time", QUEUE, " AND q.attempts = :attempt AND q.lease_until < clock_now()",
        " AND q.attempts = :attempt", f"{SCHEDULES}::test_the_reaper_leaves_a_lease_that_runs_again",
    ),
    Mutant(
        "reap-without-attempt", QUEUE, " AND q.attempts = :attempt AND q.lease_until < clock_now()",
        " AND q.lease_until < clock_now()", f"{SCHEDULES}::test_the_reaper_leaves_the_lease_of_the_next_holder",
    ),
    Mutant(
        "repetition-is-a-loss", QUEUE, "WHERE q.accepted_token = shown.token\nUNION", "WHERE false\nUNION",
        f"{SERVICES}::test_two_outcomes_of_one_lease_are_one",
    ),
    Mutant(
        "heartbeat-revives", QUEUE, "\n      AND q.lease_until > clock_now()\n", "\n",
        f"{SERVICES}::test_a_heartbeat_does_not_revive_a_lease_that_ran_out",
    ),
    Mutant(
        "heartbeat-out-of-order", QUEUE, BEATING, BEATING.replace("\n          ORDER BY id", ""),
        f"{BATCHES}[heartbeats]",
    ),
    Mutant(
        "finish-out-of-order", QUEUE, FINISHING, FINISHING.replace(" ORDER BY id", ""),
        f"{BATCHES}[reports]",
    ),
    Mutant(
        "release-out-of-order", QUEUE, GIVING_BACK, GIVING_BACK.replace("\n          ORDER BY id", ""),
        f"{BATCHES}[releases]",
    ),
    Mutant(
        "cancel-out-of-order", QUEUE, "IN ('queued', 'leased')\n    ORDER BY id FOR NO KEY UPDATE\n",
        "IN ('queued', 'leased')\n    FOR NO KEY UPDATE\n",
        f"{BATCHES}[cancelling]",
    ),
    Mutant(
        "lease-without-lock", QUEUE,
        "        FOR UPDATE SKIP LOCKED\n    ) AS job\n), of_execution", "    ) AS job\n), of_execution",
        f"{SCHEDULES}::test_a_job_that_is_being_leased_is_leased_to_nobody_else",
    ),
    Mutant(
        "take-without-lock", QUEUE, "LIMIT :count\n    FOR UPDATE SKIP LOCKED\n", "LIMIT :count\n",
        f"{HANDS}::test_a_report_takes_no_job_that_is_being_leased",
    ),
    Mutant(
        "lease-by-the-workers-clock", "queueing/store.py",
        "        lease_seconds=lease_seconds,\n        principal=principal,",
        f"        lease_seconds=lease_seconds{AHEAD},\n        principal=principal,",
        f"{HANDS}::test_a_lease_ends_by_the_clock_of_the_database_alone",
    ),
    Mutant(
        "child-outside-the-transaction", "executions/services/evaluation.py",
        "start_children(locked, decision.children, decision.state.seq + 1)",
        "__import__('concurrent.futures').futures.ThreadPoolExecutor(1).submit("
        "start_children, locked, decision.children, decision.state.seq + 1).result()",
        f"{HANDS}::test_a_child_is_started_with_what_its_parent_plans_or_not_at_all",
    ),
    Mutant(
        "waits-with-all-threads-stopped", "noetl_site/database/prepared.py",
        "        while self._pgconn.is_busy():", "        while False:",
        "tests/integration/test_prepared_statements.py"
        "::test_whoever_waits_for_the_database_lets_the_threads_beside_it_work",
    ),
    Mutant(
        "worker-never-gives-up", "executors/worker/heartbeat.py", "if now >= lease.give_up_at:", "if now < 0:",
        f"{WORKER}::test_a_hung_heartbeat_does_not_keep_a_worker_from_giving_up",
    ),
    Mutant(
        "nudge-before-commit", "executions/nudges.py", "transaction.on_commit(lambda: _carry(nudge), robust=True)",
        "_carry(nudge)", f"{SCHEDULES}::test_nothing_is_told_before_the_commit",
    ),
    Mutant(
        "evaluation-takes-the-result-along", "executions/services/reporting.py",
        "    except Exception as failure:\n", "    except KeyError as failure:\n",
        f"{SERVICES}::test_what_was_reported_survives_a_broken_evaluation",
    ),
    Mutant(
        "late-result-changes-the-end", "executions/services/reporting.py",
        "    if locked.is_terminal or (job.called_off", "    if not job and (job.called_off",
        f"{SCHEDULES}::test_a_result_that_waited_for_the_cancelling_is_late",
    ),
    Mutant(
        "cancel-without-look", "executions/services/steering.py",
        "        if locked.is_terminal:\n            return False\n        cancel", "        cancel",
        f"{SERVICES}::test_cancelling_calls_off_what_waits_and_records_what_comes_late",
    ),
    Mutant(
        "called-off-work-is-planned-with", "executions/services/reporting.py",
        " or (job.called_off and job.origin != EXTERNAL)", "",
        f"{LANGUAGE}::test_a_failing_item_takes_its_own_open_work_along",
    ),
    Mutant(
        "child-is-told-of-again", "executions/services/children.py",
        "    store.mark_told([child.id for child in ended])\n", "",
        f"{CHILDREN}::test_a_parent_that_goes_on_is_not_told_again",
    ),
    Mutant(
        "word-of-a-child-not-unique", "executions/sql/outcomes.sql",
        "'action_error', 'child_completed', 'wait_completed',", "'action_error', 'wait_completed',",
        f"{CHILDREN}::test_the_database_refuses_a_second_word_of_a_child",
    ),
    Mutant(
        "cancelling-stops-at-children", "executions/sql/waiting.sql",
        "THEN NULL ELSE :reason END", "THEN NULL ELSE NULL END",
        f"{CHILDREN}::test_cancelling_reaches_children_and_theirs",
    ),
    Mutant(
        "closed-child-is-heard", "executions/sql/waiting.sql", "SET parent_waits = false,\n    cancel_reason",
        "SET cancel_reason",
        f"{CHILDREN}::test_a_child_whose_step_ran_out_of_time_is_cancelled_and_not_heard",
    ),
    Mutant(
        "paused-jobs-are-leased", QUEUE,
        "WHERE pool = served.pool AND status = 'queued' AND NOT held", "WHERE pool = served.pool AND status = 'queued'",
        f"{LANGUAGE}::test_jobs_of_a_paused_execution_are_held_also_when_they_come_back",
    ),
    Mutant(
        "pausing-waits-for-an-evaluation", "executions/services/steering.py",
        "        hold_open_jobs(execution_id, held=True)\n        send_after_commit(evaluate_locked(locked).nudge)",
        "        hold_open_jobs(execution_id, held=True)\n        evaluate_here_or_later(locked)",
        f"{LANGUAGE}::test_a_paused_execution_takes_results_and_starts_nothing[False]",
    ),
    Mutant(
        "repeated-try-is-a-loss", QUEUE, "WHERE h.ending = 'retried';", "WHERE false;",
        f"{RETRIES}::test_a_failed_try_is_told_and_its_job_waits_for_another",
    ),
    Mutant(
        "timer-fires-early", "executions/sql/waiting.sql",
        "= :execution_id AND due_at <= clock_now() RETURNING", "= :execution_id RETURNING",
        f"{LANGUAGE}::test_a_timer_that_is_not_due_stays",
    ),
    Mutant(
        "frames-are-kept", "executions/sql/waiting.sql",
        "f.key = dropped.key OR (f.key > dropped.key", "f.key > dropped.key AND (f.key > dropped.key",
        f"{LANGUAGE}::test_each_running_item_of_a_loop_over_steps_is_a_row_and_gone_at_its_end",
    ),
    Mutant(
        "senders-queue-for-the-broker", "executors/broker.py",
        "        if breaker.is_away:\n            return False\n", "",
        "tests/faults/test_servers.py::test_redis_hung_keeps_no_start_waiting[3.0]",
    ),
)  # fmt: skip

NAMED: Final = {
    "no token check": ("finish-without-token",),
    "no attempt check": ("finish-without-attempt",),
    "no unique index": ("outcome-not-unique", "end-not-unique", "word-of-a-child-not-unique"),
    "no execution lock": ("report-without-lock", "evaluate-without-lock"),
    "the lock order": ("report-locks-the-job-first", "reaper-locks-the-job-first"),
    "the worker's clock": ("lease-by-the-workers-clock",),
    "the reaper without a re-check": ("reap-without-checks", "reap-without-time", "reap-without-attempt"),
    "publish before commit": ("nudge-before-commit",),
    "a child outside the transaction": ("child-outside-the-transaction",),
}
"""What must be guarded in any case, and the mutants that show it is."""


def main() -> int:
    """Run the chosen mutants. Returns: the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants; all when none is named")
    parser.add_argument("--times", type=int, default=1, help="how often each test must fail (default 1)")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    if unknown := set(options.names) - {mutant.name for mutant in MUTANTS}:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}")
    if not are_passed_by_the_code(chosen):
        return 1
    survived = [mutant for mutant in chosen if not is_killed(mutant, options.times)]
    tell(f"{len(chosen)} mutants, {len(survived)} survived")
    return 1 if survived else 0


def are_passed_by_the_code(mutants: Sequence[Mutant]) -> bool:
    """Whether the tests of these mutants pass on the code as it is: a test that fails anyhow would kill them all."""
    tests = sorted({mutant.test for mutant in mutants})
    passed = run_tests(ROOT, tests) == 0
    tell(f"{len(tests)} named tests {'pass' if passed else 'do not pass'} on the code as it is")
    return passed


def is_killed(mutant: Mutant, times: int) -> bool:
    """Whether the mutant's test fails every time."""
    with mutated(mutant) as tree:
        codes = [run_tests(tree, [mutant.test]) for _ in range(times)]
    killed = codes == [FAILED] * times
    name = mutant.test.partition("::")[2]
    tell(f"{mutant.name}: killed by {name}" if killed else f"{mutant.name}: SURVIVED {name} (exit codes {codes})")
    return killed


@contextmanager
def mutated(mutant: Mutant) -> Iterator[Path]:
    """A copy of the tree with the mutant's edit. Raises: `ValueError` when its text is not there exactly once."""
    with copied_tree() as tree:
        file = tree / mutant.file
        text = file.read_text()
        if text.count(mutant.old) != 1:
            raise ValueError(f"{mutant.name}: the text to replace is in {mutant.file} {text.count(mutant.old)} times")
        file.write_text(text.replace(mutant.old, mutant.new))
        yield tree


def seconds_for(tests: int) -> int:
    """How long so many named tests may take together."""
    return TEST_SECONDS + FURTHER_SECONDS * (tests - 1)


def run_tests(tree: Path, tests: Sequence[str]) -> int:
    """pytest's exit code for these tests of a tree; a run that hangs has failed."""
    try:
        return run_pytest(tree, tests, seconds_for(len(tests))).returncode
    except subprocess.TimeoutExpired:
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
