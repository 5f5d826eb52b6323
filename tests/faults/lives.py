"""Lives of a process that starts an execution and does all the work on it: web, worker, evaluator, reconciler in one.

A life is a fork of a process with Django loaded. It can be doomed: to die by SIGKILL before or after its n-th call of
the database. What comes after a death is another life, for which the database's clock says that all leases are over.
No time passes: whoever has to wait moves the clock of its session on.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn, TypeVar

import psycopg
from django.conf import settings
from django.db import connection

from executions.api import Nudge, carry_with, evaluate_execution, get_execution, start_execution
from executors.actions.save import SaveAction
from executors.contract import ActionContext, ActionFailed, ActionKind, ActionRequest, Arguments
from executors.selectors import find_violations
from executors.worker import drain
from executors.worker.gateway import DatabaseGateway
from executors.worker.heartbeat import LeaseKeeper
from executors.worker.reconciler import Reconciler
from executors.worker.turn import TurnBounds, Worker
from noetl_site.database.prepared import PreparedStatements

T = TypeVar("T")

LEASE_SECONDS: Final = 60.0
LATER_SECONDS: Final = 600.0
"""How much later the life after a death is: no lease of the first is left."""
STEP_SECONDS: Final = 2.0
"""How far the clock is moved when there is nothing to do."""
LIFE_SECONDS: Final = 60.0
"""Real seconds after which a life has got stuck."""
ENDED: Final = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Doom:
    """Where a life ends: at which of its calls of the database, before it is made or after it has been answered."""

    call: int
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'}:{self.call}"


class Calls:
    """Counts the calls of the database that this process makes, and ends it at the one that it is doomed to die at.

    A call is what psycopg waits for (`Connection.wait`: Django's own statements, BEGIN, COMMIT, ROLLBACK) or what
    `PreparedStatements` sends at once: a round trip each.
    """

    def __init__(self, doom: Doom | None) -> None:
        self.made = 0
        self._doom = doom
        self._counting = True

    def install(self) -> None:
        """Watch this process's calls from now on; heartbeats have a thread of their own and do not count."""
        main = threading.main_thread()

        def watched(call: Callable[..., T]) -> Callable[..., T]:
            def counted(self_: Any, *given: Any, **named: Any) -> T:
                if not self._counting or threading.current_thread() is not main:
                    return call(self_, *given, **named)
                self.made += 1
                self._die_if(after=False)
                try:
                    # What it calls below is a part of it.
                    return self.uncounted(lambda: call(self_, *given, **named))
                finally:
                    self._die_if(after=True)

            return counted

        def send(self_: PreparedStatements, *, and_commit: bool = False) -> None:
            if self_.has_asked or and_commit:
                counted_send(self_, and_commit=and_commit)

        counted_send = watched(PreparedStatements.send)
        for class_, name, replacement in (
            (psycopg.Connection, "wait", watched(psycopg.Connection.wait)),
            (PreparedStatements, "_prepare", watched(PreparedStatements._prepare)),
            (PreparedStatements, "send", send),
        ):
            # This process exists for it.
            setattr(class_, name, replacement)

    def uncounted(self, work: Callable[[], T]) -> T:
        """Do what only the test wants."""
        self._counting = False
        try:
            return work()
        finally:
            self._counting = True

    def _die_if(self, *, after: bool) -> None:
        if self._doom is not None and self._doom.call == self.made and self._doom.after is after:
            os.kill(os.getpid(), signal.SIGKILL)


class HerePython(ActionKind):
    """The `python` kind without its sandbox: what is tried here is what surrounds an action."""

    name: ClassVar[str] = "python"
    Arguments: ClassVar[type[Arguments]] = Arguments

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        """What `main` returned. Raises: `ActionFailed`."""
        names: dict[str, Any] = {"context": {"attempt": request.attempt}}
        exec(request.arguments["code"], names)  # the code is this suite's own
        try:
            return names["main"](**request.inputs)
        except ValueError as error:
            raise ActionFailed("python_error", str(error)) from None


class Life:
    """All that is done in one process. `seconds` is by how much its clock is ahead."""

    def __init__(self, calls: Calls, seconds: float, bounds: TurnBounds | None = None) -> None:
        self._bounds = bounds or TurnBounds()
        self._calls = calls
        self._seconds = seconds
        self._evaluate: list[tuple[int, bool]] = []
        gateway = DatabaseGateway()
        kinds: dict[str, ActionKind] = {"python": HerePython(), "save": SaveAction.build(settings)}
        self._worker = Worker(
            f"life:{os.getpid()}",
            gateway,
            kinds,
            LeaseKeeper(gateway, LEASE_SECONDS),
            lambda *_: _no_credentials(),
            Path(settings.NOETL_DATA_DIR),
            LEASE_SECONDS,
        )
        self._reconciler = Reconciler()

    def lead(self, key: str, path: str, n: int) -> None:
        """Start the execution of this key and work until it has ended. Raises: `AssertionError` when it does not."""
        carry_with(self._take)
        self._set_clock()
        execution_id = start_execution(path, None, {"n": n}, idempotency_key=key, merge=True)
        give_up_at = time.monotonic() + LIFE_SECONDS
        while self._calls.uncounted(lambda: get_execution(execution_id)).status not in ENDED:
            if drain.has_begun():
                return
            assert time.monotonic() < give_up_at, f"execution {execution_id} got stuck"
            if not self._work():
                self._seconds += STEP_SECONDS
                self._set_clock()

    def _work(self) -> bool:
        """Do whatever there is to do. Returns: whether there was anything."""
        busy = bool(self._evaluate)
        while self._evaluate:
            execution_id, wait = self._evaluate.pop()
            evaluate_execution(execution_id, wait=wait)
        if self._worker.run_turn(["default"], self._bounds).jobs:
            return True
        if busy:
            return True
        reaped = self._reconciler.reap()
        self._reconciler.fire_timers()
        self._reconciler.tell_parents()
        self._reconciler.evaluate_pending()
        return bool(reaped or self._evaluate)

    def _take(self, nudge: Nudge) -> None:
        """In the broker's place: what wakes workers is not needed here."""
        self._evaluate += [(id_, False) for id_ in nudge.evaluate]
        self._evaluate += [(id_, True) for id_ in nudge.parents]

    def _set_clock(self) -> None:
        def set_clock() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('noetl.clock_offset', %s, false)", [f"{self._seconds} seconds"])

        self._calls.uncounted(set_clock)


def _no_credentials() -> NoReturn:
    raise AssertionError("no step of these playbooks has a credential")


# -- forks -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ended:
    """How a fork ended: killed by its doom, or with what it told."""

    killed: bool
    told: dict[str, Any]


def forked(work: Callable[[], dict[str, Any]]) -> Ended:
    """Do the work in a fork and give what it returns; `error` in it is a traceback."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_a_fork(work, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return Ended(killed=True, told={})
    return Ended(killed=False, told=json.loads(text) if text else {"error": f"ended with {status} and said nothing"})


def _be_a_fork(work: Callable[[], dict[str, Any]], writing: int) -> NoReturn:
    try:
        told = work()
    except BaseException:
        # A fork that must not return into the parent's code: whatever it was is told.
        told = {"error": traceback.format_exc()}
    with suppress(OSError), os.fdopen(writing, "w") as pipe:
        json.dump(told, pipe)
    # Nothing of the parent's is to be cleared away here.
    os._exit(0)


def live(key: str, path: str, n: int, *, doom: Doom | None, inline: bool, later: bool) -> Ended:
    """One life of the execution of this key. `inline` is `NOETL_EVALUATE_INLINE`."""

    def work() -> dict[str, Any]:
        settings.NOETL_EVALUATE_INLINE = inline
        calls = Calls(doom)
        calls.install()
        Life(calls, LATER_SECONDS if later else 0.0).lead(key, path, n)
        return {"trips": calls.made}

    return forked(work)


def violations() -> list[str]:
    """What `manage.py verify` finds, asked in a fork: the parent keeps no connection of Django's."""

    def work() -> dict[str, Any]:
        return {"found": [f"{v.invariant}: execution {v.execution_id} {v.message}" for v in find_violations()]}

    ended = forked(work)
    if "found" not in ended.told:
        raise RuntimeError(ended.told.get("error", "verify was killed"))
    return list(ended.told["found"])
