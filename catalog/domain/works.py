"""What a step or a workbook task does: action, child, wait or transform, with its inputs, out of all spellings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from catalog.domain.actions import input_spellings, read_arguments, read_kind, untyped_action, unwrap
from catalog.domain.children import read_child
from catalog.domain.failing import on_error_word, read_retry
from catalog.domain.loops import LoopReader
from catalog.domain.naming import NamedPart
from catalog.domain.playbook import Action, Child, Loop, Retry, Wait
from catalog.domain.reading import Field, Fields, Phase, Reading, Use, shown, suggestion
from catalog.domain.saves import KIND as SAVE_KIND
from catalog.domain.saves import SaveRead, check_item_save, read_save, read_save_action
from catalog.domain.spelling import (
    APPROVAL_KEYS,
    CHILD_KEYS,
    DESCRIPTION,
    INPUTS,
    ITERATOR,
    ITERATOR_KEYS,
    PLAYBOOK,
    ROUTING_KINDS,
    SAVE,
    TASK_CONTROL,
    TASK_INFORMATIVE,
    TASK_NOT_SUPPORTED,
    TASK_REFERENCE,
    TRANSFORM,
    TRANSFORM_KEYS,
    WAIT_KEYS,
    WAITS,
    WORKBOOK,
)
from catalog.domain.transitions import read_inputs
from catalog.domain.waits import read_approval, read_wait

_NO_FIELDS: Final[Fields] = {}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose work is read: its name, how messages name it, its place, and when its templates are rendered."""

    name: str
    where: str
    pointer: str
    phase: Phase = "start"


@dataclass(slots=True)
class Work:
    """What a step or a task does, as read. `kind` is '' for a wrong one, None when nothing is named."""

    kind: str | None = None
    action: Action | None = None
    child: Child | None = None
    wait: Wait | None = None
    loop: Loop | None = None
    result: Any = None
    inputs: Fields = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    timeout_seconds: float | None = None
    retry: Retry | None = None
    on_error: Literal["fail", "continue"] | None = None
    save: SaveRead | None = None
    known: frozenset[str] = frozenset()
    """The keys that its kind takes, for advice on the others."""

    @property
    def routes(self) -> bool:
        """Whether there is nothing to do: the step leads on, or opens a loop over several steps."""
        return self.kind is None or self.kind in ROUTING_KINDS


class WorkReader:
    """Reads works. `tasks` is the workbook, as far as it is read."""

    def __init__(self, reading: Reading, tasks: Mapping[str, Work]) -> None:
        self._reading = reading
        self._tasks = tasks

    def of_step(self, fields: Fields, owner: Owner) -> Work:
        """The work of a step: taken out of its fields, but for its keys of control."""
        called = unwrap(self._reading, fields)
        kind, _ = read_kind(self._reading, fields)
        if kind is None and called:
            kind = WORKBOOK
        if kind is None and TRANSFORM in fields:
            kind = TRANSFORM
        if kind is None or kind in ROUTING_KINDS:
            return self._routing(kind, fields, owner)
        if kind != TRANSFORM and (extra := fields.pop(TRANSFORM, None)) is not None:
            advice = f"give `transform` a step of its own: the step {shown(owner.name)} has a type"
            self._reading.error("misplaced_key", advice, extra.pointer, key=True)
        return self._of_kind(kind, fields, owner, _NO_FIELDS)

    def of_task(self, part: NamedPart) -> Work:
        """A task of the workbook; an unusable one does nothing."""
        owner = Owner(part.name, f"of the task {shown(part.name)}", part.pointer)
        kind, pointer = read_kind(self._reading, part.fields)
        if kind is None:
            advice = f"give the task {shown(part.name)} a `type`"
            self._reading.error("missing_type", advice, part.pointer)
            return Work("")
        if kind not in self._reading.schemas and kind not in (PLAYBOOK, ITERATOR, ""):
            advice = f"a workbook task cannot have the type `{kind}`"
            self._reading.error("unknown_type", advice, pointer)
            return Work("")
        return self._task(kind, part.fields, owner, _NO_FIELDS)

    def of_undo(self, found: Field, owner: Owner) -> Work:
        """What undoes a step: a workbook task, or an action."""
        reading = self._reading
        if isinstance(found.value, str):
            return self._of_workbook({"task": found}, owner, _NO_FIELDS)
        fields = reading.fields(found.value, found.pointer, f"`undo` {owner.where}")
        kind, pointer = read_kind(reading, fields)
        if kind is None and any(name in fields for name in TASK_REFERENCE):
            kind = WORKBOOK
        if kind is None:
            advice = f"give `undo` {owner.where} a `type`, or the name of a workbook task"
            reading.error("missing_type", advice, found.pointer)
            return Work("")
        if kind not in reading.schemas and kind not in (WORKBOOK, ""):
            advice = f"`undo` cannot have the type `{kind}`: it is one action"
            reading.error("unknown_type", advice, pointer)
            return Work("")
        return self._task(kind, fields, replace(owner, pointer=found.pointer), _NO_FIELDS)

    # -- kinds ------------------------------------------------------------------------------------------

    def _task(self, kind: str, fields: Fields, owner: Owner, outer: Fields) -> Work:
        """A whole task: its kind's keys and its own. `outer` are inputs that its own are laid over."""
        reading, uses = self._reading, list[Use]()
        reading.one_of(fields, DESCRIPTION, "the description")
        timeout = reading.duration(fields.pop("timeout", None), f"`timeout` {owner.where}")
        retry = read_retry(reading, fields, owner.where, uses)
        on_error = fields.pop("on_error", None)
        work = self._of_kind(kind, fields, owner, outer)
        saved = reading.one_of(fields, SAVE, "what is saved")
        if kind == "":
            return work
        for name in TASK_INFORMATIVE:
            fields.pop(name, None)
        reading.leftovers(
            fields, "a task", TASK_CONTROL.union(work.known, INPUTS), TASK_NOT_SUPPORTED, severity="error"
        )
        work.uses.extend(uses)
        work.timeout_seconds = timeout or work.timeout_seconds
        work.retry = retry or work.retry
        if on_error is not None and on_error.value is not None:
            work.on_error = on_error_word(on_error)
            if work.on_error is None:
                advice = f"make `on_error` {owner.where} fail or continue; where it leads is said on the step"
                reading.error("wrong_value", advice, on_error.pointer)
        save = read_save(reading, saved, owner.where, work.uses, looped=work.loop is not None)
        work.save = save or work.save
        return work

    def _of_kind(self, kind: str, fields: Fields, owner: Owner, outer: Fields) -> Work:
        match kind:
            case "":
                return Work("")
            case "workbook":
                return self._of_workbook(fields, owner, outer)
            case "playbook":
                return self._of_playbook(fields, owner, outer)
            case "iterator":
                return self._of_iterator(fields, owner)
            case "transform":
                return self._of_transform(fields, owner)
        if kind in WAITS:
            return self._of_wait(kind, fields, owner)
        if kind == SAVE_KIND:
            return self._of_save(fields, owner)
        schema = self._reading.schemas[kind]
        work = Work(kind, known=frozenset(schema.arguments))
        work.inputs = {**outer, **self._inputs(fields, owner, work.uses, input_spellings(schema))}
        work.action = read_arguments(self._reading, kind, fields, owner.where, owner.pointer, work.uses, owner.phase)
        return work

    def _inputs(self, fields: Fields, owner: Owner, uses: list[Use], spellings: tuple[str, ...] = INPUTS) -> Fields:
        return read_inputs(self._reading, fields, spellings, owner.where, uses, owner.phase)

    def _routing(self, kind: str | None, fields: Fields, owner: Owner) -> Work:
        acting = untyped_action(self._reading, fields)
        if acting is None and "task" in fields:
            acting = "task", fields["task"]
        if acting is not None:
            name, found = acting
            advice = f"give the step {shown(owner.name)} a `type`: it has `{name}`"
            self._reading.error("missing_type", advice, found.pointer, key=True)
            fields.pop(name)
            return Work("")
        work = Work(kind)
        self._unread_inputs(work, fields, owner)
        return work

    def _unread_inputs(self, work: Work, fields: Fields, owner: Owner) -> None:
        given = [fields[name] for name in INPUTS if name in fields]
        work.inputs = self._inputs(fields, owner, work.uses)
        if given:
            advice = "remove the inputs, or give the step a `type`: without an action nothing reads them"
            self._reading.warn("unused_inputs", advice, given[0].pointer, key=True)

    def _of_workbook(self, fields: Fields, owner: Owner, outer: Fields) -> Work:
        """A task of the workbook, with the inputs given here laid over the task's."""
        reading = self._reading
        named = reading.one_of(fields, TASK_REFERENCE, "the workbook task")
        own = Work(WORKBOOK)
        own.inputs = {**outer, **self._inputs(fields, owner, own.uses)}
        name = owner.name if named is None else reading.text(named, "the workbook task")
        task = self._tasks.get(name)
        if task is None:
            advice = suggestion(name, self._tasks) or "add it to `workbook`, or name another"
            place = owner.pointer if named is None else named.pointer
            reading.error("unknown_task", f"there is no workbook task `{shown(name)}`; {advice}", place)
            own.kind = ""
            return own
        return replace(
            task,
            action=task.action and task.action.model_copy(update={"task": name}),
            uses=[*(replace(use, phase=owner.phase) for use in task.uses), *own.uses],
            inputs={**task.inputs, **own.inputs},
            known=frozenset(),
        )

    def _of_playbook(self, fields: Fields, owner: Owner, outer: Fields) -> Work:
        work = Work(PLAYBOOK, known=CHILD_KEYS)
        found = read_child(self._reading, fields, owner.where, owner.pointer, work.uses)
        work.inputs = {**outer, **self._inputs(fields, owner, work.uses)}
        if found is not None:
            work.child = found.child
            if found.under is not None:
                reader = LoopReader(self._reading, owner.where, work.uses)
                work.loop = reader.read_below(found.under, fields.pop("loop", None))
        return work

    def _of_save(self, fields: Fields, owner: Owner) -> Work:
        """Saving is the work: the map `save` says what and where."""
        work = Work(SAVE_KIND)
        found = self._reading.one_of(fields, SAVE, "what is saved")
        work.inputs = self._inputs(fields, owner, work.uses)
        work.action = read_save_action(self._reading, found, owner.where, owner.pointer, work.uses, owner.phase)
        if work.action is None:
            work.kind = ""
        return work

    def _of_wait(self, kind: str, fields: Fields, owner: Owner) -> Work:
        work = Work(kind, known=WAIT_KEYS if kind == "wait" else APPROVAL_KEYS)
        read = read_wait if kind == "wait" else read_approval
        work.wait = read(self._reading, fields, owner.where, owner.pointer, work.uses)
        self._unread_inputs(work, fields, owner)
        return work

    def _of_transform(self, fields: Fields, owner: Owner) -> Work:
        reading, work = self._reading, Work(TRANSFORM, known=frozenset(TRANSFORM_KEYS))
        inside = fields.pop(TRANSFORM, None)
        entries = fields if inside is None else reading.fields(inside.value, inside.pointer, "`transform`")
        given = {name: entries.pop(name) for name in TRANSFORM_KEYS if name in entries}
        if inside is not None:
            reading.leftovers(entries, "`transform`", TRANSFORM_KEYS, {}, severity="error")
        if len(given) != 1:
            advice = f"give `transform` {owner.where} one of: {', '.join(TRANSFORM_KEYS)}"
            place = owner.pointer if inside is None else inside.pointer
            reading.error("invalid_argument" if given else "missing_argument", advice, place)
            return work
        [(name, found)] = given.items()
        if not isinstance(found.value, dict if name == "mapping" else str):
            shape = "a map" if name == "mapping" else "a text"
            reading.error("wrong_type", f"make `{name}` {owner.where} {shape}", found.pointer)
        elif name != "script":
            reading.templates(found, f"in `{name}` {owner.where}", work.uses)
            work.result = found.value
            self._unread_inputs(work, fields, owner)
        else:
            code = {"code": found}
            work.inputs = self._inputs(fields, owner, work.uses)
            work.action = read_arguments(reading, "python", code, owner.where, owner.pointer, work.uses)
        return work

    # -- the iterator -----------------------------------------------------------------------------------

    def _of_iterator(self, fields: Fields, owner: Owner) -> Work:
        """One task, once per item of a collection."""
        uses = list[Use]()
        loop = LoopReader(self._reading, owner.where, uses).read_iterator(fields, owner.pointer)
        outer = self._inputs(fields, owner, uses)
        work = self._nested(fields, owner, outer, loop)
        if work.action is not None and work.action.kind == "python" and loop is not None:
            item = Field(f"{{{{ {loop.element} }}}}", owner.pointer)
            work.inputs = {"value": item, **({"batch": item} if loop.chunk else {}), **work.inputs}
        return replace(
            work, kind=ITERATOR if work.kind else "", uses=[*uses, *work.uses], known=frozenset(ITERATOR_KEYS)
        )

    def _nested(self, fields: Fields, owner: Owner, outer: Fields, loop: Loop | None) -> Work:
        reading = self._reading
        found, run = fields.pop("task", None), fields.pop("run", None)
        if found is None and run is not None:
            tasks = reading.one_or_more(run)
            if len(tasks) > 1:
                advice = f"keep one entry in `run` {owner.where}: for several write a `loop` over several steps"
                reading.error("not_supported", advice, run.pointer, key=True)
                return Work("")
            found = tasks[0] if tasks else None
        if found is None or found.value is None:
            reading.error("missing_argument", f"give `task` {owner.where}: what is done per item", owner.pointer)
            return Work("")
        if isinstance(found.value, str):
            work = self._of_workbook({"task": found}, owner, outer)
        else:
            inner = reading.fields(found.value, found.pointer, f"`task` {owner.where}")
            work = self._inner_task(inner, replace(owner, pointer=found.pointer), outer)
        if work.loop is not None:
            advice = f"take the loop out of the task {owner.where}: an iterator is the loop"
            reading.error("wrong_value", advice, found.pointer)
        work.loop, save, work.save = loop, work.save, None
        if loop is not None and save is not None:
            of_items = check_item_save(reading, save, loop, owner.where)
            work.loop = loop.model_copy(update={"save": of_items})
        return work

    def _inner_task(self, fields: Fields, owner: Owner, outer: Fields) -> Work:
        reading = self._reading
        unwrap(reading, fields)
        kind, pointer = read_kind(reading, fields)
        kind = WORKBOOK if kind is None else kind
        if kind not in reading.schemas and kind not in (WORKBOOK, PLAYBOOK, ""):
            advice = f"the task {owner.where} cannot have the type `{kind}`"
            reading.error("unknown_type", advice, pointer)
            return Work("")
        if kind != WORKBOOK:
            reading.one_of(fields, TASK_REFERENCE, "the task's name")
        return self._task(kind, fields, owner, outer)
