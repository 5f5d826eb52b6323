"""Conditions: `when`, `pass` and `filter`, evaluated to a truth and to an explanation.

A failing or undefined expression is false, with a warning. Source: docs/language.md, "Truth".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from catalog.domain.template_syntax import is_template
from executions.domain.results import MISSING
from executions.domain.templating import (
    Lookup,
    compile_template,
    render_text,
    resolve_path,
)
from executions.errors import TemplateError, shorten

FALSE_TEXTS: Final = frozenset({"", "0", "false", "no", "n", "off", "none", "null"})
MAX_SHOWN_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a condition: its truth, and what explains it. `warning` is set when it failed."""

    truth: bool
    expression: str
    value: Any
    operands: dict[str, Any]
    warning: str = ""

    def explain(self) -> dict[str, Any]:
        """The verdict as an event holds it."""
        told = {"expression": self.expression, "value": self.value, "truth": self.truth}
        if self.operands:
            told["operands"] = self.operands
        if self.warning:
            told["warning"] = self.warning
        return told


def is_true(value: Any) -> bool:
    """The truth of a value: empty things and the texts `'' 0 false no n off none null` (any case) are false."""
    if isinstance(value, str):
        return value.strip().lower() not in FALSE_TEXTS
    return bool(value)


def evaluate(condition: Any, lookup: Lookup) -> Verdict:
    """Evaluate a condition: a template's text, or a plain value. Never raises."""
    if not (isinstance(condition, str) and is_template(condition)):
        return Verdict(is_true(condition), str(condition), condition, {})
    try:
        value = render_text(condition, lookup)
    except TemplateError as error:
        return Verdict(False, condition, None, _operands(condition, lookup), str(error))
    return Verdict(is_true(value), condition, _shown(value), _operands(condition, lookup))


def _operands(condition: str, lookup: Lookup) -> dict[str, Any]:
    try:
        paths = compile_template(condition).operands
    except TemplateError:
        return {}
    values = ((".".join(path), resolve_path(path, lookup)) for path in paths)
    return {name: _shown(value) for name, value in values if value is not MISSING}


def _shown(value: Any) -> Any:
    """A value short enough to stand in an event: scalars as they are, the rest as the start of its text."""
    if isinstance(value, str):
        return shorten(value, MAX_SHOWN_CHARS)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | dict) and len(value) > 20:
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value) if isinstance(value, list | dict) else f"a {type(value).__name__}"
    return shorten(text.replace("\x00", "\\x00").encode("utf-8", "replace").decode(), MAX_SHOWN_CHARS)


def mentions_failure(condition: str, step: str) -> bool:
    """Whether the condition asks for the `status` or the `error` of the step, which makes it an error branch."""
    try:
        paths = compile_template(condition).operands
    except TemplateError:
        return False
    asked = ("status", "error")
    for whole in paths:
        path = whole[1:] if whole[0] == "steps" else whole
        if path[:1] in (("status",), ("error",)) or (len(path) > 1 and path[0] == step and path[1] in asked):
            return True
    return False
