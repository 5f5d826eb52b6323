"""The name of a step or a workbook task, which everything else refers to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from catalog.domain.reading import Field, Fields, Reading, shown
from catalog.domain.spelling import IDENTITY
from catalog.domain.template_syntax import is_template

MAX_NAME_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A step or task as it stands in the document, with its name."""

    name: str
    fields: Fields
    pointer: str


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
