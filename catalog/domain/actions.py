"""The action of a step or a workbook task: its kind and arguments, out of all their spellings."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping

from catalog.domain.action_schemas import KindSchema
from catalog.domain.clear_secrets import holds_secret
from catalog.domain.credentials import fold_credential
from catalog.domain.parser import join_pointer, texts_in
from catalog.domain.playbook import Action
from catalog.domain.reading import Field, Fields, Phase, Reading, Use, shown, suggestion
from catalog.domain.spelling import (
    CODE,
    CREDENTIAL,
    INPUTS,
    KIND,
    KIND_ALIASES,
    KIND_NOT_SUPPORTED,
    LANGUAGE_KINDS,
    STEP_CONTROL,
    STEP_NOT_SUPPORTED,
)
from catalog.domain.template_syntax import step_secrets_used


def read_kind(reading: Reading, fields: Fields) -> tuple[str | None, str]:
    """The kind that is named (an action's, or one of the language), and the pointer of its name.

    The kind is None when none is named, and '' when it is a wrong one, which is then an error.
    """
    found = reading.one_of(fields, KIND, "the action's type")
    if found is None:
        return None, ""
    kind = reading.text(found, "`type`").strip().lower()
    kind = KIND_ALIASES.get(kind, kind)
    if not kind:
        return None, found.pointer
    if kind in reading.schemas or kind in LANGUAGE_KINDS:
        return kind, found.pointer
    if kind in KIND_NOT_SUPPORTED:
        reading.error("not_supported", f"the type `{kind}` {KIND_NOT_SUPPORTED[kind]}", found.pointer)
    else:
        advice = suggestion(kind, reading.schemas.kinds) or f"use one of: {', '.join(reading.schemas.kinds)}"
        reading.error("unknown_type", f"there is no action type `{shown(kind)}`; {advice}", found.pointer)
    return "", found.pointer


def unwrap(reading: Reading, fields: Fields) -> bool:
    """Lay the keys of `call`, and those of a `tool` that is a map, over those of the step.

    Returns: whether there was a `call`.
    """
    called = "call" in fields
    _lay_over(reading, fields, "call", KIND)
    if "tool" in fields and isinstance(fields["tool"].value, dict):
        _lay_over(reading, fields, "tool", ("kind", *KIND))
    return called


def _lay_over(reading: Reading, fields: Fields, wrapper: str, kinds: Collection[str]) -> None:
    found = fields.pop(wrapper, None)
    if found is None:
        return
    inner = reading.fields(found.value, found.pointer, f"`{wrapper}`")
    if "kind" in kinds and "kind" in inner:
        inner["tool"] = inner.pop("kind")
    misplaced = {name: inner.pop(name) for name in tuple(inner) if name in STEP_CONTROL.difference(KIND)}
    for name, item in misplaced.items():
        reading.error("misplaced_key", f"move `{name}` out of `{wrapper}`, to the step", item.pointer, key=True)
    kind = next((inner[name] for name in KIND if name in inner), None)
    winners = inner if kind is None else {**dict.fromkeys(KIND, kind), **inner}
    for name, winner in winners.items():
        hidden = fields.pop(name, None)
        if hidden is not None and hidden.value != winner.value:
            advice = f"keep one `{name}`: what `{wrapper}` says counts, this is ignored"
            reading.warn("spelling_conflict", advice, hidden.pointer, key=True)
    fields.update(inner)


def read_arguments(
    reading: Reading, kind: str, fields: Fields, where: str, pointer: str, uses: list[Use], phase: Phase = "start"
) -> Action:
    """Take a kind's arguments out of the fields. `pointer` is the place of the step or task."""
    schema = reading.schemas[kind]
    for name, places in schema.lifts.items():
        _lift(reading, fields, name, places)
    if CREDENTIAL[0] in schema.arguments:
        fold_credential(reading, fields, schema, where)
    if CODE[0] in schema.arguments:
        _decode_code(reading, fields, where)
    taken = {name: fields.pop(name) for name in tuple(fields) if _is_argument(name, schema)}
    for name, found in taken.items():
        if name not in schema.verbatim:
            reading.templates(found, f"in `{name}` {where}", uses, phase)
        if name in schema.sql:
            _note_step_secrets(reading, found)
    for name in (name for name in schema.addresses if name in taken):
        _warn_of_secrets(reading, taken[name], f"`{name}` {where}")
    if schema.caution is not None:
        reading.warn("limited_kind", f"the {kind} action {where} {schema.caution}", pointer)
    values = {name: found.value for name, found in taken.items()}
    missing = schema.missing(values)
    if missing is not None:
        instead = f"; {schema.instead}" if schema.instead else ""
        reading.error("missing_argument", f"give {missing}: the {kind} action {where} needs it{instead}", pointer)
    for problem in schema.check(values):
        at = pointer
        for depth, part in enumerate(problem.path):
            at = taken[str(part)].pointer if depth == 0 else join_pointer(at, part)
        named = f"`{problem.path[0]}` " if problem.path else ""
        reading.error(problem.code, f"correct {named}{where}: {problem.message}", at)
    _refuse_slips(reading, fields, schema)
    return Action(
        kind=kind,
        arguments=values,
        verbatim=tuple(name for name in values if name in schema.verbatim),
        sql=tuple(name for name in values if name in schema.sql),
    )


def _lift(reading: Reading, fields: Fields, name: str, places: Mapping[str, str]) -> None:
    """Move keys of the map `name` to where the rules for them hold: for credentials, and for what is no template."""
    found = fields.get(name)
    if found is None or not isinstance(found.value, dict):
        return
    rest = dict(found.value)
    for key, place in places.items():
        if key not in rest:
            continue
        value, pointer = rest.pop(key), join_pointer(found.pointer, key)
        to, _, alias = place.partition(".")
        there = fields.get(to)
        if not alias and there is None:
            fields[to] = Field(value, pointer)
        elif alias and (there is None or (isinstance(there.value, dict) and alias not in there.value)):
            fields[to] = Field({**(there.value if there else {}), alias: value}, there.pointer if there else pointer)
        else:
            reading.error("spelling_conflict", f"give `{key}` in `{name}` alone: it is said twice", pointer, key=True)
    fields[name] = Field(rest, found.pointer)


def _note_step_secrets(reading: Reading, found: Field) -> None:
    """SQL sees no secrets at all: `params` do."""
    for text, pointer in texts_in(found.value, found.pointer):
        reading.step_secrets.extend((name, pointer) for name in sorted(step_secrets_used(text, anywhere=True)))


def _warn_of_secrets(reading: Reading, found: Field, what: str) -> None:
    for text, pointer in texts_in(found.value, found.pointer):
        if holds_secret(text):
            advice = f"take the secret out of {what}: name a credential with `auth`, or write {{{{ secret.NAME }}}}"
            reading.warn("secret_in_playbook", advice, pointer)


def input_spellings(schema: KindSchema) -> tuple[str, ...]:
    """The spellings of inputs that the kind does not take as an argument."""
    return tuple(name for name in INPUTS if name not in schema.arguments)


def _is_argument(name: str, schema: KindSchema) -> bool:
    return name in schema.arguments and name not in STEP_CONTROL


def _decode_code(reading: Reading, fields: Fields, where: str) -> None:
    """Put code that is given in base64 under its plain name, as text."""
    for spelling in CODE[1:]:
        if spelling not in fields:
            continue
        found = fields[spelling]
        try:
            text = base64.b64decode(str(found.value), validate=True).decode()
        except ValueError:
            reading.error("invalid_argument", f"correct `{spelling}` {where}: it is no base64 of text", found.pointer)
            # Something is given, and what is wrong with it has been said.
            text = "..."
        fields[spelling] = Field(text, found.pointer)
    code = reading.one_of(fields, CODE, f"the code {where}")
    if code is not None:
        fields[CODE[0]] = code


def _refuse_slips(reading: Reading, fields: Fields, schema: KindSchema) -> None:
    """A key that looks like an argument's would be dropped without a word, so it is an error."""
    for name in tuple(fields):
        advice = suggestion(name, schema.arguments)
        if (
            advice
            and name not in STEP_CONTROL
            and name not in STEP_NOT_SUPPORTED
            and not suggestion(name, STEP_CONTROL)
        ):
            found = fields.pop(name)
            message = f"the {schema.kind} action has no `{shown(name)}`; {advice}"
            reading.error("unknown_argument", message, found.pointer, key=True)


def untyped_action(reading: Reading, fields: Fields) -> tuple[str, Field] | None:
    """A key that only an action has, on a step that names no kind."""
    for name, found in fields.items():
        if name not in STEP_CONTROL and name not in INPUTS and reading.schemas.kinds_with(name):
            return name, found
    return None
