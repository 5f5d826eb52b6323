"""What the platform survives: its processes are killed and paused while they work."""

from __future__ import annotations

import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from executors.sandbox.folders import PREFIX
from tests.faults.faulty import Faulty
from tests.support.inspection import run_json, wait_for

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


@pytest.fixture
def slow(tmp_path: Path) -> str:
    file = tmp_path / "slow.yaml"
    file.write_text(SLOW)
    return str(file)


def folders_of(worker: psutil.Process) -> list[Path]:
    """Where the folders of a worker's jobs are: it holds their locks."""
    held = []
    for entry in Path(f"/proc/{worker.pid}/fd").iterdir():
        # It opens and closes others meanwhile.
        with contextlib.suppress(FileNotFoundError):
            held.append(entry.readlink())
    return [path for path in held if path.name.startswith(PREFIX)]


def check_two_leases_one_result(faulty: Faulty, execution_id: str) -> None:
    faulty.check_completed(execution_id, result={"ok": True})
    assert faulty.endings_of(execution_id, "nap") == ["lost", "done"]


@pytest.mark.long
def test_a_worker_process_killed_in_the_middle_of_a_step_costs_a_lease(killable: Faulty, slow: str) -> None:
    execution_id = run_json(killable.platform, slow)["execution_id"]
    killable.holder_of(execution_id).kill()
    check_two_leases_one_result(killable, execution_id)


def test_a_whole_worker_fleet_killed_in_the_middle_of_a_step_costs_a_lease(killable: Faulty, slow: str) -> None:
    execution_id = run_json(killable.platform, slow)["execution_id"]
    holder = killable.holder_of(execution_id)
    fleet = holder.parent()
    assert fleet is not None
    folders = wait_for(lambda: folders_of(holder))
    for process in [*fleet.children(recursive=True), fleet]:
        # A sandbox's child dies with its parent, which may be quicker.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    check_two_leases_one_result(killable, execution_id)
    assert not any(folder.exists() for folder in folders), "whoever came next swept them"


@pytest.mark.long
def test_a_worker_paused_past_its_lease_is_told_that_it_lost(killable: Faulty, slow: str) -> None:
    execution_id = run_json(killable.platform, slow)["execution_id"]
    worker = killable.holder_of(execution_id)
    worker.suspend()
    try:
        check_two_leases_one_result(killable, execution_id)
    finally:
        worker.resume()
    # Which of them it is depends on who looks first: the keeper of its leases, or whoever reports.
    told = (f"lease of {execution_id}:nap was lost; its result is dropped", "came too late: the lease was lost")
    wait_for(lambda: any(text in killable.log_of("worker") for text in told))
    check_two_leases_one_result(killable, execution_id)


def test_five_hundred_cancels_race_with_results(killable: Faulty) -> None:
    """Each execution has one end, and what its canceller was told is true."""
    count, clients = 500, 4
    told: dict[str, bool] = {}

    def race(nth: int) -> None:
        behind = deque[str]()
        for number in range(nth, count, clients):
            behind.append(killable.start_chain())
            # Some at once, some behind so many other starts that they are about to end.
            if len(behind) > number % 5:
                execution_id = behind.popleft()
                told[execution_id] = killable.starter.cancel(execution_id)
        told.update({execution_id: killable.starter.cancel(execution_id) for execution_id in behind})

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(race, range(clients)))
    assert len(told) == count
    killable.wait_until_ended(*told)
    rows = killable.query("SELECT id, status FROM execution WHERE id = ANY(%s)", [int(id_) for id_ in told])
    assert dict(rows) == {int(id_): "cancelled" if was_first else "completed" for id_, was_first in told.items()}
    assert 20 < sum(told.values()) < count - 20, "one side always won: that was no race"
    killable.check_invariants()


def test_without_redis_everything_is_still_accepted_and_completes(killable: Faulty) -> None:
    killable.redis_server().kill()
    document = run_json(killable.platform, "examples/hello.yaml", "--wait", "--timeout", "60")
    assert document["status"] == "completed"
    killable.check_invariants()
