"""Secrets in rendered work: marks become values here, in the worker, at the last moment.

Two kinds of marks: `{{ secret.NAME }}`, and `{{ step.secret_value }}` of a step of the kind `secrets`, whose name
begins with `@`. Knows where marks may stand (the job says so) and who finds a value; nothing of vaults.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

from executors.contract import ActionContext, ActionFailed, Credential
from executors.redaction import names_secret

Places = Mapping[str, Sequence[str]]
"""JSON pointer into `{arguments, inputs}` -> names of the secrets whose marks stand at it or below it."""

ENVIRONMENT_PREFIX: Final = "NOETL_SECRET_"
OF_A_STEP: Final = "@"
MAX_DEPTH: Final = 8
"""A secret may be fetched with a secret that was fetched, and so on."""


def mark_of(name: str) -> str:
    """What stands for a secret in rendered work; the executions write it."""
    return f"⟦secret:{name}⟧"


@runtime_checkable
class FetchesSecrets(Protocol):
    """The action kind that knows the providers of secrets."""

    def fetch(self, arguments: Mapping[str, Any], context: ActionContext, seconds: float) -> str:
        """The value that these arguments of the kind name, within so many seconds. Raises: `ActionFailed`."""


class Revealer:
    """Puts the values of secrets into the work of one job; what it finds is hidden in all that comes of the job."""

    def __init__(self, context: ActionContext, provider: object = None, deadline: float = math.inf) -> None:
        """`provider` is the kind that fetches what steps of the kind `secrets` refer to; None: there is none here.
        `deadline` (monotonic) is when all of it must be there."""
        self._context = context
        self._provider = provider
        self._deadline = deadline
        self._values: dict[str, str] = {}

    def reveal(
        self, arguments: Mapping[str, Any], inputs: Mapping[str, Any], action: Mapping[str, Any], depth: int = 0
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The arguments and inputs with values where `action` says that marks stand.

        `action` may have `secrets` (`Places`) and `secret_sources` (name -> what its step was asked to do).
        Raises: `ActionFailed` (`secret_not_found`, or whatever a provider fails with).
        """
        places: Places = action.get("secrets") or {}
        sources: Mapping[str, Any] = action.get("secret_sources") or {}
        work: Any = {"arguments": arguments, "inputs": inputs}
        for pointer, names in places.items():
            marks = {mark_of(name): self._value(name, sources, depth) for name in names}
            work = _put(work, _parts(pointer), marks)
        return work["arguments"], work["inputs"]

    def _value(self, name: str, sources: Mapping[str, Any], depth: int) -> str:
        if name not in self._values:
            is_of_step = name.startswith(OF_A_STEP)
            self._values[name] = self._fetched(name, sources, depth) if is_of_step else self._context.secret(name)
        return self._values[name]

    def _fetched(self, name: str, sources: Mapping[str, Any], depth: int) -> str:
        source = sources.get(name)
        if source is None or not isinstance(self._provider, FetchesSecrets) or depth >= MAX_DEPTH:
            raise ActionFailed("secret_not_found", f"nothing here fetches the secret of the step {name[1:]!r}")
        arguments, _ = self.reveal(source.get("arguments") or {}, {}, source, depth + 1)
        if (seconds := self._deadline - time.monotonic()) <= 0:
            raise ActionFailed("timeout", "the secrets of the step were not there in time")
        value = self._provider.fetch(arguments, self._context, seconds)
        self._context.keep_secret([value])
        return value


def secret_of(name: str, resolve: Callable[[str], Credential]) -> str:
    """From the worker's environment, else the stored credential of that name: its one secret field.

    Raises: `ActionFailed` (`secret_not_found`).
    """
    if (value := os.environ.get(f"{ENVIRONMENT_PREFIX}{name.upper()}")) is not None:
        return value
    return stored_secret(name, resolve)


def stored_secret(name: str, resolve: Callable[[str], Credential]) -> str:
    """The stored credential's field `value`, or its one secret field. Raises: `ActionFailed` (`secret_not_found`)."""
    try:
        data = resolve(name).data
    except ActionFailed as error:
        raise ActionFailed("secret_not_found", f"there is no secret {name!r}: {error}") from None
    if "value" in data:
        return data["value"]
    fields = [field for field in data if names_secret(field)] or list(data)
    if len(fields) != 1:
        told = ", ".join(sorted(data)) or "none"
        message = f"the credential {name!r} has no single secret field; call one `value` (it has: {told})"
        raise ActionFailed("secret_not_found", message)
    return data[fields[0]]


def environment_secret(name: str) -> str:
    """From the worker's environment alone, with or without the prefix in the name. Raises: `ActionFailed`."""
    variable = f"{ENVIRONMENT_PREFIX}{name.upper().removeprefix(ENVIRONMENT_PREFIX)}"
    if (value := os.environ.get(variable)) is None:
        raise ActionFailed("secret_not_found", f"there is no {variable} in the worker's environment")
    return value


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _put(value: Any, parts: Sequence[str], marks: Mapping[str, str]) -> Any:
    """The value with marks replaced below a pointer; what is not there any more is left."""
    if not parts:
        return _replace(value, marks)
    part, *rest = parts
    if isinstance(value, Mapping) and part in value:
        return {**value, part: _put(value[part], rest, marks)}
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return [_put(item, rest, marks) if at == int(part) else item for at, item in enumerate(value)]
    return value


def _replace(value: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _replaced(value, texts)
    if isinstance(value, Mapping):
        return {_replaced(key, texts): _replace(item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, texts) for item in value]
    return value


def _replaced(text: str, texts: Mapping[str, str]) -> str:
    for old, new in texts.items():
        text = text.replace(old, new)
    return text
