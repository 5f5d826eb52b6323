"""Running one action to its outcome, whoever asked for it: a worker with a lease, or a run with no server.

Knows action kinds as values and what they are lent; nothing of leases, queues or executions.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from executors.contract import ActionFailed, ActionKind, ActionRequest, Credential, Level, Outcome
from executors.errors import ExecutorError, PlatformAway
from executors.logs import JobLog
from executors.redaction import Secrets
from executors.sandbox.sanitise import OutputInvalid, clean_text, sanitise
from executors.secrets import Places, Revealer, environment_secret, secret_of, stored_secret

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_SECONDS = 3600.0
"""How long an action may take when its step names no timeout."""

CANCELLED = "cancelled"
"""The code of an action that ended because it was told to stop."""


@dataclass(slots=True)
class Lent:
    """What an action is lent while it runs: an `ActionContext`."""

    data_dir: Path
    cancelled: Event
    resolve: Callable[[str], Credential]
    """The credential of a name, for the job at hand."""
    secrets: Secrets = field(default_factory=Secrets)
    """What was asked for, and must not come out."""
    offer: Callable[[Callable[[ActionRequest], None]], None] | None = None
    """Calls what it is given with the job that comes next, if there is one that may begin early."""
    lines: JobLog = field(default_factory=JobLog)
    """What the action logs."""

    def log(self, text: str, level: Level = "info") -> None:
        """Write into the execution's log."""
        self.lines.add(text, level)

    def take_printed(self, chunk: bytes) -> None:
        """The same for what a child process prints."""
        self.lines.take_printed(chunk)

    def credential(self, name: str) -> Credential:
        """Resolve a stored credential. Raises: `ActionFailed`; `PlatformAway`."""
        try:
            found = self.resolve(name)
        except ExecutorError as error:
            raise ActionFailed(error.code, str(error)) from None
        self.keep_secret(found.secret_texts())
        return found

    def secret(self, name: str) -> str:
        """The value of `{{ secret.NAME }}`. Raises: `ActionFailed`."""
        value = secret_of(name, self.credential)
        self.keep_secret([value])
        return value

    def environment_secret(self, name: str) -> str:
        """The value of `NOETL_SECRET_NAME`. Raises: `ActionFailed`."""
        value = environment_secret(name)
        self.keep_secret([value])
        return value

    def stored_secret(self, name: str) -> str:
        """The one secret field of a stored credential. Raises: `ActionFailed`."""
        value = stored_secret(name, self.credential)
        self.keep_secret([value])
        return value

    def keep_secret(self, values: Iterable[str]) -> None:
        """Hide these values from now on."""
        self.secrets.keep(values)

    def hide(self, value: Any) -> Any:
        """The value with every secret in its texts replaced by `***`."""
        return self.secrets.hide(value)

    def look_ahead(self, begin: Callable[[ActionRequest], None]) -> None:
        """Offer the job that comes next."""
        if self.offer is not None:
            self.offer(begin)


def run_action(
    kinds: Mapping[str, ActionKind], request: ActionRequest, lent: Lent, action: Mapping[str, Any] | None = None
) -> Outcome:
    """Run an action to an outcome, whatever it does; what cannot be kept of its output is an error of its own.

    `action` is the job's: it tells where the request holds marks of secrets, and their values are put there now.
    Neither they nor those of the credentials that the action asks for ever come out. Raises: `PlatformAway`.
    """
    lent.lines.hide_with(lent.hide)
    try:
        return _hidden(_run(kinds, request, lent, action or {}), lent.hide)
    finally:
        # While the secrets are known.
        lent.lines.finish()
        lent.secrets.forget()


def _check_places(kind: ActionKind, secrets: Places) -> None:
    """Raises: `ActionFailed` when a secret stands where the kind would let it out of its hands."""
    if not secrets or (allowed := kind.secrets_in) is None:
        return
    for pointer in secrets:
        if not any(f"{pointer}/".startswith(f"{place}/") for place in allowed):
            told = ", ".join(place.rpartition("/")[2] for place in allowed)
            message = f"a secret stands in {pointer[1:]}; the kind takes secrets only in: {told or 'nothing'}"
            raise ActionFailed("secret_refused", message)


def _hidden(outcome: Outcome, hide_in: Callable[[Any], Any]) -> Outcome:
    return replace(
        outcome,
        data=hide_in(outcome.data),
        message=hide_in(outcome.message),
        traceback=hide_in(outcome.traceback),
    )


def _run(kinds: Mapping[str, ActionKind], request: ActionRequest, lent: Lent, action: Mapping[str, Any]) -> Outcome:
    kind = kinds.get(request.kind)
    if kind is None:
        known = ", ".join(sorted(kinds))
        return Outcome("error", code="unknown_action", message=f"no action kind {request.kind!r} here; known: {known}")
    try:
        _check_places(kind, action.get("secrets") or {})
        revealer = Revealer(lent, kinds.get("secrets"), time.monotonic() + request.timeout_seconds)
        arguments, inputs = revealer.reveal(request.arguments, request.inputs, action)
        data = sanitise(kind.run(replace(request, arguments=arguments, inputs=inputs), lent))
    except PlatformAway:
        raise
    except ActionFailed as failure:
        return _failed(failure)
    except OutputInvalid as error:
        return Outcome("error", code="output_invalid", message=str(error))
    except RecursionError:
        # No kind goes so deep by itself: something that it was given does.
        return Outcome("error", code="output_invalid", message="what came back is nested too deeply")
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
