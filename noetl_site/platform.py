"""The whole platform on one machine: which programs it is made of, what comes before them, and when it is ready.

Knows settings, the embedded services and the apps' doors; how programs are kept running is the supervisor's matter.
"""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections

from executors.api import Runtime, StopEvent, broker_answers, find_live, find_lossy_settings, save_credential
from noetl_site import embedded, programs
from noetl_site.access.tokens import create_token
from noetl_site.supervisor import Program, Supervisor

WEB: Final = "web"
WORKER: Final = "worker"
RECONCILER: Final = "reconciler"
ADMIN: Final = "admin"
READY_SECONDS: Final = 60.0
PLAYGROUND_CREDENTIAL: Final = "demo_postgres"
PLAYGROUND_DATABASE: Final = "demo"
PLAYGROUND_ROLE: Final = "noetl_demo"
REVIVE_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.1
WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  # addresses to look for


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 2
    with_web: bool = True
    pools: tuple[str, ...] = ("default",)


class Platform:
    """One platform, from the first start of its services to their stop."""

    def __init__(self, wanted: Wanted, tell: Callable[[str], None]) -> None:
        """`tell` takes lines about the progress."""
        self._wanted = wanted
        self._tell = tell
        self._listener: socket.socket | None = None
        self._revived_at = time.monotonic()
        self._looked_at = float("-inf")
        self._supervisor: Supervisor | None = None
        self.stop_event = StopEvent()
        self.password: str | None = None
        """Of the user `admin`, when it was created by this start."""
        self.token: str | None = None
        """An API token of that user, made with it."""

    @property
    def url(self) -> str | None:
        """Where the console is."""
        if self._listener is None:
            return None
        host, port = self._listener.getsockname()[:2]
        host = WILDCARDS.get(host, host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def logs(self) -> Path:
        """The folder of the programs' logs."""
        return Path(settings.NOETL_DATA_DIR) / "logs"

    def prepare(self) -> None:
        """Take the port, start the services, bring the tables up to date, see to an admin user.

        Raises: `CommandError`, `EmbeddedError`.
        """
        if self._wanted.with_web:
            self._listener = _listen(self._wanted.host, self._wanted.port)
        if settings.NOETL_EMBEDDED:
            self._tell(f"starting Postgres and Redis in {settings.NOETL_DATA_DIR}")
            embedded.ensure_running(settings.NOETL_DATA_DIR)
        _refuse_to_lose_results()
        self._tell("bringing the tables up to date")
        call_command("migrate", database="admin", verbosity=0)
        if self._wanted.with_web and (made := _ensure_admin()):
            self.password, self.token = made
            # Told at once: a start that fails later must not take it along.
            self._tell(f"created the user {ADMIN} with the password {self.password} (shown this once)")
        if settings.NOETL_EMBEDDED:
            _ensure_playground()

    def start(self) -> None:
        """Start the programs and wait until they are ready, or until told to stop. Raises: `CommandError`."""
        self._tell(f"starting {', '.join(program.name for program in self._programs())}; logs are in {self.logs}")
        self._settle()
        self._supervisor = Supervisor(self._programs(), settings.BASE_DIR, self.logs, connections.close_all)
        self._supervisor.start()
        deadline = time.monotonic() + READY_SECONDS
        self._supervisor.watch(self.stop_event, lambda: self._is_ready() or time.monotonic() > deadline)
        if not self.stop_event.is_set() and time.monotonic() > deadline:
            raise CommandError(f"the platform was not ready after {READY_SECONDS:g} s; see {self.logs}")

    def watch(self) -> None:
        """Keep everything running until told to stop."""
        assert self._supervisor is not None
        connections.close_all()
        self._supervisor.watch(self.stop_event, self._look_after_services)

    def stop(self) -> None:
        """Stop the programs, then let go of the services."""
        if self._supervisor is not None:
            self._supervisor.stop()
        if self._listener is not None:
            self._listener.close()
        connections.close_all()
        embedded.release()

    def _programs(self) -> list[Program]:
        made = []
        if self._listener is not None:
            serve = partial(programs.serve, self._listener.fileno())
            made.append(Program(WEB, programs.load_web, serve, stop_seconds=8))
        if self._wanted.workers:
            work = partial(programs.work, self._wanted.pools, self._wanted.workers, self._listener)
            made.append(Program(WORKER, programs.load_worker, work, stop_seconds=10))
        reconcile = partial(programs.reconcile, self._listener)
        return [*made, Program(RECONCILER, programs.load_reconciler, reconcile, stop_seconds=10)]

    def _settle(self) -> None:
        """Let the settings say what only this start knows: the programs are forks, and read them as they stand."""
        if self.url is not None:
            settings.NOETL_SERVER_URL = self.url
            settings.ALLOWED_HOSTS = sorted({*settings.ALLOWED_HOSTS, self._wanted.host} - set(WILDCARDS))
        if not settings.NOETL_WORKER_POOL_NAME:
            # Of this start alone: another platform that stops must not say goodbye for this one.
            settings.NOETL_WORKER_POOL_NAME = f"worker-{socket.gethostname()}:{os.getpid()}"

    def _is_ready(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at < POLL_SECONDS:
            return False
        self._looked_at = now
        return self._web_answers() and (self._worker_is_known() or self._does_without_broker())

    def _web_answers(self) -> bool:
        if self._listener is None:
            return True
        host, port = self._listener.getsockname()[:2]
        connection = http.client.HTTPConnection(WILDCARDS.get(host, host), port, timeout=2)
        try:
            connection.request("GET", "/api/health")
            # Any answer will do: a strict ALLOWED_HOSTS may refuse this one.
            return connection.getresponse().status < 500
        except OSError:
            return False
        finally:
            connection.close()

    def _worker_is_known(self) -> bool:
        if not self._wanted.workers:
            return True
        return self._is_known(WORKER, Runtime.ComponentType.WORKER_POOL)

    def _does_without_broker(self) -> bool:
        """Whether no worker can come because the broker is away, and the reconciler does the work (rule R11)."""
        if not self._is_known(RECONCILER, Runtime.ComponentType.BROKER) or broker_answers():
            return False
        self._tell("the broker does not answer: until it does, the reconciler runs the jobs")
        return True

    def _is_known(self, program: str, component_type: str) -> bool:
        """Whether the program that runs has announced itself."""
        assert self._supervisor is not None
        pid = self._supervisor.pid_of(program)
        return any(component.runtime.get("pid") == pid for component in find_live(component_type))

    def _look_after_services(self) -> bool:
        """Start an embedded server again that has died; the programs wait for it."""
        now = time.monotonic()
        if settings.NOETL_EMBEDDED and now - self._revived_at >= REVIVE_SECONDS:
            self._revived_at = now
            try:
                embedded.revive(settings.NOETL_DATA_DIR)
            except embedded.EmbeddedError as error:
                self._tell(str(error))
        return False


def _listen(host: str, port: int) -> socket.socket:
    """The web server's socket, taken before anything else starts. Raises: `CommandError` when it is not to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise CommandError(
            f"port {port} of {host} cannot be used ({error.strerror}): name another with --port, 0 takes a free one"
        ) from None


def _refuse_to_lose_results() -> None:
    """Raises: `CommandError` when the server is set so that a crash of its machine loses what it has committed."""
    # As the owner: the application's role may be one that `migrate` is the first to tell of.
    if lossy := find_lossy_settings("admin"):
        settings_off = " and ".join(f"{name} = off" for name in lossy)
        raise CommandError(f"Postgres runs with {settings_off}: a crash loses accepted results; set it to on")


def _ensure_playground() -> None:
    """A database with a role of its own in the embedded server, and its stored credential: for examples and trials."""
    words = embedded.ensure_database(settings.NOETL_DATA_DIR, PLAYGROUND_DATABASE, PLAYGROUND_ROLE)
    data = {f"db_{name}": value for name, value in words.items() if name != "dbname"}
    data["db_name"] = words["dbname"]
    save_credential(PLAYGROUND_CREDENTIAL, "postgres", data, description="A database to play with, embedded")


def _ensure_admin() -> tuple[str, str] | None:
    """Make the user `admin` unless there is somebody who may do everything.

    Returns: its password and a token of the API; neither is kept.
    """
    users = get_user_model().objects
    if users.filter(is_superuser=True, is_active=True).exists() or users.filter(username=ADMIN).exists():
        return None
    password = secrets.token_urlsafe(12)
    user = users.create_superuser(username=ADMIN, password=password)
    return password, create_token(user, "made at the first start")
