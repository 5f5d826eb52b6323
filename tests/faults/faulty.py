"""A platform that faults are brought upon, and what must hold after each of them."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from noetl_site import embedded
from tests.support.inspection import query, wait_for
from tests.support.platform import Platform
from tests.support.proxies import PostgresProxy, RedisProxy
from tests.support.schedules import Failpoints
from tests.support.starting import Starter

CHAIN_RESULT = {"n": 20}
FAN_RESULT = {"results": [2, 4, 6, 8, 10]}
ENDED = ("completed", "failed", "cancelled")


@dataclass
class Faulty:
    """A platform, its failpoints, a client of it, and the proxies before its servers if there are any."""

    platform: Platform
    points: Failpoints
    starter: Starter
    postgres: PostgresProxy | None = None
    redis: RedisProxy | None = None

    def start_chain(self) -> str:
        """Start two steps in a row."""
        return self.starter.start("tests/chain")

    def start_widening(self) -> str:
        """Start a step whose report makes more jobs than the worker takes along."""
        return self.starter.start("tests/widening")

    def start_calling(self) -> str:
        """Start a step whose report starts two steps in a row as a child."""
        return self.starter.start("tests/calling")

    def start_fan(self, items: int = 5) -> str:
        """Start a fan-out."""
        return self.starter.start("tests/fan", {"items": list(range(items))})

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of its database."""
        return query(self.platform, statement, *parameters)

    def order(self, statement: str) -> None:
        """Have the database do a statement that gives no rows."""
        with embedded.connect(self._folder, "noetl") as connection:
            connection.execute(statement.encode())

    def log_of(self, program: str) -> str:
        """What a program has written so far."""
        return (self.platform.data_dir / "logs" / f"{program}.log").read_text()

    def status_of(self, execution_id: str) -> str:
        """An execution's status."""
        [(status,)] = self.query("SELECT status FROM execution WHERE id = %s", int(execution_id))
        return str(status)

    def types_of(self, execution_id: str) -> list[str]:
        """The types of an execution's events, in order."""
        statement = "SELECT event_type FROM event_log WHERE execution_id = %s ORDER BY seq"
        return [row[0] for row in self.query(statement, int(execution_id))]

    def endings_of(self, execution_id: str, step: str) -> list[str | None]:
        """How the leases of a step's job ended, in order."""
        statement = "SELECT ending FROM lease_history WHERE execution_id = %s AND node_id = %s ORDER BY attempt"
        return [row[0] for row in self.query(statement, int(execution_id), f"{execution_id}:{step}")]

    def holder_of(self, execution_id: str) -> psutil.Process:
        """The process that holds the execution's job, once one does."""
        statement = "SELECT worker_id FROM queue WHERE execution_id = %s AND status = 'leased'"
        [(worker_id,)] = wait_for(lambda: self.query(statement, int(execution_id)))
        return psutil.Process(int(worker_id.rpartition(":")[2]))

    def wait_until_ended(self, *execution_ids: str, seconds: float = 60) -> None:
        """Wait until none of these executions runs any more."""
        statement = "SELECT count(*) FROM execution WHERE id = ANY(%s) AND status = ANY(%s)"
        ids = [int(execution_id) for execution_id in execution_ids]
        wait_for(lambda: self.query(statement, ids, list(ENDED)) == [(len(ids),)], seconds)

    def check_completed(self, *execution_ids: str, result: Any, seconds: float = 60) -> None:
        """Nothing was lost and nothing accepted twice: each start is there once, completed, one outcome per node."""
        self.wait_until_ended(*execution_ids, seconds=seconds)
        ids = [int(execution_id) for execution_id in execution_ids]
        rows = self.query("SELECT id, status, result FROM execution WHERE id = ANY(%s) ORDER BY id", ids)
        assert rows == [(id_, "completed", result) for id_ in sorted(ids)]
        twice = """SELECT execution_id, node_id FROM event_log WHERE event_type IN ('action_completed', 'action_error')
                   GROUP BY execution_id, node_id HAVING count(*) > 1"""
        assert self.query(twice) == []
        self.check_invariants()

    def check_invariants(self) -> None:
        """`manage.py verify` finds nothing."""
        assert self.platform.manage("verify").stdout == "0 violations\n"

    # -- the servers --------------------------------------------------------------------------------

    @property
    def _folder(self) -> embedded.Folder:
        return embedded.open_folder(self.platform.data_dir)

    def redis_server(self) -> psutil.Process:
        """The Redis server."""
        return psutil.Process(int((self._folder.redis / "redis.pid").read_text()))

    def kill_postgres(self) -> None:
        """End the Postgres server at once, as `pg_ctl stop -m immediate` does; it recovers at its next start."""
        pid = int((self._folder.postgres / "postmaster.pid").read_text().split("\n")[0])
        postmaster = psutil.Process(pid)
        os.kill(pid, signal.SIGQUIT)
        psutil.wait_procs([postmaster], timeout=30)

    def revive_servers(self) -> None:
        """Start the servers again that have died."""
        embedded.revive(self.platform.data_dir)

    def send_to_redis(self, command: bytes) -> None:
        """Have the Redis server do a command without arguments."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._folder.redis_socket))
            connection.sendall(command + b"\r\n")
            assert connection.recv(64).startswith(b"+OK")

    def proxies_at_rest(self) -> None:
        """Let the proxies pass everything on as it is."""
        if self.postgres is not None:
            self.postgres.drop_commits(0)
        if self.redis is not None:
            self.redis.times = 1


def killed_at(points: Failpoints, point: Any) -> int:
    """The process that died at the point, once it is gone."""
    pid = points.wait_until_reached(point)
    wait_for(lambda: not psutil.pid_exists(pid))
    return pid


def keep_logs(faulty: Faulty, folder: Path) -> None:
    """The logs of the last run, to look into."""
    kept = folder / "logs"
    kept.mkdir(exist_ok=True)
    for log in (faulty.platform.data_dir / "logs").glob("*.log*"):
        (kept / log.name).write_bytes(log.read_bytes())
