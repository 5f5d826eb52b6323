"""A run with no server: the engine in memory, real actions in threads of this process, real time by waiting.

One thread owns the executions and does nothing but take in what has happened; actions run in a bounded pool of others
and report to it. What a playbook means is the planner's matter.
"""

from __future__ import annotations

import heapq
import itertools
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event as Flag
from typing import Any, Final

from catalog.api import Playbook, PlaybookNotFound
from executions.api import (
    ActionOutcome,
    Engine,
    EnqueueJob,
    LogLine,
    SetTimer,
    StartChild,
    TemplateError,
    WorkloadInvalid,
    begin,
    child_answer_invalid,
    child_outcome,
    child_refused,
    gives_secret,
    secret_result,
)
from executors.contract import ActionKind, ActionRequest, Credential, Outcome
from executors.local.files import FIRST_VERSION, LocalCatalog, LocalCredentials
from executors.logs import MOST_BYTES, JobLog
from executors.running import CANCELLED, DEFAULT_TIMEOUT_SECONDS, Lent, outcome_fields, run_action

Happening = Callable[[], None]

NOBODY_SIGNALS: Final = "it waits for a signal, and nothing here can send one"
WAKES_EVERY_SECONDS: Final = 0.2
"""How long one wait takes at most: a signal that comes just before a wait begins does not end it, and its handler runs
only when the wait is over."""
PARENT_ENDED: Final = "the execution that started it waits for it no more"


_ids = itertools.count(time.time_ns() // 1000)


def new_execution_id() -> str:
    """An id that no other run of this machine has: targets remove doubles by the ids of nodes."""
    return str(next(_ids))


@dataclass(slots=True)
class Running:
    """An execution of this run. `acting` are the stop flags of its actions, by node; `parent` is who waits for it.

    `is_told`: the parent has heard how it ended.
    """

    engine: Engine
    path: str
    version: str
    parent: Running | None = None
    asked: StartChild | None = None
    depth: int = 0
    acting: dict[str, Flag] = field(default_factory=dict)
    is_told: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether nothing of it goes on."""
        return self.engine.is_over and not self.acting


@dataclass(order=True, slots=True)
class _Due:
    """Something that happens at a time (monotonic), unless it is no longer wanted then."""

    at: float
    turn: int
    happening: Happening = field(compare=False)
    is_wanted: Callable[[], bool] = field(compare=False)
    leads_on: bool = field(compare=False, default=True)
    """Whether the run can go on by it: that it is late changes nothing."""


class _Refused(Exception):
    """A child that cannot be started; `told` is what its parent hears."""

    def __init__(self, code: str, message: str) -> None:
        self.told = child_refused(code, message)
        super().__init__(message)


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
        max_depth: int = 16,
        takes_signals: bool = False,
        begin_at: str | None = None,
        execution_id: str | None = None,
        on_change: Callable[[Running], None] = lambda running: None,
        on_log: Callable[[Running, EnqueueJob, LogLine], None] = lambda running, job, line: None,
        log_bytes: int = MOST_BYTES,
    ) -> None:
        """`on_log` is told each line that an action prints or logs; `log_bytes` is how much of a job's it is told.

        `data_dir` is for DuckDB's files; without it they are gone with the run. `kinds` are the caller's to close.

        `takes_signals`: somebody may call `signal`; without it a run in which all else waits for one is cancelled.
        `begin_at`: a step to begin with instead of `start`.
        `max_depth`: how deep playbooks may call playbooks. Raises: `WorkloadInvalid`.
        """
        self._kinds = kinds
        self._catalog = catalog or LocalCatalog()
        self._credentials = LocalCredentials(credentials)
        self._env = dict(env or {})
        self._workers = workers
        self._data_dir = data_dir
        self._max_depth = max_depth
        self._takes_signals = takes_signals
        self._begin_at = begin_at
        self._on_change = on_change
        self._on_log = on_log
        self._log_bytes = log_bytes
        self._inbox: SimpleQueue[Happening] = SimpleQueue()
        self._due: list[_Due] = []
        self._turns = itertools.count()
        engine = self._engine(playbook, payload, execution_id or new_execution_id(), merge=merge)
        self.root = Running(engine, playbook.path, version)
        self.executions = [self.root]
        self._unfinished = {self.root.engine.execution_id: self.root}
        self._children: dict[str, Running] = {}
        self._pool: ThreadPoolExecutor
        self._files: Path

    def run(self) -> Engine:
        """Run to the end. Returns: the root execution."""
        with self._lent():
            self._after(self.root, lambda engine: engine.start(self.root.version, begin_at=self._begin_at))
            while self._unfinished:
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
                for running in self._unfinished.values():
                    self._stop_actions(running, list(running.acting))
                self._pool.shutdown(cancel_futures=True)

    def _take_in(self) -> None:
        """Wait for the next thing to happen: a report, a request, or the time that something is due at."""
        while self._due and not self._due[0].is_wanted():
            heapq.heappop(self._due)
        if self._is_stuck() and not any(due.leads_on and due.is_wanted() for due in self._due):
            for running in list(self._unfinished.values()):
                self._cancel(running, NOBODY_SIGNALS, "local run")
            return
        seconds = self._due[0].at - time.monotonic() if self._due else WAKES_EVERY_SECONDS
        try:
            happening = self._inbox.get(timeout=min(max(0.0, seconds), WAKES_EVERY_SECONDS))
        except Empty:
            if not self._due or self._due[0].at > time.monotonic():
                return
            happening = heapq.heappop(self._due).happening
        happening()

    def _is_stuck(self) -> bool:
        """Whether nothing can happen any more but what somebody sends from outside."""
        acting = any(running.acting for running in self._unfinished.values())
        return not (self._takes_signals or acting) and self._inbox.empty()

    def _later(
        self, seconds: float, happening: Happening, is_wanted: Callable[[], bool], *, leads_on: bool = True
    ) -> None:
        at = time.monotonic() + seconds
        heapq.heappush(self._due, _Due(at, next(self._turns), happening, is_wanted, leads_on))

    # -- executions -----------------------------------------------------------------------------------

    def _engine(self, playbook: Playbook, payload: Any, execution_id: str, *, merge: bool = False) -> Engine:
        """Raises: `WorkloadInvalid`."""
        listing = self._catalog.paths_below
        return begin(playbook, execution_id, payload, merge=merge, env=self._env, now=_now, list_catalog=listing)

    def _after(self, running: Running, happening: Callable[[Engine], object]) -> None:
        """Let something happen to an execution, and do what it asks for then."""
        engine = running.engine
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
        if running.is_finished:
            self._unfinished.pop(engine.execution_id, None)
        if engine.is_over and not running.is_told and running.parent is not None and running.asked is not None:
            running.is_told = True
            self._answer_parent(running, running.parent, running.asked)

    def _answer_parent(self, child: Running, parent: Running, asked: StartChild) -> None:
        engine, id_ = child.engine, child.engine.execution_id
        if engine.status != "completed":
            told = child_outcome(id_, child.path, engine.status, engine.error)
        else:
            try:
                told = {"status": "success", "result": engine.answer(asked.answer)}
            except TemplateError as problem:
                told = child_answer_invalid(id_, problem)
        self._after(parent, lambda parent_engine: parent_engine.end_child(asked, id_, **told))

    def _start_child(self, parent: Running, asked: StartChild) -> None:
        try:
            child = self._make_child(parent, asked)
        except _Refused as refused:
            told = refused.told
            self._inbox.put(lambda: self._after(parent, lambda engine: engine.end_child(asked, None, **told)))
            return
        id_ = child.engine.execution_id
        self.executions.append(child)
        self._unfinished[id_] = self._children[asked.node_id] = child
        self._after(parent, lambda engine: engine.tell_child(asked, id_, child.path, child.version))
        # Later: children that end at once would pile up on the stack.
        self._inbox.put(lambda: self._after(child, lambda engine: None))

    def _make_child(self, parent: Running, asked: StartChild) -> Running:
        """Raises: `_Refused`."""
        if parent.depth >= self._max_depth:
            raise _Refused("child_too_deep", f"playbooks call playbooks more than {self._max_depth} deep")
        try:
            found = self._catalog.find(asked.path, asked.version)
            engine = self._engine(found.playbook, asked.payload, new_execution_id())
            engine.start(found.version)
        except PlaybookNotFound as error:
            raise _Refused("child_not_found", str(error)) from None
        except WorkloadInvalid as error:
            raise _Refused(error.code, str(error)) from None
        return Running(engine, found.playbook.path, found.version, parent, asked, parent.depth + 1)

    def _cancel_child(self, parent: Running, node_id: str) -> None:
        if (child := self._children.get(node_id)) is not None:
            self._cancel(child, PARENT_ENDED, f"execution {parent.engine.execution_id}")

    def _cancel(self, running: Running, reason: str, by: str) -> None:
        self._after(running, lambda engine: engine.cancel(reason, by))

    def _set_timer(self, running: Running, timer: SetTimer) -> None:
        timers, place = running.engine.timers, (timer.node_id, timer.kind)
        seconds = _seconds_of(timer)
        due_at = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        fire = partial(self._after, running, lambda engine: engine.fire(timer, due_at))
        self._later(seconds, fire, lambda: timers.get(place) is timer, leads_on=timer.kind != "late")

    # -- actions --------------------------------------------------------------------------------------

    def _act(self, running: Running, job: EnqueueJob, attempt: int) -> None:
        stop = running.acting[job.node_id] = Flag()
        self._pool.submit(self._perform, running, job, attempt, stop)

    def _perform(self, running: Running, job: EnqueueJob, attempt: int, stop: Flag) -> None:
        """Run an action, in a thread of the pool, and tell the owner of the executions how it ended."""
        begun_at, leased_at = time.monotonic(), _now()
        log = JobLog(self._log_bytes, lambda log: self._inbox.put(lambda: self._tell_log(running, job, log)))
        if stop.is_set():
            outcome = Outcome("error", code=CANCELLED, message="called off before it began")
        else:
            request = _request(running, job, attempt)
            lent = Lent(self._files, stop, self._credentials.resolve, lines=log)
            outcome = run_action(self._kinds, request, lent, job.action)
        seconds = time.monotonic() - begun_at
        self._inbox.put(lambda: self._performed(running, job, attempt, leased_at, outcome, seconds))

    def _tell_log(self, running: Running, job: EnqueueJob, log: JobLog) -> None:
        for line in log.take():
            self._on_log(running, job, line)

    def _performed(
        self, running: Running, job: EnqueueJob, attempt: int, leased_at: str, outcome: Outcome, seconds: float
    ) -> None:
        stopped = running.acting.pop(job.node_id).is_set()
        if stopped and outcome.code == CANCELLED:
            self._after(running, lambda engine: None)
            return
        if gives_secret(job.kind):
            is_success = outcome.status == "success"
            told = secret_result(outcome.data, job.step, job.action, secrets.token_hex(12)) if is_success else None
            outcome = replace(outcome, data=told)
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
