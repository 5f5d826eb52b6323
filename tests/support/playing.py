"""The ways of running a playbook of the corpus. Each gives what came of it in one form, a `Told`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Timer
from typing import Any, Final

from django.conf import settings

from catalog.api import Playbook, PlaybookInvalid, validate_text
from executions.api import ExecutionError
from executions.domain import events as ev
from executions.domain.engine import Engine
from executions.domain.fold import replay
from executions.domain.frames import encode_frame
from executions.domain.state import encode
from executors.contract import ActionKind
from executors.local import LocalCatalog, LocalRun
from executors.local.run import Running
from executors.registry import build_registry
from noetl_site.environment import values_for_templates
from tests.support.corpus import Case, Happening, Told, node_of, with_api
from tests.support.kinds import settings_with
from tests.support.lending import credentials_of, secrets_around

ENVIRONMENT: Final = {"PLAYBOOK_REGION": "north", "PLAYBOOK_PASSWORD": "n0t-t0ld"}
"""What templates may read of it."""
ENV: Final = values_for_templates(ENVIRONMENT, ENVIRONMENT)
"""What `env` holds in every way."""
AT_ONCE: Final = 4
MOST_SECONDS: Final = 40
"""How long a run may take."""
OUTSIDE: Final = ev.OUTCOMES | {
    *(ev.EXECUTION_START, ev.ACTION_STARTED, ev.ACTION_RETRY, ev.CHILD_STARTED, ev.TIMER_FIRED, ev.SIGNAL_RECEIVED),
    *(ev.EXECUTION_PAUSED, ev.EXECUTION_RESUMED, ev.CANCEL_REQUESTED, ev.LATE_RESULT, ev.LEASE_LOST, ev.ANNOTATION),
}
"""Events that are brought to the planner; all others it decides."""


# -- with no server ----------------------------------------------------------------------------------


def play_locally(cases: Iterable[Case], api: str) -> dict[str, Told | BaseException]:
    """What came of every case in this process, by its name."""
    kinds = build_registry(settings_with(NOETL_HTTP_ALLOWED_NETWORKS=("127.0.0.0/8",), NOETL_SHELL=True))
    try:
        with secrets_around(), ThreadPoolExecutor(AT_ONCE) as pool:
            plays = {case.name: pool.submit(_play_one, case, api, kinds) for case in cases}
            return {name: play.exception() or play.result() for name, play in plays.items()}
    finally:
        for kind in kinds.values():
            kind.close()


def _play_one(case: Case, api: str, kinds: Mapping[str, ActionKind]) -> Told:
    catalog = _catalog_of(case)
    try:
        found = catalog.add_text(case.text, case.name)
    except PlaybookInvalid as error:
        raise AssertionError("\n".join(problem.told_of(case.name) for problem in error.problems)) from None
    told = Told(warnings=[problem.code for _, problem in catalog.warnings])
    acting = Acting(list(case.happenings))
    try:
        run = LocalRun(
            found.playbook,
            with_api(case.expected.get("payload"), api),
            kinds=kinds,
            catalog=catalog,
            credentials=credentials_of(case.credentials, Path(settings.NOETL_DATA_DIR)),
            env=ENV,
            merge=bool(case.expected.get("merge")),
            takes_signals=bool(case.happenings),
            on_change=lambda running: acting.look(run, running),
        )
        with _limited(run):
            engine = run.run()
    except ExecutionError as error:
        told.refused = error.code
        return told
    told.execution_id, told.status = engine.execution_id, engine.status
    told.result, told.error = engine.result, engine.error
    told.log, told.times = list(engine.log), engine.log.times
    state = engine.state
    told.state, told.frames = encode(state), {key: encode_frame(state.frames[key]) for key in state.frames if key}
    told.runs = [_run_of(running) for running in run.executions[1:]]
    return told


@contextmanager
def _limited(run: LocalRun) -> Iterator[None]:
    """Cancel a run that takes too long, `finally` included: what it waits for may never come."""

    def give_up() -> None:
        for _ in range(2):
            run.cancel("it takes too long", "test")

    timer = Timer(MOST_SECONDS, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _catalog_of(case: Case) -> LocalCatalog:
    """A catalog with the children of a case."""
    catalog = LocalCatalog()
    for place, child in enumerate(case.children):
        catalog.add_text(child, f"child {place}")
    catalog.warnings.clear()
    return catalog


def _run_of(running: Running) -> dict[str, Any]:
    engine = running.engine
    return {"path": running.path, "status": engine.status, "result": engine.result, "error": engine.error}


@dataclass(slots=True)
class Acting:
    """Does what a case says is done to it, as the events come that it waits for."""

    happenings: list[Happening]
    _read: int = field(default=0)

    def look(self, run: LocalRun, running: Running) -> None:
        """An execution has changed."""
        if running is not run.root:
            return
        engine = running.engine
        while self.happenings and self._read < len(engine.log):
            event = engine.log.events[self._read]
            self._read += 1
            wanted = self.happenings[0]
            if event.type == wanted.after and node_of(engine.execution_id, event) == wanted.at:
                do_locally(run, self.happenings.pop(0))


def do_locally(run: LocalRun, happening: Happening) -> None:
    """Do something to a local run's root execution."""
    if happening.refused:
        return
    match happening.do:
        case "signal":
            run.signal(happening.name, happening.data)
        case "approve" | "reject":
            answer = {"approved": happening.do == "approve", "by": happening.by, "answer": happening.data or {}}
            run.signal("", answer, node_id=f"{run.root.engine.execution_id}:{happening.place}")
        case "pause":
            _happen(run, ev.EXECUTION_PAUSED)
        case "resume":
            _happen(run, ev.EXECUTION_RESUMED)
        case "cancel":
            run.cancel("the corpus says so", "test")
        case _:
            raise ValueError(f"what is {happening.do!r}?")


def _happen(run: LocalRun, type_: str) -> None:
    # A local run has no pause of its own: nobody is there to ask for it.
    run._inbox.put(lambda: run._after(run.root, lambda engine: engine.happen(type_)))


# -- once more from the log --------------------------------------------------------------------------


def play_again(cases: Iterable[Case], told: Mapping[str, Told | BaseException]) -> dict[str, Told | BaseException]:
    """What comes of every case from its log alone: folded, and its recorded outcomes planned once more."""
    again: dict[str, Told | BaseException] = {}
    for case in cases:
        before = told[case.name]
        try:
            again[case.name] = before if isinstance(before, BaseException) else _again(case, before)
        except Exception as error:
            # Told by the test of this case; the others are replayed all the same.
            again[case.name] = error
    return again


def _again(case: Case, before: Told) -> Told:
    if before.refused:
        return before
    playbook, _ = validate_text(case.text)
    assert playbook is not None
    kept = [event for event in before.log if event.seq <= before.state["seq"]]
    folded = replay(kept, playbook)
    assert encode(folded) == before.state
    assert {key: encode_frame(folded.frames[key]) for key in folded.frames if key} == before.frames
    engine = plan_again(playbook, before, _catalog_of(case).paths_below)
    assert list(engine.log) == before.log
    return replace(before, status=engine.status, result=engine.result, error=engine.error, log=list(engine.log))


def plan_again(playbook: Playbook, before: Told, list_catalog: Callable[[str], list[str]]) -> Engine:
    """The planner is brought what was brought to it before, in the same order and at the same times."""
    log, place = before.log, 0
    workload = log[0].context["workload"]
    engine = Engine(
        playbook, log[0].node_id, workload, env=ENV, now=lambda: before.times[place], list_catalog=list_catalog
    )
    while place < len(log):
        beginning = place
        while place < len(log) and log[place].type in OUTSIDE:
            place += 1
        news = log[beginning:place]
        assert news, f"the planner wrote no more before {log[place]}"
        place = min(place, len(log) - 1)
        engine.take(*news)
        place = len(engine.log)
    return engine
