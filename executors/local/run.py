"""A run with no server: the engine in memory, real actions in threads of this process, real time by waiting.

One thread owns the executions and does nothing but take in what has happened; actions run in a bounded pool of others
and report to it. What a playbook means is the planner's matter.
"""

from __future__ import annotations

import heapq
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event as Flag
from typing import Any

from catalog.api import CatalogError, Playbook
from executions.api import (
    ActionOutcome,
    Engine,
    EnqueueJob,
    ExecutionError,
    SetTimer,
    StartChild,
    begin,
    child_not_started,
    child_outcome,
)
from executors.contract import ActionKind, ActionRequest, Credential, Outcome
from executors.local.files import FIRST_VERSION, LocalCatalog, LocalCredentials
from executors.running import CANCELLED, DEFAULT_TIMEOUT_SECONDS, Lent, outcome_fields, run_action

Happening = Callable[[], None]


_ids = itertools.count(time.time_ns() // 1000)


def new_execution_id() -> str:
    """An id that no other run of this machine has: targets remove doubles by the ids of nodes."""
    return str(next(_ids))


@dataclass(slots=True)
class Running:
    """An execution of this run. `acting` are the stop flags of its actions, by node; `parent` is who waits for it."""

    engine: Engine
    path: str
    version: str
    parent: Running | None = None
    asked: StartChild | None = None
    acting: dict[str, Flag] = field(default_factory=dict)


@dataclass(order=True, slots=True)
class _Due:
    """Something that happens at a time (monotonic), unless it is no longer wanted then."""

    at: float
    turn: int
    happening: Happening = field(compare=False)
    is_wanted: Callable[[], bool] = field(compare=False)


class LocalRun:
    """One run of a playbook and of the children it starts. `executions` are all of them, the root first."""

    def __init__(
        self,
        playbook: Playbook,
        payload: Any = None,
        *,
        kinds: Mapping[str, ActionKind],
        catalog: LocalCatalog | None = None,
        credentials: Mapping[str, Credential] | None = None,
        env: Mapping[str, str] | None = None,
        workers: int = 2,
        merge: bool = False,
        version: str = FIRST_VERSION,
        data_dir: Path | None = None,
        takes_signals: bool = False,
        begin_at: str | None = None,
        execution_id: str | None = None,
        on_change: Callable[[Running], None] = lambda running: None,
    ) -> None:
        """`data_dir` is for DuckDB's files; without it they are gone with the run. `kinds` are the caller's to close.

        `takes_signals`: somebody may call `signal`; without it a run in which all else waits for one is cancelled.
        `begin_at`: a step to begin with instead of `start`.
        Raises: `WorkloadInvalid`.
        """
        self._kinds = kinds
        self._catalog = catalog or LocalCatalog()
        self._credentials = LocalCredentials(credentials)
        self._env = dict(env or {})
        self._workers = workers
        self._data_dir = data_dir
        self._takes_signals = takes_signals
        self._begin_at = begin_at
        self._on_change = on_change
        self._inbox: SimpleQueue[Happening] = SimpleQueue()
        self._due: list[_Due] = []
        self._turns = itertools.count()
        engine = self._engine(playbook, payload, execution_id or new_execution_id(), merge=merge)
        self.root = Running(engine, playbook.path, version)
        self.executions = [self.root]
        self._pool: ThreadPoolExecutor
        self._files: Path

    def run(self) -> Engine:
        """Run to the end. Returns: the root execution."""
        with self._lent():
            self._begin(self.root)
            while not self._is_finished():
                self._take_in()
        return self.root.engine

    def cancel(self, reason: str = "", by: str = "") -> None:
        """Ask for the end, from any thread or a signal's handler; `finally` runs first, unless it is asked twice."""
        self._inbox.put(lambda: self._cancel(self.root, reason, by))

    def signal(self, name: str, data: Any = None, *, node_id: str = "", by: str = "") -> None:
        """Send a signal to the root execution, from any thread."""
        self._inbox.put(lambda: self._after(self.root, lambda engine: engine.signal(name, data, by, node_id)))

    # -- waiting --------------------------------------------------------------------------------------

    @contextmanager
    def _lent(self) -> Iterator[None]:
        """Threads and a folder for the actions; whatever ends the run, no action outlives it."""
        with tempfile.TemporaryDirectory(prefix="noetl-local-") as folder:
            self._files = self._data_dir or Path(folder)
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="action")
            try:
                yield
            finally:
                for running in self.executions:
                    self._stop_actions(running, list(running.acting))
                self._pool.shutdown(cancel_futures=True)

    def _is_finished(self) -> bool:
        return all(running.engine.is_over and not running.acting for running in self.executions)

    def _take_in(self) -> None:
        """Wait for the next thing to happen: a report, a request, or the time that something is due at."""
        while self._due and not self._due[0].is_wanted():
            heapq.heappop(self._due)
        seconds = max(0.0, self._due[0].at - time.monotonic()) if self._due else None
        if seconds is None and self._is_stuck():
            self._cancel(self.root, "it waits for a signal, and nothing here can send one", "local run")
            return
        try:
            happening = self._inbox.get(timeout=seconds)
        except Empty:
            happening = heapq.heappop(self._due).happening
        happening()

    def _is_stuck(self) -> bool:
        """Whether nothing can happen any more but what somebody sends from outside."""
        acting = any(running.acting for running in self.executions)
        return not (self._takes_signals or acting) and self._inbox.empty()

    def _later(self, seconds: float, happening: Happening, is_wanted: Callable[[], bool]) -> None:
        heapq.heappush(self._due, _Due(time.monotonic() + seconds, next(self._turns), happening, is_wanted))

    # -- executions -----------------------------------------------------------------------------------

    def _engine(self, playbook: Playbook, payload: Any, execution_id: str, *, merge: bool = False) -> Engine:
        """Raises: `WorkloadInvalid`."""
        listing = self._catalog.paths_below
        return begin(playbook, execution_id, payload, merge=merge, env=self._env, now=_now, list_catalog=listing)

    def _begin(self, running: Running) -> None:
        begin_at = self._begin_at if running is self.root else None
        self._after(running, lambda engine: engine.start(running.version, begin_at=begin_at))

    def _after(self, running: Running, happening: Callable[[Engine], object]) -> None:
        """Let something happen to an execution, and do what it asks for then."""
        engine = running.engine
        was_over = engine.is_over
        happening(engine)
        news = engine.take_news()
        self._stop_actions(running, news.closed)
        for closed in news.closed:
            self._cancel_child(running, closed)
        for job in news.jobs:
            self._act(running, job, 1)
        for timer in news.timers:
            self._set_timer(running, timer)
        for child in news.children:
            self._start_child(running, child)
        self._on_change(running)
        if engine.is_over and not was_over and running.parent is not None and running.asked is not None:
            self._answer_parent(running, running.parent, running.asked)

    def _answer_parent(self, child: Running, parent: Running, asked: StartChild) -> None:
        engine = child.engine
        try:
            result = engine.answer(asked.answer) if engine.status == "completed" else None
            told = child_outcome(engine.execution_id, engine.status, result, engine.error)
        except ExecutionError as error:
            told = child_not_started(error.code, f"the child's answer cannot be given: {error}")
        self._after(parent, lambda parent_engine: parent_engine.end_child(asked, **told))

    def _start_child(self, parent: Running, asked: StartChild) -> None:
        try:
            found = self._catalog.find(asked.path, asked.version)
            engine = self._engine(found.playbook, asked.payload, new_execution_id())
        except (CatalogError, ExecutionError) as error:
            told = child_not_started(error.code, str(error))
            self._inbox.put(lambda: self._after(parent, lambda engine: engine.end_child(asked, **told)))
            return
        child = Running(engine, found.playbook.path, found.version, parent, asked)
        self.executions.append(child)
        self._after(parent, lambda own: own.tell_child(asked, engine.execution_id, child.path, child.version))
        self._inbox.put(lambda: self._begin(child))

    def _cancel_child(self, parent: Running, node_id: str) -> None:
        for running in self.executions:
            if running.parent is parent and running.asked is not None and running.asked.node_id == node_id:
                self._cancel(running, "its parent no longer waits for it", "parent")

    def _cancel(self, running: Running, reason: str, by: str) -> None:
        self._after(running, lambda engine: engine.cancel(reason, by))

    def _set_timer(self, running: Running, timer: SetTimer) -> None:
        timers, place = running.engine.timers, (timer.node_id, timer.kind)
        fire = partial(self._after, running, lambda engine: engine.fire(timer))
        self._later(_seconds_of(timer), fire, lambda: timers.get(place) is timer)

    # -- actions --------------------------------------------------------------------------------------

    def _act(self, running: Running, job: EnqueueJob, attempt: int) -> None:
        stop = running.acting[job.node_id] = Flag()
        self._pool.submit(self._perform, running, job, attempt, stop)

    def _perform(self, running: Running, job: EnqueueJob, attempt: int, stop: Flag) -> None:
        """Run an action, in a thread of the pool, and tell the owner of the executions how it ended."""
        begun_at, leased_at = time.monotonic(), _now()
        if stop.is_set():
            outcome = Outcome("error", code=CANCELLED, message="called off before it began")
        else:
            request = _request(running, job, attempt)
            outcome = run_action(
                self._kinds, request, Lent(self._files, stop, self._credentials.resolve), job.action.get("secrets")
            )
        seconds = time.monotonic() - begun_at
        self._inbox.put(lambda: self._performed(running, job, attempt, leased_at, outcome, seconds))

    def _performed(
        self, running: Running, job: EnqueueJob, attempt: int, leased_at: str, outcome: Outcome, seconds: float
    ) -> None:
        stopped = running.acting.pop(job.node_id).is_set()
        if stopped and outcome.code == CANCELLED:
            return
        said = ActionOutcome(**outcome_fields(outcome, seconds))
        meta = {"attempt": attempt, "worker_id": f"local:{os.getpid()}"}

        def report(engine: Engine) -> None:
            delay = engine.report(job, said, meta, leased_at)
            if delay is not None:
                again = partial(self._act, running, job, attempt + 1)
                self._later(delay, again, lambda: engine.jobs.get(job.node_id) is job)

        self._after(running, report)

    def _stop_actions(self, running: Running, node_ids: list[str]) -> None:
        for node_id in node_ids:
            if (stop := running.acting.get(node_id)) is not None:
                stop.set()


def _request(running: Running, job: EnqueueJob, attempt: int) -> ActionRequest:
    return ActionRequest(
        kind=job.kind,
        arguments=job.action["arguments"],
        inputs=job.action["inputs"],
        execution_id=running.engine.execution_id,
        node_id=job.node_id,
        step=job.step,
        attempt=attempt,
        effect_key=job.node_id,
        timeout_seconds=job.timeout_seconds or DEFAULT_TIMEOUT_SECONDS,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _seconds_of(timer: SetTimer) -> float:
    """How long a timer has still to run."""
    if timer.seconds is not None:
        return timer.seconds
    return (datetime.fromisoformat(timer.until or _now()) - datetime.now(UTC)).total_seconds()
