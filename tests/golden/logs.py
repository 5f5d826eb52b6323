"""Reading and writing golden logs, and what a log means."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from catalog.api import Playbook, validate_text
from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.fold import apply, place_of
from executions.domain.memory import MemoryLog
from executions.domain.state import State
from tests.support.platform import ROOT

FOLDER: Final = Path(__file__).parent
ENDS: Final = (ev.STEP_COMPLETED, ev.STEP_FAILED, ev.STEP_SKIP)


@dataclass(frozen=True, slots=True)
class Golden:
    """A log, the playbook that it is of, and what it means."""

    playbook: Playbook
    events: list[Event]
    meaning: dict[str, Any]


def version() -> str:
    """The version that is being worked on."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: str = tomllib.load(file)["project"]["version"]
    return found


def read(file: Path) -> Golden:
    """A golden log. Raises: `EventsTooNew`."""
    head, *lines = map(json.loads, file.read_text().splitlines())
    ev.refuse_newer(file.stem, [line.pop("format") for line in lines])
    return Golden(playbook_of(head["playbook"]), [Event(**line) for line in lines], head["meaning"])


def write(file: Path, text: str, rows: Iterable[dict[str, Any]], meaning: dict[str, Any]) -> None:
    """Write a golden log; `rows` are events as maps, with their `format`."""
    lines = [{"playbook": text, "meaning": meaning}, *rows]
    file.write_text("".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines))


def playbook_of(text: str) -> Playbook:
    """The playbook of a text, which a version of an older form is read from as well."""
    playbook, problems = validate_text(text)
    assert playbook is not None, problems
    return playbook


def meaning_of(playbook: Playbook, events: Iterable[Event]) -> dict[str, Any]:
    """What a log means, folded event by event: not how the state is stored, but what it says.

    `course`: each status and phase that it went through; `ends`: how each step ended, by its node, as the state has it;
    `results`: what later steps see of them; `status`, `result` and `error`: how it all ended.
    """
    state, log = State(), MemoryLog()
    course: list[str] = []
    ends: list[list[str | None]] = []
    for event in events:
        apply(state, event, playbook)
        log.append(event, "")
        now = f"{state.status} {state.phase}".strip()
        if course[-1:] != [now]:
            course.append(now)
        if event.type in ENDS:
            place = place_of(playbook, event)
            ends.append([_node(event), state.frames[place.key].step_status(place.step)])
    found = {_node(event): log.result(event.node_id) for event in log if event.type in ENDS}
    results = {node: result.data for node, result in found.items() if result is not None}
    last = next(event for event in reversed(log.events) if event.type in ev.TERMINAL)
    told = {"status": state.status, "result": last.result, "error": last.error}
    return {"course": course, "ends": ends, "results": results, **told}


def _node(event: Event) -> str:
    """A step's node without the execution."""
    return event.node_id.partition(":")[2]
