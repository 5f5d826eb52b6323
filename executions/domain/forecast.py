"""What a playbook would run, told without running anything: the dry run.

What starts at once is planned by the planner itself. What comes after it depends on results, so that is read off the
graph: who leads to a step, under which condition, and as much of its action as reads nothing but the workload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from catalog.domain.drawing import kind_of, ways_from
from catalog.domain.playbook import Playbook, Step
from catalog.domain.template_syntax import is_template, names_read
from executions.domain.engine import begin
from executions.domain.memory import step_statuses
from executions.domain.results import MISSING
from executions.domain.sqltext import render_sql
from executions.domain.templating import Lookup, render
from executions.errors import TemplateError

EXECUTION_ID: Final = "dry-run"
SHOWN_ITEMS: Final = 3
_KNOWN: Final = frozenset({"workload", "work", "context", "env", "path"})


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that depends on what steps will give: the template, and the names in it that are not known yet."""

    template: Any
    reads: tuple[str, ...]


@dataclass(slots=True)
class Forecast:
    """One step. `work` is what it does, with `Unknown` where a value depends on results.

    `status` is that of a step that starts at once (`running` when it has work to do), else empty. `reached` tells who
    leads to it and when. `items` counts the items of a loop that starts at once, whose first works are in
    `rendered`.
    """

    name: str
    kind: str
    status: str = ""
    reached: list[str] = field(default_factory=list)
    work: dict[str, Any] = field(default_factory=dict)
    rendered: list[dict[str, Any]] = field(default_factory=list)
    items: int | None = None


def forecast(playbook: Playbook, payload: Any, env: Mapping[str, str], *, merge: bool = False) -> list[Forecast]:
    """The steps in the order that they could start in. Raises: `WorkloadInvalid`."""
    engine = begin(playbook, EXECUTION_ID, payload, merge=merge, env=env)
    engine.start()
    statuses = step_statuses(engine.log)
    works: dict[str, list[dict[str, Any]]] = {}
    for job in engine.jobs.values():
        works.setdefault(job.step, []).append(job.action)
    for child in engine.children.values():
        told = {"path": child.path, "version": child.version, "payload": child.payload}
        works.setdefault(child.step, []).append(told)
    counts = {event.node_name: event.context["count"] for event in engine.log if event.type == "loop_start"}
    reached = _ways_to(playbook)
    lookup = _names(engine.workload, env, playbook.path)
    unknown = _names_to_come(playbook)
    return [
        Forecast(
            name=step.name,
            kind=kind_of(step),
            status=statuses.get(step.name, ""),
            reached=reached.get(step.name, []),
            work=_work_of(step, lookup, unknown),
            rendered=works.get(step.name, [])[:SHOWN_ITEMS],
            items=counts.get(step.name),
        )
        for step in _in_order(playbook)
    ]


# -- the graph ---------------------------------------------------------------------------------------


def _ways_to(playbook: Playbook) -> dict[str, list[str]]:
    reached: dict[str, list[str]] = {"start": ["at the beginning"]}
    for step in playbook.steps:
        for way in ways_from(step):
            told = f"{way.condition}, after {step.name}" if way.condition else f"after {step.name}"
            reached.setdefault(way.target.step, []).append(told)
    for target in playbook.on_error:
        reached.setdefault(target.step, []).append("on error of a step that does not handle it")
    for name in playbook.finally_steps:
        reached.setdefault(name, []).append("finally, however it ends")
    for step in playbook.steps:
        if step.notice is not None:
            reached[step.name] = [f"on {occasion}" for occasion in step.notice.on]
    if "end" in playbook.index_by_name:
        reached.setdefault("end", ["when nothing else is left to run"])
    return reached


def _in_order(playbook: Playbook) -> list[Step]:
    """Every step after all that lead to it, as far as there is no cycle; in file order among equals."""
    places = range(len(playbook.steps))
    return [playbook.steps[at] for at in sorted(places, key=lambda at: (playbook.ancestors[at].bit_count(), at))]


# -- values ------------------------------------------------------------------------------------------


def _names(workload: Mapping[str, Any], env: Mapping[str, str], path: str) -> Lookup:
    fixed = {"workload": workload, "work": workload, "context": workload, "env": env, "path": path}
    return lambda name: fixed[name] if name in fixed else workload.get(name, MISSING)


def _names_to_come(playbook: Playbook) -> frozenset[str]:
    """Names that only the running execution has: steps, inputs handed on, items, keys of a loop's end."""
    names = set(playbook.index_by_name)
    for step in playbook.steps:
        names.update(*(way.target.inputs for way in ways_from(step)))
        if step.loop is not None:
            names.add(step.loop.element)
        if step.end_loop is not None and isinstance(step.result, Mapping):
            names.update(step.result)
    return frozenset(names)


def _work_of(step: Step, lookup: Lookup, to_come: frozenset[str]) -> dict[str, Any]:
    work: dict[str, Any] = {}
    own = frozenset(step.inputs) | to_come
    if step.loop is not None:
        work["loop"] = _value(step.loop.items if step.loop.items_under is None else step.loop.items_under, lookup, own)
    if step.inputs:
        work["inputs"] = {key: _value(value, lookup, to_come) for key, value in step.inputs.items()}
    if step.action is not None:
        for key, value in step.action.arguments.items():
            if key in step.action.verbatim:
                work[key] = value
            else:
                work[key] = _value(value, lookup, own, sql=key in step.action.sql)
    if step.child is not None:
        work["path"] = _value(step.child.path, lookup, own)
    for key, save in (("save", step.save), ("save per item", step.loop.save if step.loop is not None else None)):
        if save is not None:
            work[key] = save.action.arguments
    if step.wait is not None:
        work["wait"] = _value(step.wait.what, lookup, own)
    if step.result is not None:
        work["result"] = _value(step.result, lookup, own)
    for key, condition in (("skipped if", step.skip_if), ("runs if", step.run_if)):
        if condition is not None:
            work[key] = _value(condition, lookup, own)
    return work


def _value(value: Any, lookup: Lookup, to_come: frozenset[str], *, sql: bool = False) -> Any:
    """The value rendered, part by part; what reads a name that is not known yet stays as it is written."""
    if isinstance(value, Mapping):
        return {key: _value(item, lookup, to_come, sql=sql) for key, item in value.items()}
    if isinstance(value, list):
        return [_value(item, lookup, to_come, sql=sql) for item in value]
    if not isinstance(value, str) or not is_template(value):
        return value
    missing = sorted(name for name in names_read(value) if name in to_come or not _is_known(name, lookup))
    if missing:
        return Unknown(value, tuple(missing))
    try:
        return render_sql(value, lookup) if sql else render(value, lookup)
    except TemplateError as error:
        return Unknown(value, (str(error),))


def _is_known(name: str, lookup: Lookup) -> bool:
    return name in _KNOWN or lookup(name) is not MISSING
