"""The original's local broker: one step at a time, by name, with no server. A thin door on the planner and its engine.

Source: reference 8.1 to 8.6. What a step means is asked of the planner each time: it plans the step alone, with the
results of those before it played back, so a step sees the same here as in a whole run.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from catalog.api import Playbook, Step
from executions.api import Engine, begin, step_statuses
from executors.contract import ActionKind, Credential
from executors.local.cutting import ENTRY, PLAYED_BACK, PlayBack, StepEnd, cut_next, cut_out
from executors.local.files import LocalCatalog
from executors.local.run import LocalRun, new_execution_id
from executors.registry import build_registry

NextStep = tuple[str, dict[str, Any], str]
"""A step to go to, the inputs it is handed, and the condition that led there in words."""

_EVENT_FIELDS: Final = ("status", "context", "result", "error", "meta", "loop_name", "index")


class Broker:
    """One playbook, its context, and the results of the steps that were executed so far.

    Use it in a `with` block, or `close` it: action kinds keep processes warm.
    """

    def __init__(
        self,
        playbook: str | Path,
        payload: Mapping[str, Any] | None = None,
        catalog: LocalCatalog | None = None,
        *,
        credentials: Mapping[str, Credential] | None = None,
        kinds: Mapping[str, ActionKind] | None = None,
        workers: int = 2,
    ) -> None:
        """`playbook` is a text or a file's path. Raises: `PlaybookInvalid`, `WorkloadInvalid`."""
        self._catalog = catalog or LocalCatalog()
        text, source = _text_of(playbook)
        self._found = self._catalog.add_text(text, source)
        self._own_kinds = {} if kinds is not None else build_registry(settings)
        self._kinds = {**(kinds or self._own_kinds), PLAYED_BACK: PlayBack()}
        self._credentials = credentials
        self._workers = workers
        self._env = settings.NOETL_TEMPLATE_ENV_VALUES
        self.execution_id = new_execution_id()
        # The steps of one execution share their DuckDB files.
        self._files = tempfile.TemporaryDirectory(prefix="noetl-local-")
        first = begin(self._playbook, self.execution_id, payload, env=self._env)
        self._payload = dict(payload or {})
        self._workload = dict(first.workload)
        self._extra: dict[str, Any] = {}
        self._ends: dict[str, StepEnd] = {}
        self.events: list[dict[str, Any]] = []
        self.transitions: list[tuple[str, str, str, str, str]] = []

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release what the action kinds keep warm."""
        for kind in self._own_kinds.values():
            kind.close()
        self._files.cleanup()

    # -- looking ----------------------------------------------------------------------------------------

    @property
    def _playbook(self) -> Playbook:
        return self._found.playbook

    @property
    def playbook(self) -> dict[str, Any]:
        """The playbook in its one internal form."""
        return self._playbook.model_dump(mode="json")

    def find_step(self, name: str) -> dict[str, Any] | None:
        """A step in its internal form."""
        return self._step(name).model_dump(mode="json") if name in self._playbook.index_by_name else None

    def find_task(self, name: str) -> dict[str, Any] | None:
        """The action that steps take from the workbook's task of this name."""
        actions = (step.action for step in self._playbook.steps)
        return next((action.model_dump(mode="json") for action in actions if action and action.task == name), None)

    def get_context(self) -> dict[str, Any]:
        """The workload, what was added to it, and the steps' results: `STEP`, `STEP.data`, `STEP.status`, ..."""
        context: dict[str, Any] = {**self._workload, **self._extra, "workload": self._workload}
        for name, end in self._ends.items():
            told = {name: end.data, f"{name}.data": end.data, f"{name}.result": end.data, f"{name}.status": end.status}
            context |= told | {"result": end.data}
            if end.error is not None:
                context[f"{name}.error"] = end.error
        return context

    def update_context(self, key: str, value: Any) -> None:
        """Add a name that later steps see, below the results of steps."""
        self._extra[key] = value

    def get_step_results(self) -> dict[str, Any]:
        """Step name -> data, in the order of their ends."""
        return {name: end.data for name, end in self._ends.items()}

    def get_loop_results(self, name: str) -> list[Any]:
        """The results of a loop's items, in the order of the items; none before it ran."""
        end = self._ends.get(name)
        found: list[Any] = end.data["results"] if end is not None and isinstance(end.data, dict) else []
        return found

    # -- telling ----------------------------------------------------------------------------------------

    def log_event(self, event_type: str, node_id: str, node_name: str, **fields: Any) -> str:
        """Keep an event. Returns: its id."""
        event_id = f"{self.execution_id}.{len(self.events) + 1}"
        told = {"event_id": event_id, "event_type": event_type, "node_id": node_id, "node_name": node_name}
        self.events.append({**told, **fields})
        return event_id

    def save_step_result(self, name: str, status: str, data: Any, error: Any = None) -> None:
        """Take a result for a step's, as if it had been executed."""
        self._ends.pop(name, None)
        self._ends[name] = StepEnd(status, data, error)

    def store_transition(self, transition: tuple[str, str, str, str, str]) -> None:
        """Keep `(execution id, from, to, condition, inputs as JSON)`."""
        self.transitions.append(transition)

    def export_execution_data(self, file: str | Path) -> None:
        """Write results, events and transitions into a file, as JSON."""
        told = {
            "execution_id": self.execution_id,
            "playbook": self._playbook.path,
            "context": self.get_context(),
            "results": self.get_step_results(),
            "events": self.events,
            "transitions": self.transitions,
        }
        Path(file).write_text(json.dumps(told, indent=2, default=str), encoding="utf-8")

    # -- running ----------------------------------------------------------------------------------------

    def execute_step(self, step_name: str, step_with: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Execute one step; `step_with` is rendered and handed to it. Returns: `{id, status, data, ...}`.

        `error` is there when it failed. A skipped step has succeeded, with a message for its data and in `next_step`
        where it leads.
        """
        if step_name not in self._playbook.index_by_name:
            error = {"code": "unknown_step", "message": f"the playbook has no step {step_name!r}"}
            self.log_event("step_error", f"{self.execution_id}:{step_name}", step_name, status="error", error=error)
            return {"id": f"{self.execution_id}:{step_name}", "status": "error", "data": None, "error": error}
        step = self._step(step_name)
        if step.end_loop is None and step.loop is not None and step.loop.end is not None:
            return self.execute_loop_step(step_name)
        end, node_id = self._execute(step_name, step_with or {})
        answer = {"id": node_id, "status": end.status, "data": end.data}
        if end.status == "skipped":
            message = f"step {step_name} was skipped"
            answer |= {"status": "success", "data": {"message": message}, "next_step": _written_targets(step)}
        if end.error is not None:
            answer["error"] = end.error
        return answer

    def execute_loop_step(self, step: str | Mapping[str, Any]) -> dict[str, Any]:
        """Execute a loop with its body. Returns: `{id, status, data: [results], error?, next_step?}`.

        `next_step` is the step that closes the loop.
        """
        name = _name_of(step)
        end, node_id = self._execute(name, {})
        loop = self._step(name).loop
        answer: dict[str, Any] = {"id": node_id, "status": end.status, "data": self.get_loop_results(name)}
        if end.error is not None:
            answer["error"] = end.error
        if loop is not None and loop.end is not None:
            self._extra[f"{name}_results"] = answer["data"]
            answer["next_step"] = loop.end
        return answer

    def end_loop_step(self, step: str | Mapping[str, Any]) -> dict[str, Any]:
        """Execute the step that closes a loop: its `result`, whose keys are names of their own afterwards.

        Returns: `{id, status, data, error?}`; an error when its loop has not been executed.
        """
        name = _name_of(step)
        loop = self._step(name).end_loop
        if loop is None or loop not in self._ends:
            error = {"code": "unknown_loop", "message": f"step {name!r} closes no loop that was executed"}
            return {"id": f"{self.execution_id}:{name}", "status": "error", "data": None, "error": error}
        answer = self.execute_step(name)
        if isinstance(answer["data"], dict):
            self._extra |= answer["data"]
        return answer

    def get_next_steps(self, step: str | Mapping[str, Any]) -> list[NextStep]:
        """Where a step leads, by its result and the results so far; nowhere when its failure is not handled.

        A loop over several steps leads to the step that closes it: its body was executed with it.
        """
        name = _name_of(step)
        loop = self._step(name).loop
        if loop is not None and loop.end is not None:
            return [(loop.end, {}, "")]
        engine = self._run(cut_next(self._playbook, name, self._ends))
        for event in engine.log:
            if event.type == "transition_evaluated" and event.node_name == name:
                return _next_steps(event.context)
        return []

    def run(self, mlflow: bool = False) -> Any:
        """Run the whole playbook. Returns: its result, or the results of all steps when it has none.

        Raises: `ValueError` for `mlflow`: nothing here recommends steps.
        """
        if mlflow:
            raise ValueError("there is no recommender of steps; run(mlflow=False) follows the playbook")
        engine = self._local_run(self._playbook, self._payload).run()
        book = self._playbook
        # A step of a loop's body has a result per item, and they are the loop's.
        own = {step.name for index, step in enumerate(book.steps) if not book.enclosing[index]}
        self._keep(engine, set(book.index_by_name), own)
        return engine.result if engine.result is not None else self.get_step_results()

    # -- the engine -------------------------------------------------------------------------------------

    def _step(self, name: str) -> Step:
        return self._playbook.steps[self._playbook.index_by_name[name]]

    def _execute(self, name: str, inputs: Mapping[str, Any]) -> tuple[StepEnd, str]:
        """Run one step after those before it. Returns: how it ended, and its node."""
        cut = cut_out(self._playbook, name, self._ends, inputs)
        engine = self._run(cut)
        for event in engine.log:
            if event.type == "transition_evaluated" and event.node_name == ENTRY:
                # What a step was handed is seen by those after it, too.
                self._extra |= event.context["taken"][0]["inputs"]
        self._keep(engine, {step.name for step in cut.steps} - {ENTRY, *self._ends} | {name}, {name})
        return self._ends[name], f"{self.execution_id}:{name}"

    def _run(self, cut: Playbook) -> Engine:
        seen = {**self._workload, **self._extra}
        seen.pop("steps_override", None)
        return self._local_run(cut, seen, begin_at=cut.steps[0].name).run()

    def _local_run(self, playbook: Playbook, payload: Mapping[str, Any], begin_at: str | None = None) -> LocalRun:
        return LocalRun(
            playbook,
            payload,
            kinds=self._kinds,
            catalog=self._catalog,
            credentials=self._credentials,
            env=self._env,
            workers=self._workers,
            version=self._found.version,
            data_dir=Path(self._files.name),
            begin_at=begin_at,
            execution_id=self.execution_id,
        )

    def _keep(self, engine: Engine, told: set[str], results_of: set[str]) -> None:
        """Take over what a run told of these steps, and how these ended."""
        for event in engine.log:
            if event.node_name in told and event.node_type != "playbook":
                fields = ("status", "context", "result", "error", "meta", "loop_name", "index")
                self.log_event(
                    event.type, event.node_id, event.node_name, **{name: getattr(event, name) for name in fields}
                )
        errors = {event.node_name: event.error for event in engine.log if event.type == "step_failed"}
        for name, status in step_statuses(engine.log).items():
            if name in results_of:
                failed = status not in ("success", "skipped")
                error = errors.get(name, engine.error) if failed else None
                self.save_step_result(name, "error" if failed else status, engine.answer(name), error)


def _text_of(playbook: str | Path) -> tuple[str, str]:
    """A playbook's text and the name it has in problems."""
    if isinstance(playbook, str) and "\n" in playbook:
        return playbook, "playbook"
    return Path(playbook).read_text(encoding="utf-8"), str(playbook)


def _name_of(step: str | Mapping[str, Any]) -> str:
    """A step's name, given as itself or as the step's configuration."""
    return step if isinstance(step, str) else str(step.get("step") or step.get("name"))


def _written_targets(step: Step) -> list[str]:
    return [target.step for item in step.next for target in (*item.then, *item.otherwise)]


def _next_steps(context: Mapping[str, Any]) -> list[NextStep]:
    inputs = {item["step"]: item["inputs"] for item in context["taken"]}
    steps = []
    for item in context["items"]:
        truth = str(item.get("truth")).lower()
        condition = f"when: {item['expression']} ({truth})" if item["kind"] == "condition" else ""
        steps += [(name, inputs.get(name, {}), condition) for name in item["taken"]]
    return steps
