"""`run --local`: a playbook's file with no server, told the way `run` tells of an execution on one."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Timer
from typing import IO, Any

from django.conf import settings
from django.core.management.base import CommandError, OutputWrapper
from rich.console import Console
from rich.live import Live

from executions.api import OUTCOMES, EnqueueJob, Event, ExecutionView, LogLine, StepView, step_statuses, told_line
from executors.local import LocalCatalog, LocalRun, read_credentials
from executors.local.run import Running
from executors.management.following import Lines, print_line, steps_table
from executors.registry import build_registry

SHOWN_EVERY_SECONDS = 0.1
TellLine = Callable[[Running, EnqueueJob, LogLine], None]


@dataclass(frozen=True, slots=True)
class LocalEnd:
    """How a local run ended. `timed_out`: the time to wait for it was over, and it was cancelled."""

    execution: ExecutionView
    steps: list[StepView]
    timed_out: bool


def run_locally(
    file: str, text: str, payload: dict[str, Any], options: Mapping[str, Any], stderr: OutputWrapper
) -> LocalEnd:
    """Run a playbook's text to its end. Ctrl-C asks for the end, again skips `finally`, a third time leaves at once.

    Raises: `PlaybookInvalid`, `WorkloadInvalid`, `CredentialsUnreadable`, `CommandError`; nothing has run then.
    """
    catalog = _catalog(options["catalog"])
    found = catalog.add_text(text, file)
    for source, problem in catalog.warnings:
        stderr.write(problem.told_of(source))
    credentials = read_credentials(Path(options["credentials"])) if options["credentials"] else {}
    kinds = build_registry(settings)
    try:
        with _watching(options["watch"]) as (tell, tell_line):
            run = LocalRun(
                found.playbook,
                payload,
                kinds=kinds,
                catalog=catalog,
                credentials=credentials,
                env=settings.NOETL_TEMPLATE_ENV_VALUES,
                workers=options["workers"],
                merge=options["merge"],
                version=found.version,
                on_change=tell,
                on_log=tell_line,
                log_bytes=settings.NOETL_LOG_BYTES_PER_JOB,
            )
            with _interruptible(run, stderr), _limited(run, options["timeout"]) as limit:
                run.run()
            tell(run.root)
    finally:
        for kind in kinds.values():
            kind.close()
    if options["events"]:
        with Path(options["events"]).open("w", encoding="utf-8") as target:
            _write_events(run, target)
    return LocalEnd(
        _view_of(run.root),
        Progress(run.root).steps(),
        timed_out=limit.is_over and run.root.engine.status == "cancelled",
    )


def _catalog(folder: str | None) -> LocalCatalog:
    if folder is None:
        return LocalCatalog()
    if not Path(folder).is_dir():
        raise CommandError(f"there is no folder {folder}", returncode=4)
    return LocalCatalog.of_folder(Path(folder))


@contextmanager
def _interruptible(run: LocalRun, stderr: OutputWrapper) -> Iterator[None]:
    pressed = 0

    def interrupt(*_: Any) -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 2:
            raise KeyboardInterrupt
        run.cancel("interrupted", "manage.py")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            stderr.write("interrupted: the execution was asked to end")


@dataclass(slots=True)
class _Limit:
    is_over: bool = False


@contextmanager
def _limited(run: LocalRun, seconds: float | None) -> Iterator[_Limit]:
    """Cancel the run when it takes longer: nobody else would go on with it."""
    limit = _Limit()
    if seconds is None:
        yield limit
        return

    def stop() -> None:
        limit.is_over = True
        run.cancel("the wait timed out", "manage.py")

    timer = Timer(seconds, stop)
    timer.start()
    try:
        yield limit
    finally:
        timer.cancel()


# -- telling -----------------------------------------------------------------------------------------


@contextmanager
def _watching(watch: bool) -> Iterator[tuple[Callable[[Running], None], TellLine]]:
    """Functions that tell of a change, and of a line that an action logs, on stderr.

    A change is told when it is watched: in a live table on a terminal, else as a line per change of a step.
    """
    console = Console(stderr=True, highlight=False)

    def tell_line(running: Running, job: EnqueueJob, line: LogLine) -> None:
        print_line(console, told_line(job.node_id, line.level, line.text))

    if not watch:
        yield lambda running: None, tell_line
    elif not console.is_terminal:
        yield _Teller(Lines(console), 0).tell, tell_line
    else:
        with Live(console=console, refresh_per_second=10, transient=False) as live:
            show = _Teller(lambda view, steps: live.update(steps_table(view, steps)), SHOWN_EVERY_SECONDS)
            yield show.tell, tell_line


class _Teller:
    """Shows the root execution, not more often than so, but always its end."""

    def __init__(self, show: Callable[[ExecutionView, list[StepView]], None], every_seconds: float) -> None:
        self._show = show
        self._every_seconds = every_seconds
        self._shown_at = -every_seconds
        self._progress: Progress | None = None

    def tell(self, running: Running) -> None:
        """Something has changed."""
        if running.parent is not None:
            return
        now = time.monotonic()
        if now - self._shown_at < self._every_seconds and not running.engine.is_over:
            return
        self._shown_at = now
        self._progress = self._progress or Progress(running)
        self._show(_view_of(running), self._progress.steps())


@dataclass(slots=True)
class Progress:
    """The steps of an execution in memory; reads only the events that are new since it was asked last."""

    running: Running
    _steps: dict[str, StepView] = field(default_factory=dict)
    _read: int = 0

    def steps(self) -> list[StepView]:
        """The newest visit of each step, in the order of the first."""
        log = self.running.engine.log
        for place in range(self._read, len(log)):
            self._tell(log.events[place], datetime.fromisoformat(log.times[place]))
        self._read = len(log)
        for step in self._steps.values():
            if self.running.engine.is_over and step.status == "running":
                # Its execution ended first: it was called off.
                step.status = "cancelled"
        return list(self._steps.values())

    def _tell(self, event: Event, at: datetime) -> None:
        step = self._steps.get(event.node_name)
        status = step_statuses([event]).get(event.node_name)
        if status in ("running", "skipped"):
            step = self._steps[event.node_name] = StepView(event.node_name, event.node_id, str(status), at)
        if step is None:
            return
        if status not in (None, "running"):
            step.status, step.ended_at, step.error = str(status), at, event.error
        elif event.type == "loop_start":
            step.items = (0, 0, event.context["count"])
        elif event.index is not None and step.items is not None and _ends_item(event):
            done, failed, total = step.items
            well = event.status == "success"
            step.items = (done + well, failed + (not well), total)


def _ends_item(event: Event) -> bool:
    return event.type in OUTCOMES or event.type == "loop_iteration_completed"


def _view_of(running: Running) -> ExecutionView:
    engine = running.engine
    times = [datetime.fromisoformat(at) for at in (engine.log.times[0], engine.log.times[-1])]
    return ExecutionView(
        id=engine.execution_id,
        path=running.path,
        version=running.version,
        playbook_name=engine.playbook.name,
        status=engine.status,
        progress=100 if engine.status == "completed" else 0,
        parent_execution_id=None,
        rerun_of=None,
        workload=engine.workload,
        result=engine.result,
        error=engine.error,
        created_at=times[0],
        started_at=times[0],
        ended_at=times[1] if engine.is_over else None,
    )


def _write_events(run: LocalRun, target: IO[str]) -> None:
    """The events of the execution and then of its children, a JSON document per line."""
    for running in run.executions:
        log = running.engine.log
        for event, at in zip(log.events, log.times, strict=True):
            target.write(json.dumps(_event_json(running.engine.execution_id, event, at)) + "\n")


def _event_json(execution_id: str, event: Event, at: str) -> dict[str, Any]:
    """An event as `executions events --json` prints it."""
    return {
        "event_id": f"{execution_id}.{event.seq}",
        "execution_id": execution_id,
        "seq": event.seq,
        "event_type": event.type,
        "node_id": event.node_id,
        "node_name": event.node_name,
        "node_type": event.node_type,
        "status": event.status,
        "timestamp": at,
        "duration": event.duration_seconds,
        "context": event.context,
        "result": event.result,
        "error": event.error,
        "stack_trace": event.traceback,
        "metadata": event.meta,
        "loop_name": event.loop_name,
        "current_index": event.index,
        "worker_id": event.worker_id,
    }
