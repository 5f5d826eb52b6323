"""Looking into a running platform from outside: its database, its events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests

from noetl_site import embedded
from tests.support.platform import Platform

T = TypeVar("T")


def query(platform: Platform, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Rows of the platform's database, as its superuser."""
    with embedded.connect(embedded.open_folder(platform.data_dir), "noetl") as connection:
        connection.execute("SET search_path = noetl")
        return connection.execute(statement, parameters or None).fetchall()


def call(
    platform: Platform, method: str, place: str, body: Any = None, *, token: str | None = None, seconds: float = 10
) -> Any:
    """The JSON of a reply of the platform's API. Raises: `AssertionError` for a problem, or none within `seconds`."""
    headers = {"Authorization": f"Bearer {token or platform.ready['token']}"}
    reply = requests.request(
        method, f"{platform.ready['url']}/api/{place}", json=body, headers=headers, timeout=seconds
    )
    assert reply.ok, reply.text
    return reply.json()


def wait_for(what: Callable[[], T], seconds: float = 30) -> T:
    """Ask until the answer is true. Raises: `AssertionError` when it never is."""
    give_up_at = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < give_up_at, f"no answer within {seconds} s"
        time.sleep(0.05)
    return answer


def run_json(platform: Platform, *arguments: str, check: bool = True) -> dict[str, Any]:
    """`run ... --json`; the one document it prints."""
    done = platform.manage("run", *arguments, "--json", timeout=120, check=check)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def told_events(platform: Platform, execution_id: str) -> list[dict[str, Any]]:
    """An execution's events without what is never the same twice: ids, times, workers."""
    lines = platform.manage("executions", "events", execution_id, "--json").stdout.replace(execution_id, "ID")
    events = [json.loads(line) for line in lines.splitlines()]
    for event in events:
        for key in ("event_id", "timestamp", "duration", "worker_id"):
            del event[key]
        for key in ("job_id", "leased_at"):
            (event["metadata"] or {}).pop(key, None)
    return events
