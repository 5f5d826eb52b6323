"""Secrets in rendered work: the marks of `{{ secret.NAME }}` become values here, in the worker, at the last moment.

Knows where marks may stand (the job says so) and how a value is found and hidden again; nothing of vaults.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from executors.contract import SECRET_WORDS, ActionFailed, Credential

Places = Mapping[str, Sequence[str]]
"""JSON pointer into `{arguments, inputs}` -> names of the secrets whose marks stand at it or below it."""

ENVIRONMENT_PREFIX: Final = "NOETL_SECRET_"
HIDDEN: Final = "***"
SHORTEST_HIDDEN: Final = 4
"""Shorter values are in too many texts to be searched for."""


def mark_of(name: str) -> str:
    """What stands for a secret in rendered work; the executions write it."""
    return f"⟦secret:{name}⟧"


class Revealed:
    """The work of a job with its secrets in place; `hide` takes them out of whatever came of it."""

    def __init__(
        self,
        arguments: Mapping[str, Any],
        inputs: Mapping[str, Any],
        places: Places,
        resolve: Callable[[str], Credential],
    ) -> None:
        """Raises: `ActionFailed` (`secret_not_found`)."""
        names = sorted({name for at_one in places.values() for name in at_one})
        self._values = {name: _value_of(name, resolve) for name in names}
        work: Any = {"arguments": arguments, "inputs": inputs}
        for pointer, at_one in places.items():
            work = _put(work, _parts(pointer), {mark_of(name): self._values[name] for name in at_one})
        self.arguments: Mapping[str, Any] = work["arguments"]
        self.inputs: Mapping[str, Any] = work["inputs"]

    def hide(self, value: Any) -> Any:
        """The value with every secret in its texts replaced by `***`."""
        return hide(value, self._values.values())


def hide(value: Any, secrets: Iterable[str]) -> Any:
    """The value with these secrets in its texts replaced by `***`."""
    hidden = sorted({secret for secret in secrets if len(secret) >= SHORTEST_HIDDEN}, key=len, reverse=True)
    return _replace(value, dict.fromkeys(hidden, HIDDEN)) if hidden else value


def _value_of(name: str, resolve: Callable[[str], Credential]) -> str:
    """From the worker's environment, else the stored credential of that name: its one secret field."""
    if (value := os.environ.get(f"{ENVIRONMENT_PREFIX}{name.upper()}")) is not None:
        return value
    try:
        data = resolve(name).data
    except ActionFailed as error:
        raise ActionFailed("secret_not_found", f"there is no secret {name!r}: {error}") from None
    if "value" in data:
        return str(data["value"])
    fields = [field for field in data if any(word in field.lower() for word in SECRET_WORDS)] or list(data)
    if len(fields) != 1:
        told = ", ".join(sorted(data)) or "none"
        message = f"the credential {name!r} has no single secret field; call one `value` (it has: {told})"
        raise ActionFailed("secret_not_found", message)
    return str(data[fields[0]])


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
        return _replaced(value, texts.items())
    if isinstance(value, Mapping):
        return {_replaced(key, texts.items()): _replace(item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, texts) for item in value]
    return value


def _replaced(text: str, pairs: Iterable[tuple[str, str]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text
