"""`type: wait` and `type: approval`: what a step waits for. Source: docs/language.md."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from catalog.domain.playbook import Wait
from catalog.domain.reading import Field, Fields, Reading, Use, shown
from catalog.domain.spelling import APPROVAL_KEYS, FORM_KEYS, SIGNAL
from catalog.domain.template_syntax import is_template

_SIGNAL_WORD: Final = "signal "
FORM_TYPES: Final[dict[str, str]] = {
    **dict.fromkeys(("text", "string"), "text"),
    **dict.fromkeys(("number", "float"), "number"),
    **dict.fromkeys(("integer", "int"), "integer"),
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    "date": "date",
}
"""Types of a form's fields, and the one spelling they get."""


def read_wait(reading: Reading, fields: Fields, where: str, pointer: str, uses: list[Use]) -> Wait | None:
    """Take `duration`, `until` or a signal out of the fields; exactly one is needed."""
    given = {name: fields.pop(name) for name in ("duration", "until", *SIGNAL) if name in fields}
    if not given:
        advice = f"give `duration`, `until` or `for: signal NAME` {where}: what it waits for"
        reading.error("missing_argument", advice, pointer)
        return None
    (name, found), *others = given.items()
    for other, extra in others:
        advice = f"give only one of `{name}` and `{other}` {where}"
        reading.error("invalid_argument", advice, extra.pointer, key=True)
    reading.templates(found, f"in `{name}` {where}", uses)
    kind: Literal["duration", "until", "signal"] = (
        "duration" if name == "duration" else "until" if name == "until" else "signal"
    )
    readers = {"duration": _duration, "until": _until, "signal": _signal_of_key, "for": _signal_of_for}
    what = readers[name](reading, found, where)
    return None if what is None else Wait(kind=kind, what=what)


def _duration(reading: Reading, found: Field, where: str) -> Any:
    if isinstance(found.value, str) and is_template(found.value):
        return found.value
    if found.value is None:
        reading.error("wrong_value", f"make `duration` {where} seconds, or a text as 90s, 5m or 2h", found.pointer)
    return reading.duration(found, f"`duration` {where}")


def _until(reading: Reading, found: Field, where: str) -> str | None:
    text = found.value.strip() if isinstance(found.value, str) else ""
    if is_template(text):
        return text
    try:
        if datetime.fromisoformat(text).tzinfo is not None:
            return text
    except ValueError:
        pass
    advice = f"make `until` {where} a time with its zone, as 2030-01-31T08:00:00Z, or a template that gives one"
    reading.error("wrong_value", advice, found.pointer)
    return None


def _signal_of_key(reading: Reading, found: Field, where: str) -> str | None:
    if isinstance(found.value, str) and found.value.strip():
        return found.value.strip()
    reading.error("wrong_value", f"make `signal` {where} the signal's name", found.pointer)
    return None


def _signal_of_for(reading: Reading, found: Field, where: str) -> str | None:
    if isinstance(found.value, dict) and list(found.value) == ["signal"]:
        return _signal_of_key(reading, Field(found.value["signal"], f"{found.pointer}/signal"), where)
    if isinstance(found.value, str):
        text = found.value.strip()
        if text.lower().startswith(_SIGNAL_WORD):
            return text[len(_SIGNAL_WORD) :].strip()
    advice = f"write `for: signal NAME` {where}; for a length of time use `duration`"
    reading.error("wrong_value", advice, found.pointer)
    return None


# -- approvals --------------------------------------------------------------------------------------------


def read_approval(reading: Reading, fields: Fields, where: str, pointer: str, uses: list[Use]) -> Wait | None:
    """Take the question, its form and who may answer out of the fields."""
    given = {name: fields.pop(name) for name in sorted(APPROVAL_KEYS) if name in fields}
    message = given.get("message")
    approvers = _approvers(reading, given.get("approvers"), where)
    form = _form(reading, given.get("form"), where, uses)
    text = reading.text(message, f"`message` {where}").strip()
    if message is None or message.value in (None, ""):
        reading.error("missing_argument", f"give `message` {where}: what is to be approved", pointer)
        return None
    reading.templates(message, f"in `message` {where}", uses)
    return Wait(kind="approval", what=text, form=form, approvers=approvers)


def _approvers(reading: Reading, found: Field | None, where: str) -> tuple[str, ...]:
    names: list[str] = []
    for item in reading.one_or_more(found):
        if isinstance(item.value, str) and item.value.strip() and not is_template(item.value):
            names.append(item.value.strip())
        else:
            advice = f"make `approvers` {where} names of users and groups, and no templates"
            reading.error("wrong_type", advice, item.pointer)
    return tuple(names)


def _form(reading: Reading, found: Field | None, where: str, uses: list[Use]) -> dict[str, Any]:
    if found is None:
        return {}
    form: dict[str, Any] = {}
    for name, field in reading.fields(found.value, found.pointer, f"`form` {where}").items():
        what = f"the field `{shown(name)}` of the form {where}"
        entries = reading.fields(field.value, field.pointer, what)
        kind, label = entries.pop("type", None), entries.pop("label", None)
        given: dict[str, Any] = {
            "type": reading.choice(kind, f"`type` of {what}", FORM_TYPES, "text"),
            "label": reading.text(label, f"`label` of {what}") or name,
            "required": reading.flag(entries.pop("required", None), f"`required` of {what}") or False,
        }
        if "default" in entries:
            default = entries.pop("default")
            reading.templates(default, f"in `default` of {what}", uses)
            given["default"] = default.value
        reading.leftovers(entries, what, FORM_KEYS, {}, severity="error")
        form[name] = given
    return form
