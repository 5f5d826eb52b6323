"""A process that stays and starts executions as the web server does: one JSON line in, one out.

`{"call": "start", "path": ..., "parameters": ..., "key": ...}`, `{"call": "cancel", "execution_id": ...}`,
`{"call": "evaluate", ...}`, or `{"call": "send_evaluate", ...}`, which sends the message for it.
"""

from __future__ import annotations

import json
import os
import sys
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
    execution_id = int(request["execution_id"])
    if request["call"] == "cancel":
        return {"cancelled": cancel_execution(execution_id, "enough", "test")}
    if request["call"] == "evaluate":
        return {"held": evaluate_execution(execution_id)}
    carry(Nudge(evaluate=(execution_id,)))
    return {}


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
