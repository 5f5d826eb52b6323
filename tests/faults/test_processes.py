"""What the platform survives: its processes are killed while it works."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from noetl_site import embedded
from tests.support.inspection import query, run_json, wait_for
from tests.support.platform import Platform, running_platform, temporary_data_dir

SLOW = """
apiVersion: noetl.io/v1
kind: Playbook
name: slow
path: tests/slow
workflow:
  - step: start
    next: nap
  - step: nap
    type: python
    code: |
      import time
      def main():
          time.sleep(3)
          return {"ok": True}
    next: end
  - step: end
    result: {ok: "{{ nap.ok }}"}
"""


@pytest.fixture(scope="module")
def quick_leases() -> Iterator[Platform]:
    """A platform whose leases run out soon."""
    with temporary_data_dir() as data_dir, running_platform(data_dir, NOETL_LEASE_SECONDS="2") as running:
        yield running


@pytest.fixture
def slow(tmp_path: Path) -> str:
    file = tmp_path / "slow.yaml"
    file.write_text(SLOW)
    return str(file)


def status_of(platform: Platform, execution_id: str) -> str:
    [(status,)] = query(platform, "SELECT status FROM execution WHERE id = %s", int(execution_id))
    return str(status)


def lease_of(platform: Platform, execution_id: str) -> int:
    """The process that holds the execution's job, once one does."""

    def look() -> list[tuple[Any, ...]]:
        return query(
            platform, "SELECT worker_id FROM queue WHERE execution_id = %s AND status = 'leased'", int(execution_id)
        )

    [(worker_id,)] = wait_for(look)
    return int(worker_id.rpartition(":")[2])


def check_two_leases_one_result(platform: Platform, execution_id: str) -> None:
    wait_for(lambda: status_of(platform, execution_id) == "completed", seconds=60)
    endings = query(
        platform, "SELECT ending FROM lease_history WHERE execution_id = %s ORDER BY attempt", int(execution_id)
    )
    assert endings == [("lost",), ("done",)]
    outcomes = query(
        platform,
        "SELECT count(*) FROM event_log WHERE execution_id = %s AND event_type IN ('action_completed', 'action_error')",
        int(execution_id),
    )
    assert outcomes == [(1,)]
    assert platform.manage("verify").stdout == "0 violations\n"


def test_a_worker_process_killed_in_the_middle_of_a_step_costs_a_lease(quick_leases: Platform, slow: str) -> None:
    execution_id = run_json(quick_leases, slow)["execution_id"]
    os.kill(lease_of(quick_leases, execution_id), signal.SIGKILL)
    check_two_leases_one_result(quick_leases, execution_id)


def test_a_whole_worker_fleet_killed_in_the_middle_of_a_step_costs_a_lease(quick_leases: Platform, slow: str) -> None:
    execution_id = run_json(quick_leases, slow)["execution_id"]
    holder = psutil.Process(lease_of(quick_leases, execution_id))
    fleet = holder.parent()
    assert fleet is not None
    for process in [*fleet.children(recursive=True), fleet]:
        # A sandbox's child dies with its parent, which may be quicker.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    check_two_leases_one_result(quick_leases, execution_id)


def test_a_worker_paused_past_its_lease_is_told_that_it_lost(quick_leases: Platform, slow: str) -> None:
    execution_id = run_json(quick_leases, slow)["execution_id"]
    worker = psutil.Process(lease_of(quick_leases, execution_id))
    worker.suspend()
    try:
        check_two_leases_one_result(quick_leases, execution_id)
    finally:
        worker.resume()
    assert quick_leases.manage("verify").stdout == "0 violations\n"


def test_without_redis_everything_is_still_accepted_and_completes(quick_leases: Platform) -> None:
    folder = embedded.open_folder(quick_leases.data_dir)
    pid = int((folder.redis / "redis.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    document = run_json(quick_leases, "examples/hello.yaml", "--wait", "--timeout", "60")
    assert document["status"] == "completed"
    assert quick_leases.manage("verify").stdout == "0 violations\n"


def test_everything_killed_at_once_goes_on_at_the_next_start(slow: str) -> None:
    with temporary_data_dir() as data_dir:
        with running_platform(data_dir, NOETL_LEASE_SECONDS="2") as first:
            execution_id = run_json(first, slow)["execution_id"]
            lease_of(first, execution_id)
            folder = embedded.open_folder(data_dir)
            servers = [
                int((folder.postgres / "postmaster.pid").read_text().split("\n")[0]),
                int((folder.redis / "redis.pid").read_text()),
            ]
            doomed = [*first.children(), psutil.Process(first.process.pid)]
            doomed += [child for pid in servers for child in psutil.Process(pid).children(recursive=True)]
            doomed += [psutil.Process(pid) for pid in servers]
            for end in (psutil.Process.suspend, psutil.Process.kill):
                for process in doomed:
                    # One that comes and goes by itself may be gone.
                    with contextlib.suppress(psutil.NoSuchProcess):
                        end(process)
            first.process.wait()
        with running_platform(data_dir, NOETL_LEASE_SECONDS="2") as second:
            wait_for(lambda: status_of(second, execution_id) == "completed", seconds=60)
            assert second.manage("verify").stdout == "0 violations\n"


def test_a_platform_stopped_in_good_order_burns_no_attempt(tmp_path: Path) -> None:
    file = tmp_path / "long.yaml"
    file.write_text(SLOW.replace("time.sleep(3)", "time.sleep(context['attempt'] < 2 and 60)"))
    with temporary_data_dir() as data_dir:
        with running_platform(data_dir) as first:
            execution_id = run_json(first, str(file))["execution_id"]
            lease_of(first, execution_id)
        with running_platform(data_dir) as second:
            wait_for(lambda: status_of(second, execution_id) == "completed", seconds=30)
            endings = query(
                second, "SELECT ending FROM lease_history WHERE execution_id = %s ORDER BY attempt", int(execution_id)
            )
            assert endings == [("released",), ("done",)]
            assert query(second, "SELECT lost_leases FROM queue") == [(0,)]
            assert second.manage("verify").stdout == "0 violations\n"


def test_run_starts_a_platform_of_its_own_when_there_is_none() -> None:
    with temporary_data_dir() as data_dir, running_platform(data_dir, "--workers", "0") as without_workers:
        done = without_workers.manage("run", "examples/hello.yaml", "--wait", "--json", timeout=120)
        assert json.loads(done.stdout)["status"] == "completed"
        assert "starting the platform" in done.stderr
