"""An action without a platform around it: as a worker runs it, in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

from executors.contract import ActionKind, ActionRequest, Credential
from executors.errors import CredentialNotFound
from executors.running import Lent, run_action


def seconds_alone(
    action: ActionKind, kind: str, arguments: Mapping[str, Any], count: int, credential: Credential | None = None
) -> float:
    """Seconds of so many jobs one after the other; none may fail. `credential` is the only one that there is."""

    def find(name: str) -> Credential:
        if credential is None or credential.name != name:
            raise CredentialNotFound(name)
        return credential

    request = ActionRequest(kind, dict(arguments), {}, "1", "1:ask", "ask", 1, "1:ask", 60)
    begun = time.perf_counter()
    for _ in range(count):
        # What is lent holds the log of one job.
        outcome = run_action({kind: action}, request, Lent(Path(), Event(), find))
        assert outcome.status == "success", outcome
    return time.perf_counter() - begun
