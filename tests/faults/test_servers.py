"""Redis is a hint and Postgres the truth: what their faults may cost is time."""

from __future__ import annotations

import time

import psutil
import pytest

from noetl_site import embedded
from tests.faults.faulty import CHAIN_RESULT, Faulty
from tests.faults.platforms import faulty_platform
from tests.support import seeding
from tests.support.inspection import wait_for
from tests.support.platform import environment, temporary_data_dir
from tests.support.starting import NotAcknowledged

START_SECONDS = 1.5
HUNG_SECONDS = 20.0


def check_starts_were_quick(faulty: Faulty) -> None:
    assert faulty.starter.slowest_seconds < START_SECONDS
    faulty.starter.slowest_seconds = 0.0


def start_together_and_try_the_broker(faulty: Faulty, started: list[str]) -> bool:
    """Start many executions at once. Returns: whether one of them tried the broker, which takes a second."""
    ids, seconds = faulty.starter.start_together("tests/chain", count=12)
    started += ids
    return seconds > 0.9


@pytest.mark.long
def test_redis_stopped_after_the_start_costs_time(served: Faulty) -> None:
    server = served.redis_server()
    server.kill()
    psutil.wait_procs([server])
    started = [served.start_chain() for _ in range(5)]
    served.check_completed(*started, result=CHAIN_RESULT)
    check_starts_were_quick(served)
    served.revive_servers()
    again = [served.start_chain() for _ in range(3)]
    served.check_completed(*again, result=CHAIN_RESULT)


def test_redis_flushed_in_the_middle_of_a_fan_out_costs_time(served: Faulty) -> None:
    execution_id = served.start_fan(items=100)
    wait_for(lambda: served.types_of(execution_id).count("action_completed") >= 5)
    served.send_to_redis(b"FLUSHALL")
    served.check_completed(execution_id, result={"results": [2 * item for item in range(100)]})


@pytest.mark.parametrize("seconds", [3.0, pytest.param(HUNG_SECONDS, marks=pytest.mark.long)])
def test_redis_hung_keeps_no_start_waiting(served: Faulty, seconds: float) -> None:
    server = served.redis_server()
    server.suspend()
    try:
        over_at = time.monotonic() + seconds
        started: list[str] = []
        while time.monotonic() < over_at:
            started.append(served.start_chain())
            # The next one waits for this one: it completes although nobody is told of it.
            served.wait_until_ended(started[-1])
        wait_for(lambda: start_together_and_try_the_broker(served, started))
    finally:
        server.resume()
    served.check_completed(*started, result=CHAIN_RESULT)
    check_starts_were_quick(served)


def test_postgres_restarted_at_once_loses_no_acknowledged_start(served: Faulty) -> None:
    fans = [served.start_fan(items=30) for _ in range(3)]
    chains = [served.start_chain() for _ in range(5)]
    wait_for(lambda: served.types_of(fans[0]).count("action_completed") >= 5)
    served.kill_postgres()
    with pytest.raises(NotAcknowledged):
        served.start_chain()
    served.revive_servers()
    served.check_completed(*chains, result=CHAIN_RESULT)
    served.check_completed(*fans, result={"results": [2 * item for item in range(30)]})


def test_every_message_delivered_five_times_does_nothing_twice(served: Faulty) -> None:
    assert served.redis is not None
    served.redis.times, served.redis.repeated = 5, 0
    fans = [served.start_fan(items=20) for _ in range(2)]
    chains = [served.start_chain() for _ in range(5)]
    served.check_completed(*chains, result=CHAIN_RESULT)
    served.check_completed(*fans, result={"results": [2 * item for item in range(20)]})
    assert served.redis.repeated > 0


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_report_whose_commit_is_not_confirmed_is_accepted_once(served: Faulty, count: int) -> None:
    assert served.postgres is not None
    served.postgres.drop_commits(count, b"executions.append_events", b"action_started")
    started = [served.start_chain() for _ in range(count)]
    served.check_completed(*started, result=CHAIN_RESULT)
    assert served.postgres.dropped == count
    for execution_id in started:
        assert served.endings_of(execution_id, "one") == ["done"]


def test_a_start_whose_commit_is_not_confirmed_is_there_once(served: Faulty) -> None:
    assert served.postgres is not None
    served.postgres.drop_commits(1, b"executions.append_events", b"execution_start")
    with pytest.raises(NotAcknowledged):
        served.starter.start("tests/chain", key="unconfirmed")
    assert served.postgres.dropped == 1
    execution_id = served.starter.start("tests/chain", key="unconfirmed")
    served.check_completed(execution_id, result=CHAIN_RESULT)
    assert served.query("SELECT count(*) FROM execution WHERE idempotency_key = 'unconfirmed'") == [(1,)]


@pytest.mark.long
def test_redis_absent_from_the_start_costs_time() -> None:
    with temporary_data_dir() as data_dir:
        seeding.seed(data_dir, environment(data_dir))
        servers = embedded.ensure_running(data_dir)
        urls = {
            "DATABASE_URL": servers.database_url,
            "DATABASE_ADMIN_URL": servers.database_admin_url,
            "REDIS_URL": f"redis+socket://{data_dir}/nobody.sock",
        }
        try:
            with faulty_platform(data_dir, **urls) as faulty:
                started = [faulty.start_chain() for _ in range(5)]
                faulty.check_completed(*started, result=CHAIN_RESULT)
                check_starts_were_quick(faulty)
        finally:
            embedded.release(data_dir)
