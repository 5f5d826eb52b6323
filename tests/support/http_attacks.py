"""Http steps as somebody hostile writes them, run as a worker runs them."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event
from typing import Any, Final

from executors.actions.http import HttpAction
from executors.contract import ActionRequest, Credential, Outcome
from executors.errors import CredentialNotFound
from executors.running import Lent, run_action
from tests.support.answering import Server

SECONDS: Final = 2.0
"""Within which every attack is answered."""
REFUSED: Final = {"arguments_invalid", "http_connection"}
SECRET: Final = "t0ken-that-stays-here"


def attack(action: HttpAction, data_dir: Path = Path("/nonexistent"), **arguments: Any) -> Outcome:
    """Run a step as a worker does. Its outcome, which came in time."""

    def find(name: str) -> Credential:
        if name != "api":
            raise CredentialNotFound(name)
        return Credential("api", "bearer", {"token": SECRET})

    request = ActionRequest("http", {"timeout": 1, **arguments}, {}, "e1", "e1:s", "s", 1, "e1:s", 1.5)
    begun = time.monotonic()
    outcome = run_action({"http": action}, request, Lent(data_dir, Event(), find))
    assert time.monotonic() - begun < SECONDS
    assert outcome.code != "action_crashed", outcome.message
    return outcome


def is_alive(action: HttpAction, server: Server) -> None:
    assert attack(action, url=server.url).status == "success"
