"""Having a platform write logs, and taking them from its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from executions.domain.events import Event
from tests.golden.logs import meaning_of, playbook_of, write
from tests.support.corpus import check, read_cases
from tests.support.inspection import call, query, wait_for
from tests.support.platform import Platform, running_platform, temporary_data_dir
from tests.support.playing_server import SETTINGS, play_on_server
from tests.support.webserver import running_webserver

CASES: Final = frozenset(
    {
        *("approvals/approved", "approvals/per_item", "approvals/rejection_handled", "approvals/timeout"),
        *("children/cancel_cascades", "children/failure_handled", "children/in_a_body", "children/loop"),
        *("control/cancel", "control/pause", "control/finally_while_paused"),
        *("ending/failure_calls_off", "ending/past_its_time"),
        *("failing/on_error_of_the_playbook", "failing/repaired_and_back", "failing/route"),
        *("finally/after_cancel", "finally/after_failure", "finally/loop", "flags/override_list", "flags/pass"),
        *("inline/item_fails_and_goes_on", "inline/save_of_a_loop", "iterator/goes_on"),
        *("joins/all_and_one_absent", "joins/any", "joins/around_a_cycle"),
        *("loops/failing_item_calls_off_its_branches", "loops/nested", "loops/visited_again"),
        *("next/targets_with_inputs", "next/undefined_condition", "notify/failure", "notify/late"),
        *("retry/per_item", "retry/then_handled", "save/chunks", "save/failure_is_told", "save/when_and_on"),
        *("timeouts/loop", "timeouts/playbook_and_finally", "undo/fails", "undo/newest_first", "undo/then_finally"),
        *("visits/join_again", "waits/per_item", "waits/signal_before", "workbook/twice", "workload/merged"),
    }
)
POOL: Final = "golden"
"""It has no workers: its jobs are leased by whoever makes a log."""
ALONE: Final = """
apiVersion: noetl.io/v1
kind: Playbook
name: alone
path: golden/alone
workflow:
  - {step: start, next: one}
  - {step: one, type: python, pool: golden, code: "def main(): return 1", next: end}
  - {step: end, result: "{{ one }}"}
"""
FIELDS: Final = {
    "seq": "seq", "format": "format", "event_type": "type", "node_id": "node_id", "node_name": "node_name",
    "node_type": "node_type", "status": "status", "context": "context", "result": "result", "error": "error",
    "meta": "meta", "loop_name": "loop_name", "current_index": "index", "current_item": "item",
    "duration": "duration_seconds", "posted_id": "posted_id",
}  # fmt: skip
"""Columns and the fields they are; what names processes and files of the machine stays there."""
USUAL: Final = {"status": "", "duration_seconds": 0.0}
"""What a field has that is left out; None, where it is not here."""
ROWS: Final = f"""
SELECT {", ".join(f"l.{column}" for column in FIELDS).replace("l.result,", "coalesce(r.data, l.result),")}
FROM event_log l LEFT JOIN large_result r ON r.execution_id = l.execution_id AND r.key = l.result_ref
WHERE l.execution_id = %s ORDER BY l.seq
"""


def write_all(folder: Path) -> int:
    """Write a log of each case, and of what is made by hand. Returns: how many."""
    cases = [case for case in read_cases() if case.name in CASES]
    assert {case.name for case in cases} == CASES
    with running_webserver() as api, temporary_data_dir() as data_dir, running_platform(data_dir, **SETTINGS) as run:
        plays = play_on_server(cases, api, run)
        for case in cases:
            told = plays[case.name]
            if isinstance(told, BaseException):
                raise told
            check(case, told, api)
            _write(run, folder / f"{case.name.replace('/', '.')}.jsonl", case.text, told.execution_id)
        made = {"annotation": _annotated, "late_result": _called_off, "lease_lost": _lost}
        for name, make in made.items():
            _write(run, folder / f"made.{name}.jsonl", ALONE, make(run, _token(run)))
    return len(cases) + len(made)


def _write(platform: Platform, file: Path, text: str, execution_id: str) -> None:
    """Write an execution's log, once its end is told by its row as by its fold."""
    rows = [dict(zip(FIELDS.values(), row, strict=True)) for row in query(platform, ROWS, int(execution_id))]
    rows = [{name: value for name, value in row.items() if value != USUAL.get(name)} for row in rows]
    events = [Event(**{name: value for name, value in row.items() if name != "format"}) for row in rows]
    meaning = meaning_of(playbook_of(text), events)
    view = call(platform, "GET", f"executions/{execution_id}")
    assert {name: view[name] for name in ("status", "result", "error")}.items() <= meaning.items(), (view, meaning)
    write(file, text, rows, meaning)


# -- what no playbook does by itself -----------------------------------------------------------------


def _token(platform: Platform) -> str:
    made = platform.manage("tokens", "create", "--service", "golden", "--role", "worker", "--json")
    return str(json.loads(made.stdout)["token"])


def _start(platform: Platform) -> str:
    call(platform, "POST", "catalog/register", {"content": ALONE})
    return str(call(platform, "POST", "executions/run", {"path": "golden/alone"})["id"])


def _lease(platform: Platform, token: str, seconds: float = 60) -> dict[str, Any]:
    asked = {"worker_id": "golden", "lease_seconds": seconds, "pools": [POOL]}

    def leased() -> dict[str, Any] | None:
        job: dict[str, Any] | None = call(platform, "POST", "queue/lease", asked, token=token).get("job")
        return job

    found = wait_for(leased)
    assert found is not None
    return found


def _complete(platform: Platform, token: str, job: dict[str, Any]) -> None:
    done = {"lease_token": job["lease_token"], "result": 1}
    call(platform, "POST", f"queue/{job['id']}/complete", done, token=token)


def _annotated(platform: Platform, token: str) -> str:
    """Somebody posts an event of a type of the engine's own, beside its work."""
    execution_id = _start(platform)
    job = _lease(platform, token)
    event = {
        "execution_id": execution_id,
        "node_id": job["node_id"],
        "event_type": "step_result",
        "status": "COMPLETED",
    }
    call(platform, "POST", "events", event, token=token)
    _complete(platform, token, job)
    return execution_id


def _called_off(platform: Platform, token: str) -> str:
    """A result comes after the end."""
    execution_id = _start(platform)
    job = _lease(platform, token)
    call(platform, "POST", f"executions/{execution_id}/cancel", {"reason": "enough"})
    _complete(platform, token, job)
    return execution_id


def _lost(platform: Platform, token: str) -> str:
    """The first holder of a job lets its lease run out."""
    execution_id = _start(platform)
    _lease(platform, token, seconds=1)
    _complete(platform, token, _lease(platform, token))
    return execution_id
