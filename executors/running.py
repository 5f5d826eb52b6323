"""Running one action to its outcome, whoever asked for it: a worker with a lease, or a run with no server.

Knows action kinds as values and what they are lent; nothing of leases, queues or executions.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from executors.contract import ActionFailed, ActionKind, ActionRequest, Credential, Outcome
from executors.errors import ExecutorError
from executors.sandbox.sanitise import OutputInvalid, clean_text, sanitise
from executors.secrets import Places, Revealed, hide

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_SECONDS = 3600.0
"""How long an action may take when its step names no timeout."""

CANCELLED = "cancelled"
"""The code of an action that ended because it was told to stop."""


@dataclass(slots=True)
class Lent:
    """What an action is lent while it runs."""

    data_dir: Path
    cancelled: Event
    resolve: Callable[[str], Credential]
    """The credential of a name, for the job at hand."""
    credentials: list[Credential] = field(default_factory=list)
    """Those that were asked for."""
    offer: Callable[[Callable[[ActionRequest], None]], None] | None = None
    """Calls what it is given with the job that comes next, if there is one that may begin early."""
    made: list[str] = field(default_factory=list)
    """Secrets that the action made of them."""

    def credential(self, name: str) -> Credential:
        """Resolve a stored credential. Raises: `ActionFailed`."""
        try:
            found = self.resolve(name)
        except ExecutorError as error:
            raise ActionFailed(error.code, str(error)) from None
        self.credentials.append(found)
        return found

    def look_ahead(self, begin: Callable[[ActionRequest], None]) -> None:
        """Offer the job that comes next."""
        if self.offer is not None:
            self.offer(begin)

    def keep_secret(self, values: Iterable[str]) -> None:
        """Keep secrets that were made of a credential out of whatever comes of the action."""
        self.made.extend(values)


def run_action(
    kinds: Mapping[str, ActionKind], request: ActionRequest, lent: Lent, secrets: Places | None = None
) -> Outcome:
    """Run the action and make an outcome of whatever comes of it; never raises an action's failure.

    `secrets` tells where the request holds marks of secrets: their values are put there now. Neither they nor those of
    the credentials that the action asks for ever come out.
    """
    if not secrets:
        return _hidden(_run(kinds, request, lent), partial(_hide_credentials, lent))
    try:
        revealed = Revealed(request.arguments, request.inputs, secrets, lent.credential)
    except ActionFailed as failure:
        return _failed(failure)
    outcome = _run(kinds, replace(request, arguments=revealed.arguments, inputs=revealed.inputs), lent)
    return _hidden(_hidden(outcome, partial(_hide_credentials, lent)), revealed.hide)


def _hide_credentials(lent: Lent, value: Any) -> Any:
    return hide(value, [*lent.made, *(text for one in lent.credentials for text in one.secret_texts())])


def _hidden(outcome: Outcome, hide_in: Callable[[Any], Any]) -> Outcome:
    return replace(
        outcome,
        data=hide_in(outcome.data),
        message=hide_in(outcome.message),
        traceback=hide_in(outcome.traceback),
    )


def _run(kinds: Mapping[str, ActionKind], request: ActionRequest, lent: Lent) -> Outcome:
    kind = kinds.get(request.kind)
    if kind is None:
        known = ", ".join(sorted(kinds))
        return Outcome("error", code="unknown_action", message=f"no action kind {request.kind!r} here; known: {known}")
    try:
        data = sanitise(kind.run(request, lent))
    except ActionFailed as failure:
        return _failed(failure)
    except OutputInvalid as error:
        return Outcome("error", code="output_invalid", message=str(error))
    except Exception as error:
        # A defect of the kind itself: the job fails with its cause, whoever ran it lives on.
        logger.exception("action kind %s failed on %s", request.kind, request.node_id)
        message = f"{type(error).__name__}: {error}"
        return Outcome("error", code="action_crashed", message=message, traceback=traceback.format_exc())
    return Outcome("success", data)


def _failed(failure: ActionFailed) -> Outcome:
    try:
        data = sanitise(failure.data)
    except OutputInvalid:
        data = None
    return Outcome("error", data, failure.code, str(failure), failure.traceback, failure.retry_after_seconds)


def outcome_fields(outcome: Outcome, duration_seconds: float) -> dict[str, Any]:
    """The outcome as the executions want it told: `status`, `data`, `error`, `traceback` and `duration_seconds`."""
    error: dict[str, Any] | None = None
    if outcome.status == "error":
        error = {"code": outcome.code, "message": clean_text(outcome.message)}
        if outcome.retry_after_seconds is not None:
            error["retry_after_seconds"] = outcome.retry_after_seconds
    return {
        "status": outcome.status,
        "data": outcome.data,
        "error": error,
        "traceback": clean_text(outcome.traceback) or None,
        "duration_seconds": round(duration_seconds, 6),
    }
