"""Faults at random: processes killed and paused, sessions ended, servers restarted, replies to COMMIT lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psutil
import psycopg

from tests.faults.faulty import Faulty

APART_SECONDS: Final = 35.0
"""Between two deaths of one program: the supervisor waits longer and longer for one that does not stay up for 30 s."""
PROGRAMS: Final = {"worker": "celery", "web": "gunicorn", "reconciler": "reconcile"}


class Chaos:
    """Brings one fault after the other upon a platform. `done` counts them by their kind."""

    def __init__(self, faulty: Faulty, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._faulty = faulty
        self._dice = random.Random(seed)
        self._due: dict[str, float] = {}
        self._resumes: list[threading.Timer] = []
        self._started_fleet = 0
        self._faults: list[tuple[Callable[[], str | None], float]] = [
            (self._kill_pool_process, 70),
            (self._kill_web_process, 6),
            (lambda: self._kill_program("worker"), 2),
            (lambda: self._kill_program("web"), 1),
            (lambda: self._kill_program("reconciler"), 2),
            (self._pause_pool_process, 4),
            (lambda: self._pause_program("reconciler"), 1),
            (self._end_session, 8),
            (self._lose_commits, 5),
            (self._flush_redis, 1),
            (self._restart_redis, 1),
            (self._pause_redis, 1),
            (self._restart_postgres, 1),
        ]

    @property
    def kills(self) -> int:
        """SIGKILLs of processes so far."""
        return sum(count for name, count in self.done.items() if name.startswith("killed "))

    def one(self) -> None:
        """Bring some fault about, if there is somebody to be hit."""
        fault = self._dice.choices([fault for fault, _ in self._faults], [weight for _, weight in self._faults])[0]
        # Whoever was chosen may have gone meanwhile, and the database may be recovering from another fault.
        with suppress(psutil.NoSuchProcess, psycopg.Error, OSError, AssertionError):
            name = fault()
            if name is not None:
                self.done[name] += 1

    def end(self) -> None:
        """No fault any more: everything paused goes on, everything stopped is started."""
        for timer in self._resumes:
            timer.join()
        assert self._faulty.postgres is not None
        self.done["COMMIT reply lost"] += self._faulty.postgres.dropped
        self._faulty.proxies_at_rest()
        self._faulty.revive_servers()

    # -- processes -----------------------------------------------------------------------------------

    def _program(self, name: str) -> psutil.Process | None:
        supervisor = psutil.Process(self._faulty.platform.process.pid)
        for process in supervisor.children():
            with suppress(psutil.NoSuchProcess):
                if any(PROGRAMS[name] in word for word in process.cmdline()):
                    return process
        return None

    def _one_below(self, name: str) -> psutil.Process | None:
        program = self._program(name)
        below = program.children() if program is not None else []
        return self._dice.choice(below) if below else None

    def _kill_pool_process(self) -> str | None:
        process = self._one_of_the_pool()
        if process is None:
            return None
        process.kill()
        return "killed pool process"

    def _kill_web_process(self) -> str | None:
        process = self._one_below("web")
        if process is None:
            return None
        process.kill()
        return "killed web process"

    def _kill_program(self, name: str) -> str | None:
        process = self._program(name)
        if process is None or not self._is_due(f"kill {name}", APART_SECONDS):
            return None
        process.kill()
        return f"killed {name}"

    def _pause_pool_process(self) -> str | None:
        return self._pause(self._one_of_the_pool(), 2.0, 4.0, "paused pool process")

    def _one_of_the_pool(self) -> psutil.Process | None:
        """A process of a pool that has announced itself: Celery ends when one dies while the pool starts."""
        fleet = self._program("worker")
        if fleet is None:
            return None
        if fleet.pid != self._started_fleet:
            known = "SELECT 1 FROM runtime WHERE component_type = 'worker_pool' AND (runtime ->> 'pid')::int = %s"
            if not self._faulty.query(known, fleet.pid):
                return None
            self._started_fleet = fleet.pid
        return self._one_below("worker")

    def _pause_program(self, name: str) -> str | None:
        return self._pause(self._program(name), 1.0, 4.0, f"paused {name}")

    def _pause(self, process: psutil.Process | None, least: float, most: float, name: str) -> str | None:
        if process is None:
            return None
        process.suspend()

        def resume() -> None:
            with suppress(psutil.NoSuchProcess):
                process.resume()

        timer = threading.Timer(self._dice.uniform(least, most), resume)
        timer.start()
        self._resumes = [*(other for other in self._resumes if other.is_alive()), timer]
        return name

    # -- servers -------------------------------------------------------------------------------------

    def _end_session(self) -> str | None:
        statement = "SELECT pid FROM pg_stat_activity WHERE datname = 'noetl' AND application_name = 'noetl'"
        pids = [pid for (pid,) in self._faulty.query(statement)]
        if not pids:
            return None
        self._faulty.query("SELECT pg_terminate_backend(%s)", self._dice.choice(pids))
        return "session terminated"

    def _lose_commits(self) -> str | None:
        proxy = self._faulty.postgres
        assert proxy is not None
        # Counted as they happen, at the next one and at the end.
        self.done["COMMIT reply lost"] += proxy.dropped
        marks = self._dice.choice([(), (b"action_started",), (b"execution_start",)])
        proxy.drop_commits(self._dice.randrange(1, 4), *marks)
        return None

    def _flush_redis(self) -> str | None:
        self._faulty.send_to_redis(b"FLUSHALL")
        return "Redis flushed"

    def _restart_redis(self) -> str | None:
        server = self._faulty.redis_server()
        server.kill()
        psutil.wait_procs([server], timeout=10)
        self._faulty.revive_servers()
        return "Redis restarted"

    def _pause_redis(self) -> str | None:
        return self._pause(self._faulty.redis_server(), 1.0, 4.0, "Redis hung")

    def _restart_postgres(self) -> str | None:
        if not self._is_due("postgres", 2 * APART_SECONDS):
            return None
        self._faulty.kill_postgres()
        self._faulty.revive_servers()
        return "Postgres restarted"

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + seconds
        return True
