"""The corpus of playbooks, one idea each: what stands in its files, and what a run must have come to.

`tests/playbooks/<group>/<name>.yaml` is a playbook that begins with a comment: what it shows, by which rule. Beside it
stands `<name>.expected.yaml`, written by hand from the rule:

| key | means |
|---|---|
| `payload`, `merge` | what it is started with |
| `credentials` | the names of those that it may use (`tests.support.lending`) |
| `children` | files beside it that are registered too (`*.child.yaml`, no cases of their own) |
| `warnings` | the codes that its registration gives, in any order; none without it |
| `refused` | the code with which its start is refused; nothing else is expected then |
| `status` | `completed` without it |
| `result` | compared as a whole; null without it |
| `error` | compared as far as it goes: `{code, step, ...}` |
| `events` | per node (`step`, `step:item`, `step#visit`, `""` for the execution) its events in order, see `events_of` |
| `order` | lists of `node event`: they stand in the log in this order |
| `details` | `[{at: node, event: type, has: {...}}]`: an event, compared as far as `has` goes |
| `happenings` | what is done to it, one after the other: `{after: type, at: node, do: ...}`, see `Happening` |
| `runs` | the child executions in the order of their start: `{path, status, result, error}` |

Without `""` in `events` the execution starts and ends, and nothing else. Anywhere, `<any>` stands for whatever is
there, `<id>` for the execution's id and `<api>` for the address of the tests' HTTP server (`tests.support.webserver`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from catalog.domain.parser import parse
from executions.domain.events import Event

FOLDER: Final = Path(__file__).resolve().parents[1] / "playbooks"
ANY: Final = "<any>"

LIVES: Final = {
    "ran": ("step_started", "action_started", "action_completed", "step_completed"),
    "failed": ("step_started", "action_started", "action_error", "step_failed"),
    "led": ("step_started", "step_completed"),
    "skipped": ("step_skip",),
    "called": ("step_started", "child_started", "child_completed", "step_completed"),
    "timed": ("step_started", "wait_started", "timer_fired", "wait_completed", "step_completed"),
    "waited": ("step_started", "wait_started", "wait_completed", "step_completed"),
    "looped": ("step_started", "loop_start", "loop_completed", "step_completed"),
    "saved": ("save_started", "action_started", "action_completed"),
    "item": ("loop_iteration", "action_started", "action_completed"),
}
"""The ordinary lives of a node, by the words that stand for them."""

SAID_STATUS: Final = frozenset(
    {"child_completed", "loop_completed", "loop_iteration_completed", "wait_completed", "step_undone"}
)
"""Events of which it is said when their status is `error`."""


@dataclass(frozen=True, slots=True)
class Happening:
    """What is done to an execution once an event of type `after` has been seen `at` a node.

    `do`: `signal` (`name`, `data`), `approve` or `reject` (`data`; the node `on`, or else where it was seen; `by`
    somebody, or else the platform's first user), `pause`, `resume`, `cancel`. The next one is looked for from the
    event after that. `refused`: the code with which a server refuses it; locally, where people have no names, it is
    not done.
    """

    after: str
    do: str
    at: str = ""
    name: str = ""
    data: Any = None
    on: str = ""
    by: str = ""
    refused: str = ""

    @property
    def place(self) -> str:
        """The node that it is done to."""
        return self.on or self.at


@dataclass(frozen=True, slots=True)
class Case:
    """A playbook of the corpus and what is expected of it."""

    file: Path
    text: str
    expected: Mapping[str, Any]
    children: tuple[str, ...] = ()
    happenings: tuple[Happening, ...] = ()
    credentials: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Group and name."""
        return str(self.file.relative_to(FOLDER).with_suffix(""))


@dataclass(slots=True)
class Told:
    """What came of a run, whichever way it was run.

    `log` are its events, `times` when each was written, `state` and `frames` what was stored at the end, `runs` its
    children.
    """

    execution_id: str = ""
    status: str = ""
    result: Any = None
    error: Any = None
    log: list[Event] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    state: Any = None
    frames: Any = None
    warnings: list[str] = field(default_factory=list)
    refused: str = ""
    runs: list[dict[str, Any]] = field(default_factory=list)


def read_cases() -> list[Case]:
    """Every case below the folder, sorted; a playbook without its expectations is a mistake."""
    files = {file for file in FOLDER.rglob("*.yaml") if file.parent.name != "broken"}
    expectations = {file for file in files if file.name.endswith(".expected.yaml")}
    books = {file for file in files - expectations if not file.name.endswith(".child.yaml")}
    assert {file.with_suffix(".expected.yaml") for file in books} == expectations
    return [_read_case(file) for file in sorted(expectations)]


def _read_case(file: Path) -> Case:
    expected = _value(file)
    unknown = expected.keys() - KEYS
    assert not unknown, f"{file} has unknown keys: {unknown}"
    book = file.with_name(file.name.replace(".expected.yaml", ".yaml"))
    children = tuple((file.parent / child).read_text() for child in expected.get("children", []))
    happenings = tuple(Happening(**happening) for happening in expected.get("happenings", []))
    text = book.read_text()
    assert text.startswith("# "), f"{book} does not begin with what it shows"
    credentials = tuple(expected.get("credentials", []))
    return Case(book, text, expected, children, happenings, credentials)


KEYS: Final = frozenset(
    {
        *("payload", "merge", "children", "warnings", "refused", "status", "result", "error", "events", "order"),
        *("details", "happenings", "runs", "credentials"),
    }
)


def _value(file: Path) -> dict[str, Any]:
    """A file's value, read as playbooks are."""
    document = parse(file.read_text())
    assert not document.problems, (file, document.problems)
    value: dict[str, Any] = document.value or {}
    return value


def with_api(value: Any, api: str) -> Any:
    """The value with the address of the tests' HTTP server in place of its mark."""
    return _replaced(value, {"<api>": api})


def _replaced(value: Any, marks: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for mark, text in marks.items():
            value = value.replace(mark, text)
        return value
    if isinstance(value, list):
        return [_replaced(item, marks) for item in value]
    if isinstance(value, dict):
        return {key: _replaced(item, marks) for key, item in value.items()}
    return value


# -- what is compared --------------------------------------------------------------------------------


def check(case: Case, told: Told, api: str) -> None:
    """Compare what came of a run with what is expected. Raises: `AssertionError`."""
    expected = _replaced(dict(case.expected), {"<api>": api, "<id>": told.execution_id})
    assert sorted(told.warnings) == sorted(expected.get("warnings", []))
    if "refused" in expected:
        assert told.refused == expected["refused"]
        return
    assert not told.refused
    status = expected.get("status", "completed")
    assert {
        "status": told.status,
        "result": _seen(told.result, expected.get("result")),
        "error": _part(told.error, expected.get("error")),
        "events": events_by_node(told.execution_id, told.log),
    } == {
        "status": status,
        "result": expected.get("result"),
        "error": expected.get("error"),
        "events": {"": ["execution_start", f"execution_{status}"], **_expected_events(expected.get("events", {}))},
    }
    for order in expected.get("order", []):
        _check_order(told, order)
    for detail in expected.get("details", []):
        _check_detail(told, **detail)
    if "runs" in expected:
        runs = expected["runs"]
        assert [_part(run, wanted) for run, wanted in zip(told.runs, runs, strict=True)] == runs


def _expected_events(events: Mapping[str, Any]) -> dict[str, list[str]]:
    return {node: events_of(life) for node, life in events.items()}


def events_of(life: Any) -> list[str]:
    """The events that a text or a list of texts stands for.

    A word of `LIVES` is a whole life, `-> a, b` a transition that led to these steps (`->`: to none), `x y ->` both;
    anything else is an event's type, with ` error` after it for a bad end (see `SAID_STATUS`).
    """
    if not isinstance(life, str):
        return [event for part in life for event in events_of(part)]
    word, arrow, targets = (part.strip() for part in life.partition("->"))
    events = list(LIVES.get(word, (word,) if word else ()))
    return [*events, f"-> {targets}".strip()] if arrow else events


def events_by_node(execution_id: str, log: Iterable[Event]) -> dict[str, list[str]]:
    """Per node, its events in their order, as the expectations write them."""
    nodes: dict[str, list[str]] = {}
    for event in log:
        nodes.setdefault(node_of(execution_id, event), []).append(_told(event))
    return nodes


def node_of(execution_id: str, event: Event) -> str:
    """The node's id without the execution; empty for the execution itself."""
    return event.node_id.removeprefix(execution_id).removeprefix(":")


def _told(event: Event) -> str:
    if event.type == "transition_evaluated":
        return f"-> {', '.join(item['step'] for item in event.context['taken'])}".strip()
    if event.type in SAID_STATUS and event.status == "error":
        return f"{event.type} error"
    return event.type


def _check_order(told: Told, order: list[str]) -> None:
    log = [f"{node_of(told.execution_id, event)} {_told(event)}".strip() for event in told.log]
    at = 0
    for wanted in order:
        assert wanted in log[at:], f"{wanted!r} is not after what {order} names before it: {log}"
        at = log.index(wanted, at) + 1


def _check_detail(told: Told, at: str, event: str, has: Any) -> None:
    found = [_plain(one) for one in told.log if one.type == event and node_of(told.execution_id, one) == at]
    assert has in [_part(one, has) for one in found], (at, event, found)


def _plain(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__dataclass_fields__}


def _part(value: Any, wanted: Any) -> Any:
    """As much of a value as is wanted: of a map the wanted keys, and what `<any>` stands for."""
    if wanted == ANY:
        return ANY
    if isinstance(value, Mapping) and isinstance(wanted, Mapping):
        return {key: _part(value[key], wanted[key]) for key in wanted if key in value}
    if isinstance(value, list) and isinstance(wanted, list) and len(value) == len(wanted):
        return [_part(item, part) for item, part in zip(value, wanted, strict=True)]
    return value


def _seen(value: Any, wanted: Any) -> Any:
    """A whole value, with `<any>` where that stands."""
    if wanted == ANY:
        return ANY
    if isinstance(value, Mapping) and isinstance(wanted, Mapping):
        return {key: _seen(item, wanted[key]) if key in wanted else item for key, item in value.items()}
    if isinstance(value, list) and isinstance(wanted, list) and len(value) == len(wanted):
        return [_seen(item, part) for item, part in zip(value, wanted, strict=True)]
    return value
