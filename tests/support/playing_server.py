"""The corpus on one running platform: many playbooks are started at once, then awaited, and read from its tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from typing import Any, Final

import requests

from executions.domain.events import Event
from tests.support.corpus import Case, Happening, Told, node_of, with_api
from tests.support.inspection import query, wait_for
from tests.support.lending import SECRETS, store_on, token_of
from tests.support.platform import Platform
from tests.support.playing import AT_ONCE, ENVIRONMENT, MOST_SECONDS

SETTINGS: Final = {
    **ENVIRONMENT,
    **SECRETS,
    "NOETL_TEMPLATE_ENV": ",".join(ENVIRONMENT),
    "NOETL_HTTP_ALLOWED_NETWORKS": "127.0.0.0/8",
    "NOETL_SHELL": "1",
}
"""The platform's environment."""
TOGETHER: Final = 100
"""So many are started before their ends are waited for: more would keep those waiting that are about time."""

_EVENTS: Final = """
SELECT l.execution_id, l.timestamp, l.seq, l.event_type, l.node_id, l.node_name, l.node_type, l.status, l.context,
       coalesce(r.data, l.result), l.error, l.meta, l.loop_name, l.current_index, l.current_item, l.duration,
       l.stack_trace, l.worker_id, l.posted_id
FROM event_log l LEFT JOIN large_result r ON r.execution_id = l.execution_id AND r.key = l.result_ref
WHERE l.execution_id = ANY(%s) AND l.seq > %s ORDER BY l.execution_id, l.seq
"""
_EXECUTIONS: Final = """
SELECT e.id, e.status, coalesce(r.data, e.result), e.error, e.state
FROM execution e LEFT JOIN large_result r ON r.execution_id = e.id AND r.key = e.result_ref
WHERE e.id = ANY(%s)
"""
_CHILDREN: Final = """
SELECT e.parent_execution_id, e.path, e.status, coalesce(r.data, e.result), e.error
FROM execution e LEFT JOIN large_result r ON r.execution_id = e.id AND r.key = e.result_ref
WHERE e.parent_execution_id = ANY(%s) ORDER BY e.id
"""
_OPEN: Final = """
SELECT id, path, status, evaluation_error FROM execution WHERE status NOT IN ('completed', 'failed', 'cancelled')
"""


def play_on_server(cases: Sequence[Case], api: str, platform: Platform) -> dict[str, Told | BaseException]:
    """What came of every case on a running platform, by its name."""
    for case in cases:
        for child in case.children:
            _post(platform, "catalog/register", {"content": child})
    store_on(platform, {name for case in cases for name in case.credentials})
    people = {happening.by for case in cases for happening in case.happenings if happening.by}
    tokens = {person: token_of(platform, person) for person in sorted(people)}
    plays: dict[str, Told | BaseException] = {}
    for first in range(0, len(cases), TOGETHER):
        plays |= _play_together(cases[first : first + TOGETHER], api, platform, tokens)
    return plays


def _play_together(
    cases: Sequence[Case], api: str, platform: Platform, tokens: Mapping[str, str]
) -> dict[str, Told | BaseException]:
    with _acting(platform, tokens) as acting, ThreadPoolExecutor(AT_ONCE) as pool:
        begun = list(pool.map(lambda case: _begin(platform, case, api, acting), cases))
        problems = _await_all(platform)
    problems.update((one.execution_id, one.problem) for one in acting if one.problem is not None)
    _read(platform, [found for found in begun if found.execution_id])
    return {case.name: problems.get(found.execution_id, found) for case, found in zip(cases, begun, strict=True)}


def _begin(platform: Platform, case: Case, api: str, acting: list[_Acting]) -> Told:
    registered = _post(platform, "catalog/register", {"content": case.text})
    assert registered.ok, registered.text
    told = Told(warnings=[problem["code"] for problem in registered.json()["warnings"]])
    request = {"path": registered.json()["resource_path"], "merge": bool(case.expected.get("merge"))}
    if (payload := case.expected.get("payload")) is not None:
        request["parameters"] = with_api(payload, api)
    started = _post(platform, "executions/run", request)
    if started.ok:
        told.execution_id = started.json()["id"]
        if case.happenings:
            acting.append(_Acting(told.execution_id, list(case.happenings)))
    else:
        told.refused = started.json()["code"]
    return told


def _post(platform: Platform, place: str, body: Any, token: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {token or platform.ready['token']}"}
    return requests.post(f"{platform.ready['url']}/api/{place}", json=body, headers=headers, timeout=30)


@dataclass(slots=True)
class _Acting:
    """What is still to be done to an execution, and how far its events have been looked at.

    `problem` is why it could not be done.
    """

    execution_id: str
    happenings: list[Happening]
    seq: int = 0
    problem: BaseException | None = None

    def look(self, platform: Platform, tokens: Mapping[str, str]) -> None:
        if not self.happenings or self.problem is not None:
            return
        for event in _events(platform, self.execution_id, self.seq):
            self.seq = event.seq
            wanted = self.happenings[0] if self.happenings else None
            if wanted and event.type == wanted.after and node_of(self.execution_id, event) == wanted.at:
                happening = self.happenings.pop(0)
                do_on_server(platform, self.execution_id, happening, tokens.get(happening.by))


@contextmanager
def _acting(platform: Platform, tokens: Mapping[str, str]) -> Iterator[list[_Acting]]:
    """A list of executions to which, from the moment that they are in it, is done what is to be done to them.

    `tokens` are those of the people who do it.
    """
    acting: list[_Acting] = []
    over = Flag()

    def act() -> None:
        while not over.wait(0.05):
            for one in list(acting):
                try:
                    one.look(platform, tokens)
                except Exception as error:
                    # Whatever it is belongs to this case alone: the others are still to be acted on.
                    one.problem = error

    thread = Thread(target=act, name="acting")
    thread.start()
    try:
        yield acting
    finally:
        over.set()
        thread.join()


def _await_all(platform: Platform) -> dict[str, BaseException]:
    """Wait until every execution is over, children too. Returns: what to say of those that are not, by their id."""
    try:
        wait_for(lambda: not query(platform, _OPEN), MOST_SECONDS)
    except AssertionError:
        still_open = query(platform, _OPEN)
        return {str(row[0]): AssertionError(f"still open after {MOST_SECONDS} s: {row}") for row in still_open}
    return {}


def do_on_server(platform: Platform, execution_id: str, happening: Happening, token: str | None = None) -> None:
    """Do something to an execution. Raises: `AssertionError` when the platform refuses what it should not, or not."""
    match happening.do:
        case "signal":
            place, body = f"signals/{happening.name}", {"data": happening.data}
        case "approve" | "reject":
            answer = {"approved": happening.do == "approve", "answer": happening.data or {}}
            place, body = f"approvals/{execution_id}:{happening.place}", answer
        case _:
            place, body = happening.do, {"reason": "the corpus says so"}
    reply = _post(platform, f"executions/{execution_id}/{place}", body, token)
    refused = "" if reply.ok else reply.json()["code"]
    assert refused == happening.refused, reply.text


# -- reading -----------------------------------------------------------------------------------------


def _read(platform: Platform, begun: Sequence[Told]) -> None:
    ids = [int(told.execution_id) for told in begun]
    by_id = {told.execution_id: told for told in begun}
    for id_, status, result, error, state in query(platform, _EXECUTIONS, ids):
        told = by_id[str(id_)]
        told.status, told.result, told.error, told.state = status, result, error, state
        told.frames = {}
    for id_, key, data in query(
        platform, "SELECT execution_id, key, data FROM frame WHERE execution_id = ANY(%s)", ids
    ):
        by_id[str(id_)].frames[tuple(map(int, key.split(".")))] = data
    for parent, path, status, result, error in query(platform, _CHILDREN, ids):
        by_id[str(parent)].runs.append({"path": path, "status": status, "result": result, "error": error})
    for execution_id, rows in _rows(platform, ids, 0).items():
        told = by_id[execution_id]
        told.log, told.times = [_event(row) for row in rows], [row[1].isoformat() for row in rows]


def _events(platform: Platform, execution_id: str, seq: int) -> list[Event]:
    return [_event(row) for row in _rows(platform, [int(execution_id)], seq)[execution_id]]


def _rows(platform: Platform, ids: list[int], seq: int) -> dict[str, list[tuple[Any, ...]]]:
    rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for row in query(platform, _EVENTS, ids, seq):
        rows[str(row[0])].append(row)
    return rows


def _event(row: tuple[Any, ...]) -> Event:
    seq, type_, node_id, name, node_type, status, context, result, error, meta, loop, index, item, *told = row[2:]
    seconds, traceback, worker, posted = told
    return Event(
        *(seq, type_, node_id, name, node_type, status, context, result, error, meta, loop, index, item),
        *(seconds, traceback, worker, posted),
    )
