"""`next` and `on_error`: all their shapes to transitions and targets. Source: docs/language.md, "Transitions"."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from catalog.domain.parser import join_pointer
from catalog.domain.playbook import Target, Transition
from catalog.domain.reading import Field, Fields, Phase, Reading, Use, condition_text, shown, suggestion
from catalog.domain.spelling import IDENTITY, INPUTS, TARGET_KEYS, TRANSITION_KEYS


class TransitionReader:
    """Reads what leads to steps: `next` and `on_error`, which `where` names.

    `steps` are all steps' names; what templates read goes to `uses`.
    """

    def __init__(self, reading: Reading, steps: Collection[str], where: str, uses: list[Use]) -> None:
        self._reading = reading
        self._steps = steps
        self._where = where
        self._uses = uses
        self.given: set[str] = set()
        """Names of the inputs that the transitions hand over."""
        self.places: dict[str, str] = {}
        """Where each target is named first."""

    def read(self, found: Field | None) -> tuple[Transition, ...]:
        """The transitions of a step; an item with an error is left out."""
        if found is None or found.value is None:
            return ()
        if not isinstance(found.value, list):
            item = self._item(found, after_condition=False)
            return () if item is None else (item,)
        transitions: list[Transition] = []
        after_condition = False
        for index, value in enumerate(found.value):
            item = self._item(Field(value, join_pointer(found.pointer, index)), after_condition=after_condition)
            after_condition = after_condition or (isinstance(value, dict) and "when" in value)
            if item is not None:
                transitions.append(item)
        return tuple(transitions)

    def targets(self, found: Field | None) -> tuple[Target, ...]:
        """One target or a list of them; those with an error are left out."""
        targets = (self._target(item) for item in self._reading.one_or_more(found))
        return tuple(target for target in targets if target is not None)

    def _item(self, found: Field, *, after_condition: bool) -> Transition | None:
        if not isinstance(found.value, dict):
            return self._bare(self._target(found), found, after_condition=after_condition)
        fields = self._reading.fields(found.value, found.pointer, "an item of `next`")
        if "when" in fields:
            return self._conditional(fields, found)
        if "then" in fields or "else" in fields:
            return self._default(fields, found)
        return self._bare(self._target(found), found, after_condition=after_condition)

    def _bare(self, target: Target | None, found: Field, *, after_condition: bool) -> Transition | None:
        if target is None:
            return None
        if not after_condition:
            return Transition(kind="always", then=(target,))
        advice = f"write `else: {shown(target.step)}`: after a condition this runs when none was true"
        self._reading.warn("bare_after_condition", advice, found.pointer)
        return Transition(kind="default", then=(target,))

    def _conditional(self, fields: Fields, found: Field) -> Transition | None:
        when = self._reading.condition(fields.pop("when"), f"`when` {self._where}", self._uses, "next")
        then = self.targets(fields.pop("then", None))
        otherwise = self.targets(fields.pop("else", None))
        if any(name in fields for name in IDENTITY):
            flat = {name: fields.pop(name) for name in tuple(fields) if name in TARGET_KEYS}
            target = self._target_of(flat, found)
            if then:
                self._reading.error("invalid_transition", "keep either `then` or `step`, not both", found.pointer)
            then = () if target is None else (target,)
        self._refuse(fields)
        if not (then or otherwise):
            self._missing_target(found)
        if when is None:
            return None
        return Transition(kind="condition", when=condition_text(when), then=then, otherwise=otherwise)

    def _default(self, fields: Fields, found: Field) -> Transition | None:
        if "then" in fields and "else" in fields:
            advice = "add `when` to this item: without it, `then` and `else` mean the same"
            self._reading.error("invalid_transition", advice, found.pointer)
        targets = self.targets(fields.pop("else", None) or fields.get("then"))
        fields.pop("then", None)
        self._refuse(fields)
        if not targets:
            self._missing_target(found)
            return None
        return Transition(kind="default", then=targets)

    def _missing_target(self, found: Field) -> None:
        if not any(problem.pointer.startswith(found.pointer) for problem in self._reading.problems):
            self._reading.error("missing_target", "say which step follows, as in `then: [NAME]`", found.pointer)

    def _refuse(self, fields: Fields) -> None:
        """A slip in a transition would change the route, so it is an error here."""
        inputs = {name: fields.pop(name) for name in INPUTS if name in fields}
        for name, found in inputs.items():
            advice = f"move `{name}` into the target, as in `then: {{step: NAME, {name}: ...}}`"
            self._reading.error("invalid_transition", advice, found.pointer, key=True)
        self._reading.leftovers(fields, "an item of `next`", TRANSITION_KEYS, {}, severity="error")

    # -- targets ----------------------------------------------------------------------------------------

    def _target(self, found: Field) -> Target | None:
        if isinstance(found.value, str):
            return self._known(found.value, found.pointer, {})
        if isinstance(found.value, dict):
            return self._target_of(self._reading.fields(found.value, found.pointer, "a target"), found)
        self._reading.error("wrong_type", "name a step here, or give a map with `step`", found.pointer)
        return None

    def _target_of(self, fields: Fields, found: Field) -> Target | None:
        named = self._reading.one_of(fields, IDENTITY, "the target's name")
        inputs = read_inputs(self._reading, fields, INPUTS, self._where, self._uses, "next")
        self._refuse(fields)
        if named is None:
            self._reading.error("missing_target", "say which step follows with `step: NAME`", found.pointer)
            return None
        return self._known(named.value, named.pointer, {name: item.value for name, item in inputs.items()})

    def _known(self, name: Any, pointer: str, inputs: dict[str, Any]) -> Target | None:
        self.given.update(inputs)
        if not isinstance(name, str):
            self._reading.error("wrong_type", "name the target step as a text", pointer)
            return None
        if name not in self._steps:
            advice = suggestion(name, self._steps) or "add the step, or name another"
            self._reading.error("unknown_target", f"there is no step `{shown(name)}`; {advice}", pointer)
            return None
        self.places.setdefault(name, pointer)
        return Target(step=name, inputs=inputs)


def read_inputs(
    reading: Reading,
    fields: Fields,
    spellings: tuple[str, ...],
    where: str,
    uses: list[Use],
    phase: Phase = "start",
) -> Fields:
    """Take the inputs out of all their spellings; of a name given twice the newest spelling counts."""
    inputs: Fields = {}
    for spelling in spellings:
        found = fields.pop(spelling, None)
        if found is None:
            continue
        for name, given in reading.fields(found.value, found.pointer, f"`{spelling}` {where}").items():
            if name in inputs and inputs[name].value != given.value:
                advice = f"keep one `{shown(name)}`: the one in the newer spelling counts, this is ignored"
                reading.warn("spelling_conflict", advice, given.pointer, key=True)
            if name not in inputs:
                inputs[name] = given
                reading.templates(given, where, uses, phase)
    return inputs
