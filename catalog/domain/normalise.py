"""A document to the typed playbook, with all of its problems at once.

Every accepted spelling ends here: nothing after this module knows that there were several.
Source: docs/language.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.actions import Work
from catalog.domain.checks import check_playbook
from catalog.domain.parser import Document, join_pointer, parse
from catalog.domain.playbook import MAX_VISITS, Playbook
from catalog.domain.reading import Field, Fields, Reading, Use, shown
from catalog.domain.spelling import TOP_KEYS, TOP_NOT_SUPPORTED
from catalog.domain.steps import NamedPart, StepRead, StepReader, read_name, read_task
from catalog.errors import Problem

API_PREFIX: Final = "noetl.io/"
DEFAULT_MAX_VISITS: Final = 1000
MAX_PATH_CHARS: Final = 500
_PATH: Final = re.compile(r"[^\s:/\x00-\x1f]+(?:/[^\s:/\x00-\x1f]+)*")


def read_playbook(text: str, schemas: ActionSchemas) -> tuple[Playbook | None, tuple[Problem, ...]]:
    """Parse and normalise a text."""
    return normalise(parse(text), schemas)


def normalise(document: Document, schemas: ActionSchemas) -> tuple[Playbook | None, tuple[Problem, ...]]:
    """The playbook (None when there is an error) and all problems, in the order of the text."""
    reading = Reading(document, schemas)
    playbook = _read(reading)
    problems = tuple(sorted(dict.fromkeys(reading.problems), key=lambda found: (found.line, found.column)))
    if any(problem.severity == "error" for problem in problems):
        return None, problems
    return playbook, problems


def _read(reading: Reading) -> Playbook | None:
    if not isinstance(reading.document.value, dict):
        if not reading.problems:
            reading.error("not_a_playbook", "write a map with apiVersion, kind, name, path and workflow", "")
        return None
    fields = reading.fields(reading.document.value, "", "the playbook")
    _check_header(reading, fields)
    identity = _read_identity(reading, fields)
    uses: list[Use] = []
    workload = _read_workload(reading, fields.pop("workload", None), uses)
    max_visits = reading.count(fields.pop("max_visits", None), "`max_visits`", MAX_VISITS) or DEFAULT_MAX_VISITS
    workflow, workbook = _split_lists(reading, fields)
    reading.leftovers(fields, "a playbook", TOP_KEYS, TOP_NOT_SUPPORTED)
    tasks = _read_workbook(reading, workbook)
    reads = _read_workflow(reading, workflow, tasks)
    if not reads or not (identity["name"] and identity["path"]):
        return None
    playbook = Playbook(
        name=identity["name"],
        path=identity["path"],
        description=identity["description"],
        workload=workload,
        steps=tuple(found.step for found in reads),
        max_visits=max_visits,
    )
    if "start" in playbook.index_by_name:
        check_playbook(reading, playbook, reads, uses)
    return playbook


# -- the head -------------------------------------------------------------------------------------------


def _check_header(reading: Reading, fields: Fields) -> None:
    version = fields.pop("apiVersion", None)
    if version is None:
        reading.error("api_version", "add `apiVersion: noetl.io/v1`", "")
    elif not (isinstance(version.value, str) and version.value.startswith(API_PREFIX)):
        reading.error("api_version", "make `apiVersion` begin with noetl.io/, as noetl.io/v1", version.pointer)
    kind = fields.pop("kind", None)
    if kind is None:
        reading.error("kind", "add `kind: Playbook`", "")
    elif not (isinstance(kind.value, str) and kind.value.lower() == "playbook"):
        reading.error("kind", "make `kind` Playbook: nothing else can be registered", kind.pointer)


def _read_identity(reading: Reading, fields: Fields) -> dict[str, str]:
    """Name, path and description, from `metadata` or beside it; `metadata` is the newer place."""
    found = fields.pop("metadata", None)
    metadata = {} if found is None else reading.fields(found.value, found.pointer, "`metadata`")
    read: dict[str, str] = {}
    for key in ("name", "path", "description"):
        places = [place.pop(key) for place in (metadata, fields) if key in place]
        read[key] = reading.text(places[0] if places else None, f"`{key}`").strip()
        if len(places) == 2 and places[0].value != places[1].value:
            advice = f"keep one `{key}`: the one in `metadata` counts, this is ignored"
            reading.warn("spelling_conflict", advice, places[1].pointer, key=True)
        if key != "description" and not read[key] and not (places and places[0].value):
            reading.error(f"missing_{key}", f"add `{key}`", places[0].pointer if places else "")
        if key == "path" and read[key]:
            _check_path(reading, read[key], places[0])
    for key in ("version", "author", "tags"):
        fields.pop(key, None)
    return read


def _check_path(reading: Reading, path: str, found: Field) -> None:
    # A client takes . and .. for steps within an address, and would never ask for what lies there.
    if len(path) > MAX_PATH_CHARS or not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        advice = "make `path` names joined by /, as team/daily/report, without blanks and colons"
        reading.error("invalid_path", advice, found.pointer)


def _read_workload(reading: Reading, found: Field | None, uses: list[Use]) -> dict[str, Any]:
    if found is None:
        return {}
    entries = reading.fields(found.value, found.pointer, "`workload`")
    if "steps_override" in entries:
        pointer = entries["steps_override"].pointer
        reading.error("not_supported", "`steps_override` is not supported yet: remove it", pointer, key=True)
    for name, entry in entries.items():
        reading.templates(entry, f"in the workload key {shown(name)}", uses, "workload")
    return {name: entry.value for name, entry in entries.items()}


# -- workflow and workbook --------------------------------------------------------------------------------


def _split_lists(reading: Reading, fields: Fields) -> tuple[Field | None, Field | None]:
    """The lists of steps and of workbook tasks; `tasks` is the workbook beside `workflow` or `steps`."""
    workflow = reading.one_of(fields, ("workflow", "steps"), "the workflow")
    if workflow is None:
        workflow = fields.pop("tasks", None)
    if "workbooks" in fields:
        reading.warn("misspelt_key", "write `workbook`", fields["workbooks"].pointer, key=True)
    workbook = reading.one_of(fields, ("workbook", "workbooks", "tasks"), "the workbook")
    return workflow, workbook


def _items(reading: Reading, found: Field, what: str) -> list[Field]:
    if isinstance(found.value, list):
        return [Field(value, join_pointer(found.pointer, index)) for index, value in enumerate(found.value)]
    reading.error("wrong_type", f"make {what} a list", found.pointer)
    return []


def _named_parts(reading: Reading, items: Iterable[Field], what: str, code: str) -> list[NamedPart]:
    """The parts by name; the first of two with one name is kept."""
    parts: dict[str, NamedPart] = {}
    for item in items:
        part = read_name(reading, item, what)
        if part is None:
            continue
        if part.name in parts:
            first, _ = reading.document.place(parts[part.name].pointer)
            advice = f"rename it: {what} called `{shown(part.name)}` is already in line {first}"
            reading.error(code, advice, part.pointer)
            continue
        parts[part.name] = part
    return list(parts.values())


def _read_workbook(reading: Reading, found: Field | None) -> dict[str, Work]:
    if found is None or found.value is None:
        return {}
    parts = _named_parts(reading, _items(reading, found, "`workbook`"), "a workbook task", "duplicate_task")
    return {part.name: read_task(reading, part) for part in parts}


def _read_workflow(reading: Reading, found: Field | None, tasks: dict[str, Work]) -> list[StepRead]:
    if found is None:
        reading.error("missing_workflow", "add `workflow` with a step called start", "")
        return []
    parts = _named_parts(reading, _items(reading, found, "`workflow`"), "a step", "duplicate_step")
    steps = {part.name: index for index, part in enumerate(parts)}
    if "start" not in steps and isinstance(found.value, list):
        reading.error("missing_start", "add a step called start: the execution begins there", found.pointer)
    reader = StepReader(reading, steps, tasks)
    return [reader.read(part) for part in parts]
