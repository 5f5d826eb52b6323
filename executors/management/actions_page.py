"""The pages of action kinds in Markdown (docs/actions.md, `manage.py actions`), of what the kinds say of themselves."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from executors.contract import ActionKind
from executors.registry import InstalledKind

_TYPES: Final = {
    "string": "text",
    "object": "map",
    "array": "list",
    "integer": "whole number",
    "boolean": "true or false",
}
_HEAD: Final = """# Action kinds

Written by `make actions`, from what the kinds say of themselves. `manage.py actions NAME` prints the page of one, also
of a [plugin](plugins.md). What all kinds share (inputs, failures, retries, SQL templates) is in
[The language](language.md).
"""
_RENDERED: Final = {"verbatim": "never a template", "sql": "SQL: values are escaped for their place"}


def page_of(kind: type[ActionKind], origin: str) -> str:
    """One kind: what it does, its arguments, its result, its errors, an example."""
    schema = kind.Arguments.model_json_schema()
    parts = [f"## {kind.name}", summary_of(kind)]
    if origin != "built in":
        parts.append(f"From {origin}.")
    if notes := vars(kind.Arguments).get("__doc__"):
        parts.append(inspect.cleandoc(notes))
    if schema.get("properties"):
        parts.append(_arguments_table(schema))
    parts += [f"**Result.** {kind.result}"] * bool(kind.result)
    if kind.errors:
        rows = [f"| `{code}` | {meaning} |" for code, meaning in kind.errors.items()]
        parts.append("\n".join(["| error | when |", "|---|---|", *rows]))
    if kind.example:
        parts.append(f"```yaml\n{kind.example.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def document_of(kinds: Iterable[InstalledKind]) -> str:
    """The pages of several kinds, under one heading."""
    return "\n".join([_HEAD, *(page_of(installed.kind, installed.origin) for installed in kinds)])


def summary_of(kind: type[ActionKind]) -> str:
    """The first paragraph of a kind's documentation, in one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _arguments_table(schema: Mapping[str, Any]) -> str:
    definitions, required = schema.get("$defs", {}), schema.get("required", ())
    rows = ["| argument | type | default | |", "|---|---|---|---|"]
    for name, given in schema["properties"].items():
        default = "required" if name in required else _shown(given.get("default"))
        notes = [_description_of(given, definitions), _RENDERED.get(given.get("x-noetl-template"), "")]
        told = "; ".join(note for note in notes if note)
        rows.append(f"| `{name}` | {_type_of(given, definitions)} | {default} | {_cell(told)} |")
    return "\n".join(rows)


def _description_of(given: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Its own, or that of the map that it is: pydantic leaves out what is said there already."""
    own = given.get("description") or definitions.get(given.get("$ref", "").rpartition("/")[2], {}).get("description")
    return str(own or "")


def _type_of(given: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in given:
        return _type_of(definitions[given["$ref"].rpartition("/")[2]], definitions)
    choices = given.get("anyOf") or given.get("oneOf")
    if choices:
        told = [_type_of(choice, definitions) for choice in choices if choice.get("type") != "null"]
        return " or ".join(dict.fromkeys(told))
    if "enum" in given or "const" in given:
        return ", ".join(f"`{value}`" for value in given.get("enum", [given.get("const")]))
    named = str(given.get("type", "any"))
    return _TYPES.get(named, named)


def _shown(default: Any) -> str:
    return "" if default in (None, {}, []) else f"`{json.dumps(default)}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
