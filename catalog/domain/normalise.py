"""A document to the typed playbook, with all of its problems at once.

Every accepted spelling ends here: nothing after this module knows that there were several.
Source: docs/language.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.checks import Head, check_playbook
from catalog.domain.children import check_path
from catalog.domain.loop_checks import link_loops
from catalog.domain.naming import NamedPart, read_name
from catalog.domain.notices import read_notices
from catalog.domain.parser import Document, join_pointer, parse
from catalog.domain.playbook import MAX_VISITS, Playbook
from catalog.domain.queueing_keys import read_pool, read_priority
from catalog.domain.reading import Field, Fields, Reading, Use, shown, suggestion
from catalog.domain.reads import with_reads
from catalog.domain.spelling import TOP_KEYS, TOP_NOT_SUPPORTED
from catalog.domain.steps import StepRead, StepReader
from catalog.domain.template_syntax import is_template
from catalog.domain.transitions import TransitionReader
from catalog.domain.works import Work, WorkReader
from catalog.errors import Problem

API_PREFIX: Final = "noetl.io/"
DEFAULT_MAX_VISITS: Final = 1000
_COERCIONS: Final[dict[str, Literal["native", "legacy"]]] = {"native": "native", "legacy": "legacy"}


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
    timeout = reading.duration(fields.pop("timeout", None), "`timeout` of the playbook")
    priority = read_priority(reading, fields.pop("priority", None), "of the playbook")
    pool = read_pool(reading, fields.pop("pool", None), "of the playbook")
    max_running_jobs = reading.count(fields.pop("max_running_jobs", None), "`max_running_jobs`")
    coerce = reading.choice(fields.pop("coerce", None), "`coerce`", _COERCIONS, "native")
    handlers, closing = fields.pop("on_error", None), fields.pop("finally", None)
    notify = fields.pop("notify", None)
    credentials = _read_credentials(reading, fields.pop("credentials", None))
    workflow, workbook = _split_lists(reading, fields)
    reading.leftovers(fields, "a playbook", TOP_KEYS, TOP_NOT_SUPPORTED)
    tasks = _read_workbook(reading, workbook)
    reads = _read_workflow(reading, workflow, tasks)
    _check_credentials(reading, credentials, reads)
    if not reads or not (identity["name"] and identity["path"]):
        return None
    link_loops(reading, reads)
    names = {found.step.name: index for index, found in enumerate(reads)}
    _check_override(reading, workload.get("steps_override"), names)
    reads += read_notices(reading, notify, {found.step.name: found.pointer for found in reads})
    on_error = TransitionReader(reading, names, "in `on_error` of the playbook", uses)
    with reading.shaping_the_graph():
        error_targets = on_error.targets(handlers)
        finally_steps = _read_finally(reading, closing, names)
    playbook = with_reads(
        Playbook(
            name=identity["name"],
            path=identity["path"],
            description=identity["description"],
            workload={
                name: _in_order(entry.value) if name == "steps_override" else entry.value
                for name, entry in workload.items()
            },
            steps=tuple(found.step for found in reads),
            max_visits=max_visits,
            timeout_seconds=timeout,
            priority=priority,
            pool=pool,
            max_running_jobs=max_running_jobs,
            on_error=error_targets,
            finally_steps=tuple(finally_steps),
            coerce=coerce,
        )
    )
    if "start" in playbook.index_by_name:
        head = Head(uses, on_error.given, frozenset(tasks), on_error.places, finally_steps)
        check_playbook(reading, playbook, reads, head)
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
            check_path(reading, read[key], places[0])
    for key in ("version", "author", "tags", "labels"):
        fields.pop(key, None)
    return read


def _read_workload(reading: Reading, found: Field | None, uses: list[Use]) -> Fields:
    if found is None:
        return {}
    entries = reading.fields(found.value, found.pointer, "`workload`")
    for name, entry in entries.items():
        reading.templates(entry, f"in the workload key {shown(name)}", uses, "workload")
    return entries


def _check_override(reading: Reading, found: Field | None, steps: Mapping[str, int]) -> None:
    """`steps_override`: a list of steps, or a map from steps to inputs; what a template gives is seen at the start."""
    if found is None or found.value is None or (isinstance(found.value, str) and is_template(found.value)):
        return
    if not isinstance(found.value, list | dict):
        advice = "make `steps_override` a list of steps, or a map from steps to their inputs"
        reading.error("wrong_type", advice, found.pointer)
        return
    if isinstance(found.value, dict):
        for name in found.value:
            _known_step(reading, name, join_pointer(found.pointer, name), steps, key=True)
        return
    for index, item in enumerate(found.value):
        named = item.get("step") if isinstance(item, dict) else item
        _known_step(reading, named, join_pointer(found.pointer, index), steps)


def _in_order(override: Any) -> Any:
    """`steps_override` as a list: the stored form of a map keeps no order, and here it is the whole point."""
    if not isinstance(override, dict) or not override:
        return override
    return [{"step": name, "with": inputs} for name, inputs in override.items()]


def _read_finally(reading: Reading, found: Field | None, steps: Mapping[str, int]) -> dict[str, str]:
    """The steps of `finally`, each with the place where it is named."""
    places: dict[str, str] = {}
    for item in reading.one_or_more(found):
        if _known_step(reading, item.value, item.pointer, steps):
            places.setdefault(item.value, item.pointer)
    return places


def _known_step(reading: Reading, name: Any, pointer: str, steps: Mapping[str, int], *, key: bool = False) -> bool:
    if not isinstance(name, str):
        reading.error("wrong_type", "name a step here, as a text", pointer)
    elif name not in steps:
        advice = suggestion(name, steps) or "add the step, or name another"
        reading.error("unknown_target", f"there is no step `{shown(name)}`; {advice}", pointer, key=key)
    return isinstance(name, str) and name in steps


def _read_credentials(reading: Reading, found: Field | None) -> list[tuple[str, str]]:
    """The playbook's own list `{name, as}`, as names and their pointers; its aliases hold in every `auth`."""
    if found is None or found.value is None:
        return []
    if not isinstance(found.value, list):
        reading.error("wrong_type", "make `credentials` a list of {name: NAME}", found.pointer)
        return []
    listed: list[tuple[str, str]] = []
    for index, value in enumerate(found.value):
        item = reading.fields(value, join_pointer(found.pointer, index), "a credential")
        name, alias = (reading.text(item.get(key), f"`{key}`").strip() for key in ("name", "as"))
        listed.append((name, join_pointer(found.pointer, index)))
        if name and alias and reading.credential_aliases.setdefault(alias, name) != name:
            reading.error(
                "wrong_value", f"call another credential `{shown(alias)}`", join_pointer(found.pointer, index)
            )
    return listed


def _check_credentials(reading: Reading, listed: list[tuple[str, str]], reads: Iterable[StepRead]) -> None:
    actions = [found.step.action for found in reads]
    actions += [save.action for found in reads for save in found.step.saves]
    used = {name for action in actions if action is not None for name in _names_in(action.arguments.get("auth"))}
    for name, pointer in listed:
        if name not in used:
            advice = "name the credential on the step that uses it, with `auth: NAME`: no step does"
            reading.warn("credentials_not_read", advice, pointer)


def _names_in(auth: Any) -> set[str]:
    """The texts in an `auth`: names of credentials among them."""
    if isinstance(auth, dict):
        return {name for entry in auth.values() for name in _names_in(entry)}
    return {auth} if isinstance(auth, str) else set()


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
    tasks: dict[str, Work] = {}
    reader = WorkReader(reading, tasks)
    for part in parts:
        tasks[part.name] = reader.of_task(part)
    return tasks


def _read_workflow(reading: Reading, found: Field | None, tasks: dict[str, Work]) -> list[StepRead]:
    if found is None:
        reading.error("missing_workflow", "add `workflow` with a step called start", "")
        return []
    with reading.shaping_the_graph():
        parts = _named_parts(reading, _items(reading, found, "`workflow`"), "a step", "duplicate_step")
    steps = {part.name: index for index, part in enumerate(parts)}
    if "start" not in steps and isinstance(found.value, list):
        reading.error("missing_start", "add a step called start: the execution begins there", found.pointer)
    reader = StepReader(reading, steps, tasks)
    return [reader.read(part) for part in parts]
