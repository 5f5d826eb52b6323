"""A document to the typed playbook, with all of its problems at once.

Every accepted spelling ends here: nothing after this module knows that there were several. Source: docs/language.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.actions import Work
from catalog.domain.checks import check_playbook
from catalog.domain.parser import Document, join_pointer, parse
from catalog.domain.playbook import Playbook
from catalog.domain.reading import Field, Fields, Reading, Use, shown
from catalog.domain.spelling import TOP_KEYS, TOP_NOT_SUPPORTED
from catalog.domain.steps import NamedPart, StepRead, StepReader, read_name, read_task
from catalog.errors import Problem

API_PREFIX: Final = "noetl.io/"
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
    max_visits = reading.count(fields.pop("max_visits", None), "`max_visits`")
    workflow, workbook = _split_lists(reading, fields)
    reading.leftovers(fields, "a playbook", TOP_KEYS, TOP_NOT_SUPPORTED)
    tasks = _read_workbook(reading, workbook)
    reads = _read_workflow(reading, workflow, tasks)
    if not reads or not all(identity.values()):
        return None
    playbook = Playbook(
        name=identity["name"],
        path=identity["path"],
        description=identity["description"],
        workload=workload,
        steps=tuple(found.step for found in reads),
        **({} if max_visits is None else {"max_visits": max_visits}),
    )
    if all(target in playbook.index_by_name for target in ("start", *_targets(playbook))):
        check_playbook(reading, playbook, reads, uses)
    return playbook


def _targets(playbook: Playbook) -> Iterator[str]:
    for step in playbook.steps:
        for item in step.next:
            yield from (target.step for target in (*item.then, *item.otherwise))
