"""Whole platforms that end, well or badly, and start again on the same data."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

from noetl_site import embedded
from tests.faults.test_processes import SLOW
from tests.support.inspection import query, run_json, wait_for
from tests.support.platform import Platform, running_platform, temporary_data_dir


def status_of(platform: Platform, execution_id: str) -> str:
    [(status,)] = query(platform, "SELECT status FROM execution WHERE id = %s", int(execution_id))
    return str(status)


def wait_until_leased(platform: Platform, execution_id: str) -> None:
    statement = "SELECT 1 FROM queue WHERE execution_id = %s AND status = 'leased'"
    wait_for(lambda: query(platform, statement, int(execution_id)))


def test_everything_killed_at_once_goes_on_at_the_next_start(tmp_path: Path) -> None:
    slow = str(tmp_path / "slow.yaml")
    Path(slow).write_text(SLOW)
    with temporary_data_dir() as data_dir:
        with running_platform(data_dir, NOETL_LEASE_SECONDS="2") as first:
            execution_id = run_json(first, slow)["execution_id"]
            wait_until_leased(first, execution_id)
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
            wait_until_leased(first, execution_id)
        with running_platform(data_dir) as second:
            wait_for(lambda: status_of(second, execution_id) == "completed", seconds=30)
            endings = query(
                second, "SELECT ending FROM lease_history WHERE execution_id = %s ORDER BY attempt", int(execution_id)
            )
            assert endings == [("released",), ("done",)]
            assert query(second, "SELECT lost_leases FROM queue") == [(0,)]
            assert second.manage("verify").stdout == "0 violations\n"
