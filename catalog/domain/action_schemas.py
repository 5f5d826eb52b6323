"""The arguments of the action kinds, as JSON Schemas that are handed in: the catalog knows no kind by itself.

A property may carry `x-noetl-template`: `verbatim` (never a template, as code) or `sql` (a template with
contextual escaping). A kind with `sql` arguments needs exactly one of them. Of an `auth` with
`x-noetl-credentials: many` all credentials are used; of any other, one. A map with `x-noetl-lifts: {KEY: PLACE}` has
keys that are written within it and belong beside it: at PLACE, an argument, or `ARGUMENT.ALIAS`, an entry of one.
A property with `x-noetl-sensitive: url` takes addresses that hold tokens; a kind with `x-noetl-caution` has something
to say to all who use it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jsonschema import Draft202012Validator, ValidationError

from catalog.domain.template_syntax import is_template

TEMPLATE_KEYWORD: Final = "x-noetl-template"
INSTEAD_KEYWORD: Final = "x-noetl-instead"
LIFTS_KEYWORD: Final = "x-noetl-lifts"
NESTED_KEYWORD: Final = "x-noetl-nested"
"""True in a kind's schema: its arguments stand in a map of the kind's name, and not beside the step's own keys."""
SENSITIVE_KEYWORD: Final = "x-noetl-sensitive"
CAUTION_KEYWORD: Final = "x-noetl-caution"
MAX_FOUND: Final = 20
MAX_MESSAGE: Final = 300
ADDRESSES: Final = ("endpoint", "url")
SOURCES: Final = ("code", "script")
"""Of each exactly one is given. Which exclude one another is code in the kinds, and not in their schemas."""


@dataclass(frozen=True, slots=True)
class ArgumentProblem:
    """One thing wrong with a kind's arguments; `path` leads to it from the arguments."""

    code: str
    message: str
    path: tuple[str | int, ...] = ()


class KindSchema:
    """The arguments one action kind takes."""

    def __init__(self, kind: str, schema: Mapping[str, Any]) -> None:
        self.kind = kind
        self.schema = dict(schema)
        properties: Mapping[str, Any] = schema.get("properties", {})
        self.arguments = tuple(properties)
        self.required = tuple(schema.get("required", ()))
        self.verbatim = _marked(properties, "verbatim")
        self.sql = _marked(properties, "sql")
        self.lifts: dict[str, dict[str, str]] = {
            name: given[LIFTS_KEYWORD] for name, given in properties.items() if LIFTS_KEYWORD in given
        }
        """Of each map the keys that belong elsewhere, and where to."""
        self.is_nested = bool(schema.get(NESTED_KEYWORD))
        self.addresses = _marked(properties, "url", SENSITIVE_KEYWORD)
        self.caution: str | None = schema.get(CAUTION_KEYWORD)
        self.instead = str(schema.get(INSTEAD_KEYWORD, ""))
        """What to write in the place of a form without SQL that the original had."""
        groups = (self.sql, *(tuple(name for name in group if name in properties) for group in (ADDRESSES, SOURCES)))
        self._one_of = tuple(names for names in groups if names)
        # What is missing is told by `missing`, in the words of the language.
        checked = {key: value for key, value in schema.items() if key not in ("required", "additionalProperties")}
        self._validator = Draft202012Validator(checked)

    def missing(self, given: Mapping[str, Any]) -> str | None:
        """The argument that is missing, as a sentence would name it, or None."""
        for name in self.required:
            if given.get(name) in (None, ""):
                return f"`{name}`"
        for names in self._one_of:
            if all(given.get(name) in (None, "", []) for name in names):
                return " or ".join(f"`{name}`" for name in names)
        return None

    def check(self, arguments: Mapping[str, Any]) -> Iterator[ArgumentProblem]:
        """What is wrong with the values; a template may stand anywhere, as its value is not known yet."""
        for names in self._one_of:
            for name in [name for name in names if name in arguments][1:]:
                yield ArgumentProblem("invalid_argument", f"give only one of {', '.join(names)}", (name,))
        found = 0
        for error in self._validator.iter_errors(arguments):
            if _concerns_template(error):
                continue
            yield ArgumentProblem("invalid_argument", _sentence(error), tuple(error.absolute_path))
            found += 1
            if found == MAX_FOUND:
                return


class ActionSchemas:
    """The schemas of all action kinds, by the kind's name."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._kinds = {kind: KindSchema(kind, schema) for kind, schema in sorted((schemas or {}).items())}

    def __contains__(self, kind: object) -> bool:
        return kind in self._kinds

    def __getitem__(self, kind: str) -> KindSchema:
        return self._kinds[kind]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds' names, sorted."""
        return tuple(self._kinds)

    def kinds_with(self, argument: str) -> list[str]:
        """The kinds whose steps take an argument of this name."""
        return [kind for kind, it in self._kinds.items() if argument in it.arguments and not it.is_nested]


def _marked(properties: Mapping[str, Any], mark: str, keyword: str = TEMPLATE_KEYWORD) -> tuple[str, ...]:
    return tuple(name for name, schema in properties.items() if schema.get(keyword) == mark)


def _concerns_template(error: ValidationError) -> bool:
    if error.validator in ("anyOf", "oneOf", "not", "if"):
        return _holds_template(error.instance)
    return isinstance(error.instance, str) and is_template(error.instance)


def _holds_template(value: Any) -> bool:
    if isinstance(value, str):
        return is_template(value)
    if isinstance(value, dict):
        return any(map(_holds_template, value.values()))
    return isinstance(value, list) and any(map(_holds_template, value))


def _sentence(error: ValidationError) -> str:
    best = error
    while best.validator in ("anyOf", "oneOf") and best.context:
        best = min(best.context, key=lambda inner: (inner.validator == "type", len(inner.absolute_path)))
        if best.validator == "type":
            wanted = sorted({str(inner.validator_value) for inner in error.context if inner.validator == "type"})
            return f"give one of these types: {', '.join(wanted)}"
    return best.message if len(best.message) <= MAX_MESSAGE else f"{best.message[: MAX_MESSAGE - 1]}…"
