"""What is short or broken for a while: starts are refused in words and in time, and all goes on by itself later."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.faults.faulty import CHAIN_RESULT, Faulty
from tests.faults.platforms import faulty_platform
from tests.support.inspection import run_json, wait_for
from tests.support.platform import temporary_data_dir
from tests.support.starting import NotAcknowledged

BOUND_SECONDS = 45.0
"""Every answer must be there by then: less than a client's usual minute."""
LONG = """
apiVersion: noetl.io/v1
kind: Playbook
name: long
path: tests/long
workflow:
  - step: start
    next: nap
  - step: nap
    type: python
    code: |
      import time
      def main():
          time.sleep(60 if context["attempt"] == 1 else 0)
          return context["attempt"]
    next: end
  - step: end
    result: {attempt: "{{ nap.data }}"}
"""


def refusal(faulty: Faulty) -> str:
    """What a start is told that cannot be accepted."""
    with pytest.raises(NotAcknowledged) as told:
        faulty.start_chain()
    return str(told.value)


def test_connections_that_run_out_refuse_starts_and_come_back(killable: Faulty) -> None:
    before = [killable.start_chain() for _ in range(3)]
    killable.order("ALTER ROLE noetl CONNECTION LIMIT 0")
    try:
        killable.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'noetl'")
        # A session that was about to be used dies with it; the next request finds no other.
        told = [refusal(killable) for _ in range(3)]
        assert told[-1].startswith("503 "), told
    finally:
        killable.order("ALTER ROLE noetl CONNECTION LIMIT -1")
    after = wait_for(lambda: accepted(killable), BOUND_SECONDS)
    killable.check_completed(*before, after, result=CHAIN_RESULT)


def accepted(faulty: Faulty) -> str:
    """The id of a start, if it is accepted; else an empty text."""
    with contextlib.suppress(NotAcknowledged):
        return faulty.start_chain()
    return ""


def test_workers_told_to_stop_under_load_burn_no_attempt(killable: Faulty, tmp_path: Path) -> None:
    """And a migration beside running executions harms nobody."""
    fans = [killable.start_fan(items=200) for _ in range(2)]
    file = tmp_path / "long.yaml"
    file.write_text(LONG)
    long = run_json(killable.platform, str(file))["execution_id"]
    fleet = killable.holder_of(long).parent()
    assert fleet is not None
    fleet.terminate()
    # Unchecked: a server that does not wait for its disk would be refused.
    killable.platform.manage("migrate", "--skip-checks", "--verbosity", "0")
    killable.check_completed(*fans, result={"results": [2 * item for item in range(200)]})
    killable.check_completed(long, result={"attempt": 2})
    assert killable.endings_of(long, "nap") == ["released", "done"]
    ids = [int(id_) for id_ in (*fans, long)]
    assert killable.query("SELECT sum(lost_leases) FROM queue WHERE execution_id = ANY(%s)", ids) == [(0,)]


# -- the disk ----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A data folder on a disk of its own that is small: a tmpfs, which only root can mount."""
    with temporary_data_dir() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=300m,mode=755", "tmpfs", str(folder)]
        mounted = subprocess.run(command, check=False, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte of the disk."""
    filler = disk / "filler"
    # Unbuffered: closing it must write nothing.
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
    return filler


@pytest.mark.long
def test_a_full_disk_refuses_starts_and_loses_none(small_disk: Path) -> None:
    with faulty_platform(small_disk) as faulty:
        before = [faulty.start_fan(items=100) for _ in range(3)]
        filler = fill(small_disk)
        told: list[str] = []
        more: list[str] = []

        def is_refused() -> bool:
            # What fits into pages that are there already is still accepted.
            try:
                more.append(faulty.start_fan(items=100))
            except NotAcknowledged as refused:
                told.append(str(refused))
            return len(told) >= 3

        wait_for(is_refused, 120)
        assert all(refused.startswith(("503 ", "507 ")) for refused in told), told
        filler.unlink()
        after = wait_for(lambda: accepted(faulty), 2 * BOUND_SECONDS)
        faulty.check_completed(*before, *more, result={"results": [2 * item for item in range(100)]}, seconds=120)
        faulty.check_completed(after, result=CHAIN_RESULT)


@pytest.mark.long
def test_a_start_at_a_database_that_hangs_is_there_once(killable: Faulty) -> None:
    """The client hears nothing, gives up and asks again with its key."""
    postmaster = psutil.Process(postgres_pid(killable))
    frozen = [postmaster, *postmaster.children(recursive=True)]
    for process in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        with pytest.raises(NotAcknowledged):
            killable.starter.start("tests/chain", key="hung", within=5.0)
    finally:
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def started() -> str:
        with contextlib.suppress(NotAcknowledged, psycopg.Error):
            return killable.starter.start("tests/chain", key="hung")
        return ""

    execution_id = wait_for(started, BOUND_SECONDS)
    killable.check_completed(execution_id, result=CHAIN_RESULT)
    assert killable.query("SELECT count(*) FROM execution WHERE idempotency_key = 'hung'") == [(1,)]


def postgres_pid(faulty: Faulty) -> int:
    """The embedded server's postmaster."""
    return int((faulty.platform.data_dir / "postgres" / "postmaster.pid").read_text().split("\n")[0])
