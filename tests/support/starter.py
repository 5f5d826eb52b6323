"""A process that stays and starts executions as the web server does: one JSON line in, one out.

`{"call": "start", "path": ..., "parameters": ..., "key": ...}`, `{"call": "cancel", "execution_id": ...}`,
`{"call": "evaluate", ...}`, or `{"call": "send_evaluate", ...}`, which sends the message for it. `start_together`
starts `count` executions at the same moment, each in a thread, as the threads of a web server do.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what one line asks for."""
    from executions.api import Nudge, cancel_execution, evaluate_execution, start_execution
    from executors.broker import carry

    if request["call"] == "start":
        payload = request.get("parameters")
        execution_id = start_execution(request["path"], None, payload, idempotency_key=request.get("key"))
        return {"execution_id": str(execution_id)}
    if request["call"] == "start_together":
        return start_together(request["path"], request["count"])
    execution_id = int(request["execution_id"])
    if request["call"] == "cancel":
        return {"cancelled": cancel_execution(execution_id, "enough", "test")}
    if request["call"] == "evaluate":
        return {"held": evaluate_execution(execution_id)}
    carry(Nudge(evaluate=(execution_id,)))
    return {}


def start_together(path: str, count: int) -> dict[str, Any]:
    """Start executions at the same moment; the ids, and the seconds of the slowest."""
    from django.db import connection

    from executions.api import start_execution

    together = threading.Barrier(count)

    def start(_: int) -> tuple[str, float]:
        connection.ensure_connection()
        together.wait()
        begun_at = time.monotonic()
        try:
            execution_id = start_execution(path)
        finally:
            connection.close()
        return str(execution_id), time.monotonic() - begun_at

    with ThreadPoolExecutor(count) as pool:
        started = list(pool.map(start, range(count)))
    return {"execution_ids": [id_ for id_, _ in started], "seconds": max(seconds for _, seconds in started)}


def main() -> None:
    """Answer until there are no more lines."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noetl_site.settings")
    django.setup()
    from django.db import Error, close_old_connections

    print("{}", flush=True)  # noqa: T201  # its answer: it is ready
    for line in sys.stdin:
        close_old_connections()
        try:
            told = answer(json.loads(line))
        except Error as error:
            told = {"error": str(error)}
        print(json.dumps(told), flush=True)  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
