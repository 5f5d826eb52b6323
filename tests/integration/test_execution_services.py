"""The transactions of executions, on a real database."""

from __future__ import annotations

import base64
import threading
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from executions import store
from executions.api import (
    Report,
    StartConflict,
    WorkloadInvalid,
    cancel_execution,
    evaluate_execution,
    get_execution,
    list_events,
    list_steps,
    reap_expired_lease,
    report_results,
    start_execution,
)
from executions.domain import planner
from executions.domain.events import Event
from executions.models import EventLog, Execution
from executors.selectors import find_violations
from executors.worker.reconciler import Reconciler
from queueing.api import extend_leases, find_expired_leases, lease_jobs, release_jobs
from queueing.models import Job, LeaseHistory
from tests.support.books import CHAIN, FAN, failure, lease, report, start, success, work_off

pytestmark = pytest.mark.usefixtures("fresh_db")


def answer(job: Any) -> Any:
    inputs = job.action["inputs"]
    return {"one": lambda: {"n": inputs["n"] + 1}, "two": lambda: {"n": inputs["n"] * 10}}[job.node_name]()


def expire_leases() -> None:
    """Make every lease run out, as if its time had passed."""
    Job.objects.filter(status="leased").update(lease_until=transaction_time() - hour())


def transaction_time() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_now()")
        return cursor.fetchone()[0]


def hour() -> Any:
    import datetime

    return datetime.timedelta(hours=1)


def reap_all() -> list[str]:
    reaped = [reap_expired_lease(expired) for expired in find_expired_leases(100)]
    return [lost.status for lost in reaped if lost is not None]


def test_a_chain_completes_with_its_result_and_events() -> None:
    execution_id = start(CHAIN, {"n": 4})
    assert work_off(answer) == 2
    execution = get_execution(execution_id)
    assert (execution.status, execution.result) == ("completed", {"n": 50})
    assert {step.name: step.status for step in list_steps(execution_id)} == {
        "start": "success", "one": "success", "two": "success", "end": "success",
    }  # fmt: skip
    types = [event.event_type for event in list_events(execution_id)]
    assert types[0] == "execution_start"
    assert types[-1] == "execution_completed"
    assert types.count("action_completed") == types.count("action_started") == 2
    assert find_violations() == []


def test_a_fan_out_reported_in_one_transaction_keeps_its_order() -> None:
    execution_id = start(FAN)
    jobs = lease(count=10)
    assert len(jobs) == 5
    backwards = list(reversed(jobs))
    judgements = report_results(execution_id, [success(job, job.action["inputs"]["item"] * 2) for job in backwards])
    assert judgements == ["accepted"] * 5
    assert get_execution(execution_id).result == {"results": [2, 4, 6, 8, 10]}
    assert find_violations() == []


def test_the_jobs_of_one_execution_can_be_leased_alone_also_by_who_holds_it() -> None:
    start(CHAIN)
    second = start(FAN)
    with transaction.atomic():
        store.lock_execution(second)
        jobs = lease_jobs("w1", ["other", "default"], 3, 60, execution_id=second)
    assert [job.execution_id for job in jobs] == [second] * 3
    assert lease_jobs("w1", ["other"], 3, 60, execution_id=second) == []
    assert len(lease_jobs("w1", ["default", "default"], 9, 60, execution_id=second)) == 2
    assert find_violations() == []


def test_both_ways_of_evaluating_write_the_same_events(settings: Any) -> None:
    def run() -> list[tuple[Any, ...]]:
        execution_id = start(CHAIN)
        for _ in range(3):
            evaluate_execution(execution_id)
            work_off(answer)
        rows = [(e.event_type, e.node_name, e.status, e.context, e.result, e.error) for e in list_events(execution_id)]
        assert get_execution(execution_id).status == "completed"
        return rows

    inline = run()
    settings.NOETL_EVALUATE_INLINE = False
    assert run() == inline
    assert find_violations() == []


def test_a_failed_action_fails_the_execution_and_closes_its_jobs() -> None:
    execution_id = start(FAN)
    first, second = lease(count=2)
    report_results(execution_id, [failure(first, "no luck")])
    report(second, 1)
    work_off(lambda job: 1)
    execution = get_execution(execution_id)
    assert execution.status == "failed"
    assert execution.error["step"] == "each"
    assert not Job.objects.filter(status__in=["queued", "leased"]).exists()
    assert find_violations() == []


def test_two_outcomes_of_one_lease_are_one() -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    assert report(job, {"n": 2}) == "accepted"
    events = EventLog.objects.filter(execution_id=execution_id).count()
    assert report(job, {"n": 3}) == "already_accepted"
    assert EventLog.objects.filter(execution_id=execution_id).count() == events


def test_a_zombie_is_told_that_its_lease_is_lost_and_writes_nothing() -> None:
    execution_id = start(CHAIN)
    [zombie] = lease("zombie")
    expire_leases()
    assert reap_all() == ["queued"]
    events = EventLog.objects.filter(execution_id=execution_id).count()
    assert report(zombie, {"n": 666}) == "lease_lost"
    assert EventLog.objects.filter(execution_id=execution_id).count() == events
    [again] = lease("healthy")
    assert (again.attempt, again.node_id) == (2, zombie.node_id)
    assert report(zombie, {"n": 666}) == "lease_lost"
    assert report(again, {"n": 2}) == "accepted"
    assert report(zombie, {"n": 666}) == "lease_lost"
    work_off(answer)
    assert get_execution(execution_id).result == {"n": 20}
    assert list(LeaseHistory.objects.filter(job_id=again.id).order_by("attempt").values_list("ending", flat=True)) == [
        "lost", "done",
    ]  # fmt: skip
    assert find_violations() == []


def test_one_lost_lease_spares_the_other_results_of_a_report() -> None:
    execution_id = start(FAN)
    jobs = lease(count=5)
    Job.objects.filter(id=jobs[2].id).update(lease_until=transaction_time() - hour())
    assert reap_all() == ["queued"]
    judgements = report_results(execution_id, [success(job, 1) for job in jobs])
    assert judgements == ["accepted", "accepted", "lease_lost", "accepted", "accepted"]
    assert work_off(lambda job: 7) == 1
    assert get_execution(execution_id).result == {"results": [1, 1, 7, 1, 1]}


def test_a_lease_saved_by_a_heartbeat_is_not_reaped() -> None:
    start(CHAIN)
    [job] = lease()
    Job.objects.filter(status="leased").update(lease_until=transaction_time() - hour())
    [expired] = find_expired_leases(10)
    Job.objects.filter(status="leased").update(lease_until=transaction_time() + hour())
    assert reap_expired_lease(expired) is None
    assert [held.job_id for held in extend_leases([job.fence], 60)] == [job.id]
    assert report(job, {"n": 1}) == "accepted"


def test_a_heartbeat_does_not_revive_a_lease_that_ran_out() -> None:
    start(CHAIN)
    [job] = lease()
    expire_leases()
    assert extend_leases([job.fence], 60) == []


def test_a_job_that_kills_its_workers_is_dead_and_says_so() -> None:
    execution_id = start(CHAIN)
    for attempt in range(1, 6):
        [job] = lease(f"w{attempt}")
        assert job.attempt == attempt
        expire_leases()
        reaped = reap_all()
    assert reaped == ["dead"]
    execution = get_execution(execution_id)
    assert execution.status == "failed"
    assert execution.error["code"] == "lease_exhausted"
    assert find_violations() == []


def test_a_job_given_back_counts_no_lost_lease() -> None:
    start(CHAIN)
    [job] = lease()
    assert release_jobs([job.fence]) == [job.id]
    [again] = lease()
    assert (again.attempt, Job.objects.get(id=job.id).lost_leases) == (2, 0)


def test_cancelling_calls_off_what_waits_and_records_what_comes_late() -> None:
    execution_id = start(FAN)
    running = lease(count=2)
    assert cancel_execution(execution_id, "enough", "test") is True
    assert cancel_execution(execution_id) is False
    assert get_execution(execution_id).status == "cancelled"
    assert lease() == []
    [held] = extend_leases([running[0].fence], 60)
    assert held.cancel_requested
    release_jobs([running[0].fence])
    assert report(running[1], 5) == "accepted"
    late = EventLog.objects.filter(execution_id=execution_id).order_by("-seq").first()
    assert late is not None
    assert (late.event_type, late.result) == ("late_result", 5)
    assert set(Job.objects.values_list("status", flat=True)) == {"cancelled", "done"}
    assert find_violations() == []


def test_what_was_reported_survives_a_broken_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    execution_id = start(CHAIN)
    [job] = lease()

    def break_down(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the evaluator is broken")

    with monkeypatch.context() as patch:
        patch.setattr(planner, "_settle", break_down)
        assert report(job, {"n": 2}) == "accepted"
    row = Execution.objects.get(id=execution_id)
    assert row.needs_evaluation_since is not None
    assert "the evaluator is broken" in row.evaluation_error
    assert evaluate_execution(execution_id)
    work_off(answer)
    assert get_execution(execution_id).result == {"n": 20}
    assert find_violations() == []


def test_a_missing_state_is_rebuilt_from_the_log() -> None:
    execution_id = start(CHAIN)
    work = lease()
    Execution.objects.update(state=None)
    report(work[0], {"n": 2})
    Execution.objects.update(state={"format": 0})
    work_off(answer)
    assert get_execution(execution_id).result == {"n": 20}
    assert find_violations() == []


def test_two_evaluators_at_once_write_one_plan(settings: Any) -> None:
    settings.NOETL_EVALUATE_INLINE = False
    execution_id = start(CHAIN)
    together = threading.Barrier(2)

    def evaluate() -> None:
        together.wait()
        evaluate_execution(execution_id)
        connection.close()

    threads = [threading.Thread(target=evaluate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Job.objects.count() == 1
    assert find_violations() == []


def test_workers_that_report_at_once_wait_for_one_another() -> None:
    execution_id = start(FAN, {"items": list(range(40))})
    jobs = lease(count=40)
    together = threading.Barrier(4)
    judgements: list[str] = []

    def report_share(share: list[Any]) -> None:
        together.wait()
        judgements.extend(report(job, job.item_index) for job in share)
        connection.close()

    threads = [threading.Thread(target=report_share, args=[jobs[n::4]]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert judgements == ["accepted"] * 40
    assert get_execution(execution_id).result == {"results": list(range(40))}
    assert find_violations() == []


def test_racing_workers_lease_each_job_once() -> None:
    start(FAN, {"items": list(range(60))})
    together = threading.Barrier(4)
    leased: list[int] = []

    def take(worker: str) -> None:
        together.wait()
        while jobs := lease_jobs(worker, ["default"], 3, 60):
            leased.extend(job.id for job in jobs)
        connection.close()

    threads = [threading.Thread(target=take, args=[f"w{n}"]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(leased) == sorted(Job.objects.values_list("id", flat=True))
    assert len(leased) == 60


def test_the_same_key_starts_once_and_another_request_under_it_is_refused() -> None:
    first = start(CHAIN, {"n": 1}, idempotency_key="k")
    assert start(CHAIN, {"n": 1}, idempotency_key="k") == first
    with pytest.raises(StartConflict):
        start(CHAIN, {"n": 2}, idempotency_key="k")
    assert Execution.objects.count() == 1


@pytest.mark.parametrize("payload", [[1], "text", {"a": "nul \x00"}, {"a": "\ud800"}, {"a": float("nan")}])
def test_a_payload_that_cannot_be_stored_starts_nothing(payload: Any) -> None:
    with pytest.raises(WorkloadInvalid):
        start(CHAIN, payload)
    assert not Execution.objects.exists()


def test_a_payload_is_laid_over_or_merged_into_the_workload() -> None:
    text = CHAIN.replace("workload: {n: 1}", "workload: {n: 1, deep: {a: 1, list: [1]}}")
    laid = start(text, {"deep": {"b": 2}})
    merged = start(text, {"deep": {"b": 2, "list": [2]}}, merge=True)
    assert get_execution(laid).workload == {"n": 1, "deep": {"b": 2}}
    assert get_execution(merged).workload == {"n": 1, "deep": {"a": 1, "b": 2, "list": [1, 2]}}


def test_an_execution_keeps_its_version_for_ever() -> None:
    execution_id = start(CHAIN)
    start(CHAIN.replace("n * 10", "n * 1000").replace("{{ one.n }}", "{{ one.n + 5 }}"))
    [job] = lease()
    report(job, {"n": 2})
    second = [job for job in lease(count=5) if job.execution_id == execution_id]
    assert second[0].action["inputs"] == {"n": 2}
    assert get_execution(execution_id).version == "0.1.0"


@pytest.mark.parametrize(
    "statement", ["UPDATE event_log SET status = 'x'", "DELETE FROM event_log", "TRUNCATE event_log CASCADE"]
)
@pytest.mark.parametrize("alias", ["default", "admin"])
def test_nobody_changes_an_event(statement: str, alias: str) -> None:
    from django.db import connections

    start(CHAIN)
    with connections[alias].cursor() as cursor, pytest.raises(DatabaseError) as caught:
        cursor.execute(statement)
    expected = "permission denied" if alias == "default" else "append-only"
    assert expected in str(caught.value)


def test_the_applications_role_may_not_change_a_partition_either() -> None:
    start(CHAIN)
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tableoid::regclass::text FROM event_log")
        [(partition,)] = cursor.fetchall()
        assert partition.startswith("event_log_20")
        with pytest.raises(DatabaseError, match="permission denied"):
            cursor.execute(f"DELETE FROM {partition}")


@pytest.mark.parametrize("type_", ["action_completed", "step_completed", "execution_completed"])
def test_the_database_refuses_a_second_outcome(type_: str) -> None:
    execution_id = start(CHAIN)
    work_off(answer)
    node = str(execution_id) if type_.startswith("execution") else f"{execution_id}:one"
    last = Execution.objects.get(id=execution_id).last_seq
    with pytest.raises(IntegrityError, match="duplicate key"), transaction.atomic():
        store.append_events(execution_id, [Event(last + 1, type_, node, "one", "step")])


@pytest.mark.parametrize(
    ("status", "change"),
    [
        ("leased", "lease_token = NULL"),
        ("leased", "worker_id = NULL"),
        ("leased", "lease_until = NULL"),
        ("leased", "status = 'queued'"),
        ("leased", "status = 'done', accepted_token = lease_token"),
        ("leased", "status = 'queued', lease_token = NULL, worker_id = NULL"),
        ("queued", "status = 'leased'"),
        ("queued", "status = 'leased', worker_id = 'w2', lease_until = clock_now()"),
        ("queued", "lease_token = gen_random_uuid()"),
        ("queued", "worker_id = 'w2'"),
        ("queued", "lease_until = clock_now()"),
    ],
)
def test_the_database_refuses_a_lease_without_its_holder_and_a_holder_without_a_lease(status: str, change: str) -> None:
    start(FAN)
    lease()
    with (
        connection.cursor() as cursor,
        pytest.raises(IntegrityError, match="queue_leased_has_holder"),
    ):
        cursor.execute(f"UPDATE queue SET {change} WHERE status = %s", [status])


def test_report_of_an_unknown_shape_of_fence_is_a_lost_lease() -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    forged = Report(
        fence=type(job.fence)(job.id, job.attempt, "00000000-0000-0000-0000-000000000000"), status="success"
    )
    assert report_results(execution_id, [forged]) == ["lease_lost"]


def test_a_job_of_another_execution_is_not_finished() -> None:
    one, other = start(CHAIN), start(CHAIN)
    first, second = lease(count=2)
    assert {first.execution_id, second.execution_id} == {one, other}
    assert report_results(first.execution_id, [success(second)]) == ["lease_lost"]


def test_ids_are_in_the_order_of_time_and_starts_find_their_partition() -> None:
    ids = [start(CHAIN) for _ in range(5)]
    assert ids == sorted(ids)


def test_one_fence_given_twice_is_one_result() -> None:
    execution_id = start(FAN)
    first, second, *_ = lease(count=5)
    judgements = report_results(execution_id, [success(first, 1), success(second, 2), success(first, 3)])
    assert judgements == ["accepted", "accepted", "already_accepted"]
    assert find_violations() == []


def test_an_error_without_a_cause_gets_one() -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    report_results(execution_id, [Report(fence=job.fence, status="error")])
    assert get_execution(execution_id).error["code"] == "action_failed"


def test_a_report_that_leaves_the_evaluation_to_others_keeps_the_result() -> None:
    execution_id = start(CHAIN)
    [job] = lease()
    assert report_results(execution_id, [success(job, {"n": 2})], evaluate_later=True) == ["accepted"]
    assert Execution.objects.get(id=execution_id).needs_evaluation_since is not None
    assert find_violations() == []
    evaluate_execution(execution_id)
    work_off(answer)
    assert get_execution(execution_id).result == {"n": 20}


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", '["a\\u0000"]', "[NaN]", "[" * 5000])
def test_odd_data_fails_its_step_and_never_the_evaluation(text: str) -> None:
    book = CHAIN.replace('with: {n: "{{ one.n }}"}', 'loop: {in: "{{ one.body | b64decode }}", iterator: n}')
    execution_id = start(book)
    [job] = lease()
    encoded = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
    report(job, {"body": encoded})
    execution = get_execution(execution_id)
    assert (execution.status, execution.error["step"]) == ("failed", "two")
    assert Execution.objects.get(id=execution_id).evaluation_failures == 0
    assert find_violations() == []


def test_one_execution_that_cannot_go_on_keeps_no_other_from_being_reaped() -> None:
    bad, good = start(CHAIN), start(CHAIN)
    lease(count=2)
    expire_leases()
    Execution.objects.filter(id=bad).update(last_seq=1)
    assert Reconciler().reap() == 1
    assert Job.objects.get(execution_id=good).status == "queued"


def test_start_of_an_unknown_playbook() -> None:
    from catalog.api import PlaybookNotFound

    with pytest.raises(PlaybookNotFound):
        start_execution("no/such")
