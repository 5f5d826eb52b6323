"""One step of the workflow: its control keys, its action, its loop and where it leads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from catalog.domain.actions import (
    WORKBOOK,
    Work,
    merge_call,
    read_arguments,
    read_kind,
    read_task_use,
    untyped_action,
)
from catalog.domain.playbook import Action, Loop, Step, Transition
from catalog.domain.reading import Field, Fields, Reading, Use, shown
from catalog.domain.spelling import (
    DESCRIPTION,
    ELEMENT_RESERVED,
    IDENTITY,
    INPUTS,
    LOOP_KEYS,
    LOOP_NOT_SUPPORTED,
    ROUTING_KINDS,
    STEP_CONTROL,
    STEP_NOT_SUPPORTED,
    TASK_CONTROL,
    TASK_INFORMATIVE,
    TASK_NOT_SUPPORTED,
)
from catalog.domain.template_syntax import is_template, names_read
from catalog.domain.transitions import TransitionReader, read_inputs

MAX_NAME_CHARS: Final = 200
_ELEMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOOP_MODES: Final[dict[str, Literal["parallel", "sequential"]]] = {
    "parallel": "parallel",
    "async": "parallel",
    "sequential": "sequential",
}
_ON_ERROR: Final[dict[str, Literal["fail", "continue"]]] = {"fail": "fail", "continue": "continue"}
_NEXT_MODES: Final[dict[str, Literal["inclusive", "exclusive"]]] = {
    "inclusive": "inclusive",
    "exclusive": "exclusive",
}


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A step or task as it stands in the document, with its name."""

    name: str
    fields: Fields
    pointer: str


@dataclass(slots=True)
class StepRead:
    """A step as read, with what the checks of the whole playbook need beside it."""

    step: Step
    pointer: str
    uses: list[Use] = field(default_factory=list)
    given: set[str] = field(default_factory=set)


def read_name(reading: Reading, found: Field, what: str) -> NamedPart | None:
    """The name of a step or task; without a usable one the part cannot be read."""
    fields = reading.fields(found.value, found.pointer, what)
    if not isinstance(found.value, dict):
        if found.value is None:
            reading.error("wrong_type", f"make {what} a map", found.pointer)
        return None
    spelling = next((name for name in IDENTITY if name in fields), None)
    if what == "a workbook task":
        spelling = "name" if "name" in fields else spelling
    if spelling is None:
        reading.error("missing_name", f"give {what} a name", found.pointer)
        return None
    named = fields.pop(spelling)
    name = named.value
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_CHARS or is_template(name):
        advice = f"make the name of {what} a text of at most {MAX_NAME_CHARS} characters, without {{{{ }}}}"
        reading.error("invalid_name", advice, named.pointer)
        return None
    if ":" in name or "#" in name:
        reading.error("invalid_name", f"take `:` and `#` out of the name `{shown(name)}`", named.pointer)
        return None
    return NamedPart(name, fields, found.pointer)


def read_task(reading: Reading, part: NamedPart) -> Work:
    """A task of the workbook; an unusable one has no action."""
    where = f"of the task {shown(part.name)}"
    fields = part.fields
    reading.one_of(fields, DESCRIPTION, "the description")
    timeout = reading.duration(fields.pop("timeout", None), f"`timeout` {where}")
    kind, pointer = read_kind(reading, fields)
    work = Work()
    if kind in ROUTING_KINDS or kind == WORKBOOK:
        reading.error("unknown_type", f"a workbook task cannot have the type `{kind}`", pointer)
    elif kind is None:
        reading.error("missing_type", f"give the task {shown(part.name)} a `type`", part.pointer)
    elif kind:
        work = read_arguments(reading, kind, fields, where, part.pointer)
        known = TASK_CONTROL.union(reading.schemas[kind].arguments, INPUTS)
        for name in TASK_INFORMATIVE & fields.keys():
            fields.pop(name)
        reading.leftovers(fields, "a workbook task", known, TASK_NOT_SUPPORTED, severity="error")
    work.timeout_seconds = timeout
    return work


class StepReader:
    """Reads steps. `steps` gives each step's place, `tasks` the workbook."""

    def __init__(self, reading: Reading, steps: Mapping[str, int], tasks: Mapping[str, Work]) -> None:
        self._reading = reading
        self._steps = steps
        self._tasks = tasks

    def read(self, part: NamedPart) -> StepRead:
        """The step; what is wrong with it is told to the reading and left out."""
        reading, fields, uses = self._reading, part.fields, list[Use]()
        description = reading.text(reading.one_of(fields, DESCRIPTION, "the description"), "the description")
        skip_if = self._condition(fields, "pass", part, uses)
        run_if = self._condition(fields, "when", part, uses)
        timeout = reading.duration(fields.pop("timeout", None), f"`timeout` of the step {shown(part.name)}")
        modes = fields.pop("next_mode", None)
        transitions = TransitionReader(reading, self._steps, part.name, uses)
        leads_to = transitions.read(fields.pop("next", None))
        loop = self._loop(fields.pop("loop", None), part, uses)
        result = self._result(fields, part, uses)
        work = self._work(part, looped=loop is not None)
        inputs = {name: item.value for name, item in work.inputs.items()}
        seconds = timeout or work.timeout_seconds
        step = Step(
            name=part.name,
            description=description,
            action=self._with_timeout(work.action, seconds),
            inputs=inputs,
            skip_if=skip_if,
            run_if=run_if,
            loop=loop if work.action else None,
            next=leads_to,
            next_mode=reading.choice(modes, "`next_mode`", _NEXT_MODES, "inclusive"),
            timeout_seconds=seconds,
            result=result,
        )
        step = step.model_copy(update={"start_reads": _start_reads(step), "next_reads": next_reads(leads_to)})
        return StepRead(step, part.pointer, [*uses, *work.uses], transitions.given | inputs.keys())

    def _condition(self, fields: Fields, key: str, part: NamedPart, uses: list[Use]) -> Any:
        found = fields.pop(key, None)
        if found is None or (key == "pass" and found.value is None):
            return None
        return self._reading.condition(found, f"`{key}` of the step {shown(part.name)}", uses)

    def _result(self, fields: Fields, part: NamedPart, uses: list[Use]) -> Any:
        found = fields.pop("result", None)
        if found is None:
            return None
        if part.name != "end":
            advice = "move `result` to the step end: only there is it the result of the execution"
            self._reading.error("not_supported", advice, found.pointer, key=True)
            return None
        self._reading.templates(found, "in `result` of the step end", uses)
        return found.value

    def _with_timeout(self, action: Action | None, seconds: float | None) -> Action | None:
        """A kind with a time limit of its own is told the step's, lest its default ends the action before."""
        if action is None or seconds is None or "timeout" not in self._reading.schemas[action.kind].arguments:
            return action
        return action.model_copy(update={"arguments": {**action.arguments, "timeout": seconds}})

    # -- the action -------------------------------------------------------------------------------------

    def _work(self, part: NamedPart, *, looped: bool) -> Work:
        reading, fields = self._reading, part.fields
        where = f"of the step {shown(part.name)}"
        called = merge_call(reading, fields)
        kind, _ = read_kind(reading, fields)
        if kind is None and called:
            kind = WORKBOOK
        if kind == "":
            return Work()
        if kind is None or kind in ROUTING_KINDS:
            return self._routing(part, where, looped=looped)
        if kind == WORKBOOK:
            work = read_task_use(reading, fields, self._tasks, part.name, part.pointer)
            known = STEP_CONTROL.union(INPUTS)
        else:
            work = read_arguments(reading, kind, fields, where, part.pointer)
            known = STEP_CONTROL.union(INPUTS, reading.schemas[kind].arguments)
        reading.leftovers(fields, "a step", known, STEP_NOT_SUPPORTED)
        return work

    def _routing(self, part: NamedPart, where: str, *, looped: bool) -> Work:
        reading, fields = self._reading, part.fields
        acting = untyped_action(reading, fields)
        if acting is not None:
            name, found = acting
            reading.error(
                "missing_type",
                f"give the step {shown(part.name)} a `type`: it has `{name}`",
                found.pointer,
                key=True,
            )
            return Work()
        if looped:
            advice = "give the step an action: a loop over several steps is not supported yet"
            reading.error("not_supported", advice, f"{part.pointer}/loop", key=True)
        work = Work()
        given = [fields[name] for name in INPUTS if name in fields]
        work.inputs = read_inputs(reading, fields, INPUTS, where, work.uses)
        if given:
            advice = "remove the inputs, or give the step a `type`: without an action nothing reads them"
            reading.warn("unused_inputs", advice, given[0].pointer, key=True)
        reading.leftovers(fields, "a step", STEP_CONTROL.union(INPUTS), STEP_NOT_SUPPORTED)
        return work

    # -- the loop ---------------------------------------------------------------------------------------

    def _loop(self, found: Field | None, part: NamedPart, uses: list[Use]) -> Loop | None:
        if found is None:
            return None
        reading = self._reading
        where = f"of the loop of {shown(part.name)}"
        fields = reading.fields(found.value, found.pointer, f"`loop` of the step {shown(part.name)}")
        items = self._items(fields.pop("in", None), found, where, uses)
        element = self._element(fields.pop("iterator", None), found, where)
        kept = reading.one_of(fields, ("where", "filter"), "the loop's filter")
        kept_if = self._filter(kept, where, uses)
        mode = reading.choice(fields.pop("mode", None), f"`mode` {where}", _LOOP_MODES, "parallel")
        concurrency = reading.count(fields.pop("concurrency", None), f"`concurrency` {where}")
        on_error = reading.choice(fields.pop("on_error", None), f"`on_error` {where}", _ON_ERROR, "fail")
        reading.leftovers(fields, "`loop`", LOOP_KEYS, LOOP_NOT_SUPPORTED, severity="error")
        if items is None or element is None:
            return None
        return Loop(
            items=items,
            element=element,
            filter=kept_if,
            mode=mode,
            concurrency=concurrency,
            on_error=on_error,
        )

    def _items(self, found: Field | None, loop: Field, where: str, uses: list[Use]) -> Any:
        if found is None or found.value is None:
            self._reading.error("missing_argument", f"give `in` {where}: the list to loop over", loop.pointer)
            return None
        text = isinstance(found.value, str)
        if not (isinstance(found.value, list) or (text and (is_template(found.value) or "[" in found.value))):
            self._reading.error("wrong_type", f"make `in` {where} a list, or a template that gives one", found.pointer)
            return None
        self._reading.templates(found, f"in `in` {where}", uses)
        return found.value

    def _element(self, found: Field | None, loop: Field, where: str) -> str | None:
        if found is None:
            self._reading.error("missing_argument", f"give `iterator` {where}: the name of the item", loop.pointer)
            return None
        name = found.value
        plain = isinstance(name, str) and len(name) <= MAX_NAME_CHARS and _ELEMENT.fullmatch(name)
        if plain and name not in ELEMENT_RESERVED:
            return str(name)
        advice = f"make `iterator` {where} a plain name, and none of: {', '.join(sorted(ELEMENT_RESERVED))}"
        self._reading.error("invalid_name", advice, found.pointer)
        return None

    def _filter(self, found: Field | None, where: str, uses: list[Use]) -> str | None:
        if found is None or found.value is None or str(found.value).strip() in ("", "{{}}"):
            return None
        value = self._reading.condition(found, f"`filter` {where}", uses)
        return value if isinstance(value, str) or value is None else str(value).lower()


def _start_reads(step: Step) -> tuple[str, ...]:
    """What the step's templates read when it starts; its loop's element is not from outside."""
    names = names_read([step.inputs, step.skip_if, step.run_if, step.result])
    if step.action is not None:
        verbatim = step.action.verbatim
        names |= names_read([value for key, value in step.action.arguments.items() if key not in verbatim])
    if step.loop is not None:
        names |= names_read([step.loop.items, step.loop.filter])
    return tuple(sorted(names))


def next_reads(transitions: tuple[Transition, ...]) -> tuple[str, ...]:
    """What the conditions and the inputs of the transitions read."""
    names: set[str] = set()
    for item in transitions:
        names |= names_read([item.when, *(target.inputs for target in (*item.then, *item.otherwise))])
    return tuple(sorted(names))
