"""What a step or a workbook task does: kind, arguments and inputs, out of all their spellings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from catalog.domain.action_schemas import KindSchema
from catalog.domain.parser import join_pointer
from catalog.domain.playbook import Action
from catalog.domain.reading import Field, Fields, Reading, Use, shown, suggestion
from catalog.domain.spelling import (
    INPUTS,
    KIND,
    KIND_NOT_SUPPORTED,
    ROUTING_KINDS,
    STEP_CONTROL,
    TASK_REFERENCE,
)
from catalog.domain.transitions import read_inputs

WORKBOOK = "workbook"


@dataclass(slots=True)
class Work:
    """An action with its inputs, as read; `uses` are the names its templates read."""

    action: Action | None = None
    inputs: Fields = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    timeout_seconds: float | None = None


def read_kind(reading: Reading, fields: Fields) -> tuple[str | None, str]:
    """The kind that is named (an action's, `workbook` or a routing kind), and the pointer of its name.

    The kind is None when none is named, and '' when it is a wrong one, which is then an error.
    """
    found = reading.one_of(fields, KIND, "the action's type")
    if found is None:
        return None, ""
    kind = reading.text(found, "`type`").strip().lower()
    if not kind:
        return None, found.pointer
    if kind in reading.schemas or kind in ROUTING_KINDS or kind == WORKBOOK:
        return kind, found.pointer
    if kind in KIND_NOT_SUPPORTED:
        reading.error("not_supported", f"the type `{kind}` {KIND_NOT_SUPPORTED[kind]}", found.pointer)
    else:
        advice = suggestion(kind, reading.schemas.kinds) or f"use one of: {', '.join(reading.schemas.kinds)}"
        reading.error("unknown_type", f"there is no action type `{shown(kind)}`; {advice}", found.pointer)
    return "", found.pointer


def merge_call(reading: Reading, fields: Fields) -> bool:
    """Lay the keys of `call` over those of the step. Returns: whether there was a `call`."""
    found = fields.pop("call", None)
    if found is None:
        return False
    inner = reading.fields(found.value, found.pointer, "`call`")
    misplaced = {name: inner.pop(name) for name in tuple(inner) if name in STEP_CONTROL.difference(KIND)}
    for name, item in misplaced.items():
        reading.error("misplaced_key", f"move `{name}` out of `call`, to the step", item.pointer, key=True)
    if any(name in inner for name in KIND):
        for name in KIND:
            fields.pop(name, None)
    fields.update(inner)
    return True


def read_arguments(reading: Reading, kind: str, fields: Fields, where: str, pointer: str) -> Work:
    """Take a kind's arguments and inputs out of the fields. `pointer` is the place of the step or task."""
    schema = reading.schemas[kind]
    work = Work()
    spellings = tuple(name for name in INPUTS if name not in schema.arguments)
    work.inputs = read_inputs(reading, fields, spellings, where, work.uses)
    taken = {name: fields.pop(name) for name in tuple(fields) if _is_argument(name, schema)}
    for name, found in taken.items():
        if name not in schema.verbatim:
            reading.templates(found, f"in `{name}` {where}", work.uses)
    values = {name: found.value for name, found in taken.items()}
    missing = schema.missing(values)
    if missing is not None:
        reading.error("missing_argument", f"give {missing}: the {kind} action {where} needs it", pointer)
    for problem in schema.check(values):
        at = pointer
        for depth, part in enumerate(problem.path):
            at = taken[str(part)].pointer if depth == 0 else join_pointer(at, part)
        named = f"`{problem.path[0]}` " if problem.path else ""
        reading.error(problem.code, f"correct {named}{where}: {problem.message}", at)
    _refuse_slips(reading, fields, schema)
    work.action = Action(
        kind=kind,
        arguments=values,
        verbatim=tuple(name for name in values if name in schema.verbatim),
        sql=tuple(name for name in values if name in schema.sql),
    )
    return work


def _is_argument(name: str, schema: KindSchema) -> bool:
    return name in schema.arguments and name not in STEP_CONTROL


def _refuse_slips(reading: Reading, fields: Fields, schema: KindSchema) -> None:
    """A key that looks like an argument's would be dropped without a word, so it is an error."""
    for name in tuple(fields):
        advice = suggestion(name, schema.arguments)
        if advice and name not in STEP_CONTROL and not suggestion(name, STEP_CONTROL):
            found = fields.pop(name)
            message = f"the {schema.kind} action has no `{shown(name)}`; {advice}"
            reading.error("unknown_argument", message, found.pointer, key=True)


def read_task_use(reading: Reading, fields: Fields, tasks: Mapping[str, Work], step: str, pointer: str) -> Work:
    """A step of `type: workbook`: the task's action, with the step's inputs laid over the task's."""
    where = f"of the step {shown(step)}"
    named = reading.one_of(fields, TASK_REFERENCE, "the workbook task")
    own = Work()
    own.inputs = read_inputs(reading, fields, INPUTS, where, own.uses)
    name = step if named is None else reading.text(named, "the workbook task")
    task = tasks.get(name)
    if task is None:
        advice = suggestion(name, tasks) or "add it to `workbook`, or name another"
        place = pointer if named is None else named.pointer
        reading.error("unknown_task", f"there is no workbook task `{shown(name)}`; {advice}", place)
        return own
    own.action = task.action and task.action.model_copy(update={"task": name})
    own.uses = [*task.uses, *own.uses]
    own.inputs = {**task.inputs, **own.inputs}
    own.timeout_seconds = task.timeout_seconds
    return own


def untyped_action(reading: Reading, fields: Fields) -> tuple[str, Field] | None:
    """A key that only an action has, on a step that names no kind."""
    for name, found in fields.items():
        if name not in STEP_CONTROL and name not in INPUTS and reading.schemas.kinds_with(name):
            return name, found
    return None
