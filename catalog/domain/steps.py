"""One step of the workflow: its keys of control, its work, its loop and where it leads."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from catalog.domain.failing import on_error_word, read_on_error, read_retry
from catalog.domain.loops import LoopReader
from catalog.domain.naming import NamedPart
from catalog.domain.playbook import Action, Loop, Save, Step
from catalog.domain.queueing_keys import read_limit, read_pool, read_priority, take_limit
from catalog.domain.reading import Field, Fields, Reading, Use, shown, suggestion
from catalog.domain.saves import SaveRead, check_item_save, read_save
from catalog.domain.spelling import (
    DESCRIPTION,
    INPUTS,
    ITERATOR,
    SAVE,
    STEP_CONTROL,
    STEP_NOT_SUPPORTED,
    TRANSFORM,
    WAITS,
)
from catalog.domain.template_syntax import is_template
from catalog.domain.transitions import TransitionReader
from catalog.domain.works import Owner, Work, WorkReader

_NEXT_MODES: Final[dict[str, Literal["inclusive", "exclusive"]]] = {
    "inclusive": "inclusive",
    "exclusive": "exclusive",
}
_JOINS: Final[dict[str, Literal["any", "all"]]] = {"any": "any", "all": "all"}
_KEPT_PLACES: Final[tuple[str, ...]] = ("loop", "end_loop", "join", "undo", "priority", "pool", "limit")


@dataclass(slots=True)
class StepRead:
    """A step as read, with what the checks of the whole playbook need beside it.

    `leads` are the places where its targets are named, `places` those of some of its keys. `opens_loop`: it has
    a loop over several steps.
    """

    step: Step
    pointer: str
    uses: list[Use] = field(default_factory=list)
    given: set[str] = field(default_factory=set)
    leads: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    opens_loop: bool = False


class StepReader:
    """Reads steps. `steps` are the names of all, `tasks` the workbook."""

    def __init__(self, reading: Reading, steps: Collection[str], tasks: Mapping[str, Work]) -> None:
        self._reading = reading
        self._steps = steps
        self._works = WorkReader(reading, tasks)

    def read(self, part: NamedPart) -> StepRead:
        """The step; what is wrong with it is told to the reading and left out."""
        reading, fields, uses = self._reading, part.fields, list[Use]()
        owner = Owner(part.name, f"of the step {shown(part.name)}", part.pointer)
        places = {key: fields[key].pointer for key in _KEPT_PLACES if key in fields}
        description = reading.text(reading.one_of(fields, DESCRIPTION, "the description"), "the description")
        skip_if = self._condition(fields, "pass", owner, uses)
        run_if = self._condition(fields, "when", owner, uses)
        timeout = reading.duration(fields.pop("timeout", None), f"`timeout` {owner.where}")
        priority = read_priority(reading, fields.pop("priority", None), owner.where)
        pool = read_pool(reading, fields.pop("pool", None), owner.where)
        limit = read_limit(reading, limited := take_limit(fields), owner.where, uses)
        modes = fields.pop("next_mode", None)
        fields.pop("resources", None)
        targets = TransitionReader(reading, self._steps, f"in `next` {owner.where}", uses)
        handlers = TransitionReader(reading, self._steps, f"in `on_error` {owner.where}", uses)
        with reading.shaping_the_graph():
            leads_to = targets.read(fields.pop("next", None))
            on_error, error_targets = read_on_error(failing := fields.pop("on_error", None), handlers)
            end_loop = self._end_loop(fields, owner)
            join = self._join(fields.pop("join", None), owner, end_loop)
        retry, undone = read_retry(reading, fields, owner.where, uses), fields.pop("undo", None)
        work = self._works.of_step(fields, owner)
        loop = self._loop(work, fields, owner, uses, end_loop)
        save, loop = self._saves(work, loop, fields, owner, uses)
        if loop is None and "loop" in places and (work.routes or work.kind == ""):
            reading.graph_is_whole = False
        if work.kind == ITERATOR and loop is not None and failing is not None:
            # Of an iterator it says what an item's failure does; a route is taken when the step fails.
            loop = loop.model_copy(update={"on_error": on_error_word(failing) or "fail"})
            on_error = on_error if on_error == "route" else "fail"
        elif failing is None and work.on_error is not None and loop is None:
            on_error = work.on_error
        if loop is not None and owner.name == "end":
            self._refuse_results(fields)
        result = self._result(work, fields, owner, uses, end_loop)
        if retry is not None:
            self._check_retry(work, owner)
        self._check_queued(work, owner, {"priority": priority, "pool": pool, "limit": limited})
        undo = self._undo(undone, work, owner, looped=loop is not None)
        self._tell_leftovers(work, fields)
        seconds = timeout or work.timeout_seconds
        inputs = {name: item.value for name, item in work.inputs.items()}
        step = Step(
            name=part.name,
            description=description,
            action=self._with_timeout(work.action, seconds),
            inputs=inputs,
            skip_if=skip_if,
            run_if=run_if,
            child=work.child,
            wait=work.wait,
            loop=loop,
            end_loop=end_loop,
            join=join,
            retry=retry or work.retry if work.action else None,
            on_error=on_error,
            error_targets=error_targets,
            undo=undo.action,
            undo_inputs={name: item.value for name, item in undo.inputs.items()},
            save=save,
            next=leads_to,
            next_mode=reading.choice(modes, f"`next_mode` {owner.where}", _NEXT_MODES, "inclusive"),
            timeout_seconds=seconds,
            priority=priority,
            pool=pool,
            limit=limit,
            result=result,
        )
        return StepRead(
            step=step,
            pointer=part.pointer,
            uses=[*uses, *work.uses, *undo.uses],
            given=targets.given | handlers.given | inputs.keys() | undo.inputs.keys(),
            leads={**handlers.places, **targets.places},
            places=places,
            opens_loop=loop is not None and work.routes,
        )

    def _condition(self, fields: Fields, key: str, owner: Owner, uses: list[Use]) -> Any:
        found = fields.pop(key, None)
        if found is None or (key == "pass" and found.value is None):
            return None
        return self._reading.condition(found, f"`{key}` {owner.where}", uses)

    def _join(self, found: Field | None, owner: Owner, end_loop: str | None) -> Literal["any", "all"] | None:
        if found is None or found.value is None:
            return None
        if isinstance(found.value, str) and found.value in self._steps and found.value not in _JOINS:
            advice = f"names a loop in a grammar that is not read: write `end_loop: {shown(found.value)}`"
            self._reading.error("not_supported", f"`join` {advice}", found.pointer, key=True)
            return None
        if end_loop is not None:
            advice = "remove `join`: the end of a loop waits for all items by itself"
            self._reading.error("misplaced_key", advice, found.pointer, key=True)
            return None
        return self._reading.choice(found, f"`join` {owner.where}", _JOINS, "all")

    def _saves(
        self, work: Work, loop: Loop | None, fields: Fields, owner: Owner, uses: list[Use]
    ) -> tuple[Save | None, Loop | None]:
        """What is saved of the step, and its loop with what is saved of each item: the step's own before its task's."""
        found = self._reading.one_of(fields, SAVE, "what is saved")
        own = read_save(self._reading, found, owner.where, uses, looped=loop is not None)
        if loop is not None and loop.save is not None and work.routes:
            advice = "put `save` on a step of the loop, or on the loop's own step, with `results`"
            self._reading.error(
                "misplaced_key", f"{advice}: it has several steps", f"{owner.pointer}/loop/save", key=True
            )
            loop = loop.model_copy(update={"save": None})
        if loop is not None and work.save is not None and work.kind != ITERATOR:
            # Of a task that is run once per item.
            of_items = loop.save or check_item_save(self._reading, work.save, loop, owner.where)
            loop = loop.model_copy(update={"save": of_items})
        else:
            own = own or work.save
        return (None if own is None else own.save), loop

    def _with_timeout(self, action: Action | None, seconds: float | None) -> Action | None:
        """A kind with a time limit of its own is told the step's, lest its default ends the action before."""
        if action is None or seconds is None or "timeout" not in self._reading.schemas[action.kind].arguments:
            return action
        return action.model_copy(update={"arguments": {**action.arguments, "timeout": seconds}})

    def _tell_leftovers(self, work: Work, fields: Fields) -> None:
        """A step whose kind is wrong is told so, and no more: its other keys may be right for another."""
        if work.kind != "":
            known = STEP_CONTROL.union(INPUTS, work.known)
            self._reading.leftovers(fields, "a step", known, STEP_NOT_SUPPORTED)

    # -- loops ------------------------------------------------------------------------------------------

    def _end_loop(self, fields: Fields, owner: Owner) -> str | None:
        """The loop that the step closes, which is looked for when all steps are read."""
        found = fields.pop("end_loop", None)
        if found is None or found.value is None:
            return None
        name = self._reading.text(found, f"`end_loop` {owner.where}")
        if not name:
            return None
        if owner.name in ("start", "end"):
            advice = f"move `end_loop` to a step of its own, which leads on: {owner.name} belongs to the whole playbook"
            self._reading.error("misplaced_key", advice, found.pointer, key=True)
            return None
        return name

    def _loop(self, work: Work, fields: Fields, owner: Owner, uses: list[Use], end_loop: str | None) -> Loop | None:
        """The step's loop, or that of its work. A `loop` without any work is one over several steps."""
        reading = self._reading
        found = fields.pop("loop", None)
        if work.kind == "loop" and found is None:
            reading.error("missing_argument", f"give `loop` {owner.where}: the list to loop over", owner.pointer)
        if found is None:
            return work.loop
        if work.loop is not None:
            advice = f"remove `loop` {owner.where}: its task is a loop already"
            reading.error("misplaced_key", advice, found.pointer, key=True)
            return work.loop
        loop = LoopReader(reading, owner.where, uses).read(found)
        advice = ""
        if work.wait is not None or work.kind in WAITS:
            advice = "loop over several steps, and wait in one of them: a wait has no loop of its own"
        elif work.kind == TRANSFORM and work.action is None:
            advice = f"loop over `script` {owner.where}: `template` and `mapping` have no loop"
        elif end_loop is not None:
            advice = f"give the loop a step of its own: this one closes the loop {shown(end_loop)}"
        if advice:
            reading.error("misplaced_key", advice, found.pointer, key=True)
            return None
        return None if work.kind == "" else loop

    # -- results ----------------------------------------------------------------------------------------

    def _result(self, work: Work, fields: Fields, owner: Owner, uses: list[Use], end_loop: str | None) -> Any:
        """`result`, or on the step end also `return`; a transform step's own."""
        found, returned = fields.pop("result", None), None
        if owner.name == "end":
            returned = fields.pop("return", None)
        elif found is not None and end_loop is None:
            advice = "move `result` to the step end: only there is it the result of the execution"
            self._reading.error("not_supported", advice, found.pointer, key=True)
            return work.result
        if found is None:
            return work.result if returned is None else self._returned(returned, owner, uses)
        if returned is not None:
            advice = "keep one of `result` and `return`: `result` counts, this is ignored"
            self._reading.warn("spelling_conflict", advice, returned.pointer, key=True)
        self._reading.templates(found, f"in `result` {owner.where}", uses)
        return found.value

    def _refuse_results(self, fields: Fields) -> None:
        """What a loop gives is the result of its step: also of the step `end`."""
        for key in ("result", "return"):
            if (found := fields.pop(key, None)) is not None:
                advice = (
                    f"remove `{key}`, or move the loop to a step before end: what a loop gives is its step's result"
                )
                self._reading.error("misplaced_key", advice, found.pointer, key=True)

    def _returned(self, found: Field, owner: Owner, uses: list[Use]) -> Any:
        """A template, or a step whose result is the execution's."""
        name = self._reading.text(found, f"`return` {owner.where}")
        if not name or is_template(name):
            self._reading.templates(found, f"in `return` {owner.where}", uses)
            return name or None
        if name not in self._steps:
            advice = suggestion(name, self._steps) or "name another, or give a template"
            self._reading.error("unknown_target", f"there is no step `{shown(name)}`; {advice}", found.pointer)
        uses.append(Use(name, found.pointer, "start"))
        return f"{{{{ steps[{json.dumps(name, ensure_ascii=False)}].data }}}}"

    # -- after the work ---------------------------------------------------------------------------------

    def _check_retry(self, work: Work, owner: Owner) -> None:
        if work.action is not None or work.kind == "":
            return
        advice = "move `retry` to a step with an action: here is nothing to try again"
        if work.child is not None or work.kind == "playbook":
            advice = f"set `retry` on the steps of the child playbook: {owner.where.removeprefix('of ')} only starts it"
        self._reading.error("misplaced_key", advice, f"{owner.pointer}/retry", key=True)

    def _check_queued(self, work: Work, owner: Owner, given: Mapping[str, Any]) -> None:
        """Only an action is queued; a child takes the step's priority, and has pools and limits of its own."""
        if work.action is not None or work.kind == "":
            return
        is_child = work.child is not None or work.kind == "playbook"
        for key, value in given.items():
            if value is None or (is_child and key == "priority"):
                continue
            advice = f"move `{key}` to a step with an action: here is nothing to queue"
            if is_child:
                advice = f"set `{key}` in the child playbook: {owner.where.removeprefix('of ')} only starts it"
            self._reading.error("misplaced_key", advice, f"{owner.pointer}/{key}", key=True)

    def _undo(self, found: Field | None, work: Work, owner: Owner, *, looped: bool) -> Work:
        if found is None or found.value is None:
            return Work()
        advice = ""
        if looped:
            advice = f"remove `undo` {owner.where}: a step with a loop cannot be undone"
        elif work.kind != "" and work.action is None and work.child is None:
            advice = f"move `undo` to a step with an action or a child: {owner.where.removeprefix('of ')} does nothing"
        if advice:
            self._reading.error("misplaced_key", advice, found.pointer, key=True)
            return Work()
        undoing = Owner(owner.name, f"of what undoes {shown(owner.name)}", found.pointer, "next")
        undone = self._works.of_undo(found, undoing)
        if undone.save is not None:
            self._refuse_save(undone.save, found, undoing)
        return undone

    def _refuse_save(self, save: SaveRead, undo: Field, undoing: Owner) -> None:
        """What undoes a step ends no step: nothing of it would be saved."""
        place, advice = save.places[""], f"remove `save` {undoing.where}: only what a step gives is saved"
        if place.startswith(undo.pointer):
            self._reading.error("misplaced_key", advice, place, key=True)
        else:
            advice = f"name a task without `save` {undoing.where}: only what a step gives is saved"
            self._reading.error("misplaced_key", advice, undo.pointer)
