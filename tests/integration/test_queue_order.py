"""In which order jobs are leased, and what limits keep back: the queue alone, on a real database."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event

import pytest
from django.db import connection, connections, transaction

from queueing import services, store
from queueing.api import LeasedJob, Limit, NewJob, admit_jobs, enqueue_jobs, find_parking_keys, lease_jobs, release_jobs
from queueing.models import Job
from tests.support.schedules import in_thread, wait_until_waiting

pytestmark = pytest.mark.usefixtures("fresh_db")

_PLACES = count(1)


def put(
    execution_id: int, jobs: int = 1, limits: Sequence[Limit] = (), pool: str = "default", priority: int = 0
) -> None:
    """Enqueue jobs of an execution that need not exist: the queue knows nothing of executions."""
    with transaction.atomic():
        enqueue_jobs(
            [
                NewJob(
                    execution_id=execution_id,
                    node_id=f"{execution_id}:{next(_PLACES)}",
                    node_name="step",
                    kind="python",
                    action={},
                    context={},
                    uuid="00000000-0000-4000-8000-000000000000",
                    pool=pool,
                    priority=priority,
                    limits=tuple(limits),
                )
                for _ in range(jobs)
            ]
        )


def take(count: int = 1, *pools: str, execution_id: int | None = None) -> list[LeasedJob]:
    return lease_jobs("w1", pools or ["default"], count, 60, execution_id=execution_id)


def takers(count: int = 1) -> list[int]:
    """The executions whose jobs are leased next."""
    return [job.execution_id for job in take(count)]


def finish(*jobs: LeasedJob) -> None:
    with transaction.atomic():
        for job in jobs:
            [judged] = services.finish_jobs(job.execution_id, [job.fence], ["done"])
            assert judged.judgement == "accepted"


def parked() -> int:
    return Job.objects.filter(status="queued", parked_by__isnull=False).count()


# -- order -------------------------------------------------------------------------------------------


def test_a_newcomer_is_taken_after_at_most_one_job_of_each_other() -> None:
    put(1, jobs=5000)
    assert takers(10) == [1] * 10
    put(2, jobs=50)
    assert 2 in takers(2)
    put(3)
    assert 3 in takers(3)
    assert sorted(takers(40)) == [1] * 20 + [2] * 20


def test_what_follows_is_not_punished_and_starves_nobody() -> None:
    put(1, jobs=1000)
    for chain in (2, 3, 4, 5):
        put(chain)
    served = []
    for _ in range(100):
        [job] = take()
        served.append(job.execution_id)
        finish(job)
        if job.execution_id != 1:
            put(job.execution_id)
    shares = [served.count(execution_id) for execution_id in range(1, 6)]
    assert min(shares) >= 15, shares


def test_a_job_that_comes_back_keeps_its_place() -> None:
    put(1, jobs=100)
    first = take(3)
    put(2, jobs=100)
    release_jobs([job.fence for job in first])
    assert [job.id for job in take(3)] == [job.id for job in first]


def test_where_the_queue_was_empty_rounds_go_on() -> None:
    put(1, jobs=20)
    last = take(20)[-1]
    put(2, jobs=20)
    release_jobs([last.fence])
    assert [job.id for job in take()] == [last.id]


def test_priority_comes_first_and_pools_are_apart() -> None:
    put(1, jobs=3)
    put(2, priority=-1)
    put(3, priority=7)
    put(4, pool="heavy", priority=9)
    assert takers(9) == [3, 1, 1, 1, 2]
    put(1, priority=1)
    assert [job.execution_id for job in take(9, "default", "heavy", "default")] == [4, 1]


def test_a_lease_looks_at_as_many_rows_as_it_takes() -> None:
    put(1, jobs=3000)
    put(2, jobs=3000, limits=[Limit("k", 1)])
    analyze()
    take(2)
    for execution_id in (None, 1):
        with connection.cursor() as cursor:
            cursor.execute(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {store._QUERIES.lease.sql}",
                {
                    "pools": ["default"],
                    "execution_id": execution_id,
                    "count": 1,
                    "worker_id": "w",
                    "lease_seconds": 60,
                    "principal": "",
                },
            )
            [[plan]] = cursor.fetchone()
        assert most_rows(plan["Plan"]) <= 3, plan


def test_who_waits_for_a_key_is_found_beside_any_number_parked_for_another() -> None:
    put(1, jobs=3000, limits=[Limit("full", 1)])
    analyze()
    with connection.cursor() as cursor:
        for key in ("full", "other"):
            cursor.execute(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {store._QUERIES.waited_for.sql}",
                {"keys": [key], "pools": ["default"], "priorities": [0]},
            )
            [[plan]] = cursor.fetchone()
            assert most_rows(plan["Plan"]) <= 3, plan


def analyze() -> None:
    """Let the planner know what is in the table, as autovacuum does: only its owner may ask for it."""
    with connections["admin"].cursor() as cursor:
        cursor.execute("ANALYZE queue")
    connections["admin"].close()


def most_rows(plan: dict[str, object]) -> float:
    """The most rows that any part of a plan has seen."""
    parts = plan.get("Plans", [])
    assert isinstance(parts, list)
    seen = float(str(plan["Actual Rows"])) + float(str(plan.get("Rows Removed by Filter", 0)))
    return max([seen * float(str(plan["Actual Loops"])), *map(most_rows, parts)])


# -- limits ------------------------------------------------------------------------------------------


def test_no_more_leases_than_a_key_allows_and_each_end_admits_the_next() -> None:
    put(1, jobs=5, limits=[Limit("k", 2)])
    jobs = take(9)
    assert len(jobs) == 2
    assert take(9) == []
    finish(jobs[0])
    assert len(take(9)) == 1
    release_jobs([jobs[1].fence])
    assert len(take(9)) == 1


def test_a_full_key_keeps_nobody_behind_it_waiting() -> None:
    for execution_id in range(1, 60):
        put(execution_id, limits=[Limit("k", 1)])
    put(60, jobs=2000, limits=[Limit("k", 1)])
    put(99)
    assert [job.execution_id for job in take(2)] == [1, 99]
    assert parked() == 58 + 2000
    put(98)
    put(97, limits=[Limit("k", 1)])
    assert parked() == 58 + 2000 + 1
    assert takers(3) == [98]


def test_those_who_wait_for_a_key_are_admitted_in_fair_order() -> None:
    put(1, jobs=1000, limits=[Limit("k", 1)])
    served = []
    for turn in range(30):
        [job] = take()
        served.append(job.execution_id)
        if turn == 10:
            put(2, jobs=5, limits=[Limit("k", 1)])
        finish(job)
    assert served[11:21].count(2) == 5


def test_jobs_that_nobody_has_put_aside_share_the_room_of_their_key() -> None:
    for execution_id in (1, 2):
        put(execution_id, limits=[Limit("k", 1)])
    assert parked() == 0
    [job] = take(2)
    assert job.execution_id == 1
    finish(job)
    assert takers(2) == [2]


def test_a_job_with_two_keys_needs_room_at_both() -> None:
    put(1, limits=[Limit("a", 2)])
    put(2, jobs=3, limits=[Limit("a", 2), Limit("b", 1)])
    put(3, jobs=3, limits=[Limit("b", 1), Limit("c", 5)])
    jobs = take(9)
    assert [job.execution_id for job in jobs] == [1, 2]
    put(4, limits=[Limit("c", 5)])
    assert takers(9) == [4]
    served = []
    while jobs:
        finish(*jobs)
        jobs = take(9)
        served += [job.execution_id for job in jobs]
    assert sorted(served) == [2, 2, 3, 3, 3]


@pytest.mark.parametrize("keyed", [[Limit("k", 3)], [Limit("k", 3), Limit("other", 2)]])
def test_leasers_at_the_same_time_never_exceed_a_limit_and_get_all_done(keyed: list[Limit]) -> None:
    put(1, jobs=40, limits=keyed)
    put(2, jobs=40, limits=[Limit("k", 3)])
    for execution_id in range(3, 23):
        put(execution_id, limits=[Limit("other", 2), Limit("k", 3)])
    put(50, jobs=20)
    most = {"k": 3, "other": 2}

    failed = Event()

    def work(name: str) -> int:
        done = 0
        try:
            while not failed.is_set() and Job.objects.filter(status__in=["queued", "leased"]).exists():
                for job in lease_jobs(name, ["default"], 4, 60):
                    live = [key for keys in live_keys() for key in keys or []]
                    assert all(live.count(key) <= limit for key, limit in most.items()), live
                    finish(job)
                    done += 1
        except BaseException:
            # Else the others wait for ever for what this one holds.
            failed.set()
            raise
        finally:
            connection.close()
        return done

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, [f"w{number}" for number in range(6)])) == 120
    assert parked() == 0


def live_keys() -> list[list[str] | None]:
    return list(Job.objects.filter(status="leased").values_list("limit_keys", flat=True))


def test_what_is_called_off_or_held_leaves_its_place_to_others() -> None:
    put(1, jobs=2, limits=[Limit("k", 1)])
    put(2, jobs=2, limits=[Limit("k", 1)])
    put(3, jobs=1, limits=[Limit("k", 1)])
    assert parked() == 4
    with transaction.atomic():
        services.hold_open_jobs(1, held=True)
    with transaction.atomic():
        services.close_open_jobs(2)
    [job] = take(9)
    assert job.execution_id == 3
    with transaction.atomic():
        services.hold_open_jobs(1, held=False)
    assert take(9) == []
    finish(job)
    assert takers(9) == [1]


def test_a_pool_without_workers_keeps_no_other_from_a_key() -> None:
    put(1, jobs=3, limits=[Limit("k", 1)], pool="nobody")
    put(2, jobs=3, limits=[Limit("k", 1)])
    assert find_parking_keys("", 10) == ["k"]
    admit_jobs(["k"])
    for _ in range(3):
        [job] = take(9)
        assert job.execution_id == 2
        finish(job)


def test_the_reconcilers_look_mends_what_nobody_admitted() -> None:
    put(1, jobs=3, limits=[Limit("k", 2)])
    Job.objects.update(parked_by="k")
    assert take(9) == []
    assert find_parking_keys("", 10) == ["k"]
    assert find_parking_keys("k", 10) == []
    assert admit_jobs(find_parking_keys("", 10)) == 2
    assert admit_jobs(["k", "unknown"]) == 0
    assert len(take(9)) == 2


def test_within_a_transaction_a_lease_waits_for_no_key() -> None:
    put(1, jobs=2, limits=[Limit("k", 5)])

    def lease_inside() -> list[LeasedJob]:
        try:
            with transaction.atomic():
                return take(9, execution_id=1)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            store.lock_keys(["k"], wait=True)
            assert pool.submit(lease_inside).result() == []
        assert len(pool.submit(lease_inside).result()) == 2


def test_whoever_has_met_a_locked_key_only_waits_for_it_before_there_is_nothing() -> None:
    put(1, limits=[Limit("full", 1)])
    take()
    # It is put aside, and only then the next is found.
    put(2, limits=[Limit("full", 1)])
    put(3, limits=[Limit("k", 1)])
    with transaction.atomic():
        store.lock_keys(["k"], wait=True)
        taken = in_thread(take)
        wait_until_waiting(taken)
    assert [job.execution_id for job in taken.result(30)] == [3]
