"""The forms of `auth` that name one connection; the look-up itself is the worker's.

Knows maps and names; nothing of databases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from executors.contract import ActionContext, ActionFailed, Credential

NAMING: Final = ("key", "credential", "name")
"""In a map of `auth`: the name of the stored credential."""
VALUES: Final = ("inline", "fields")
"""In a map of `auth`: the fields themselves."""
ONE_OBJECT: Final = frozenset(
    {"source", "service", "secret_name", "scope", "inject", "type", "secret", "env", *NAMING, *VALUES}
)
"""A map with one of these is one credential; any other map has an alias for each."""


def read_credential(auth: Any, use_auth: str | None, context: ActionContext) -> Credential | None:
    """What `auth` stands for: a name, one object, or an alias for each of several; None when there is none.

    Raises: `ActionFailed` (`arguments_invalid`, or what the look-up of a credential says).
    """
    if auth is None or auth == "":
        return None
    if isinstance(auth, str):
        return context.credential(auth)
    if not ONE_OBJECT & auth.keys():
        return read_credential(_alias(auth, use_auth), None, context)
    given = [name for name in (*NAMING, *VALUES) if auth.get(name)]
    source = auth.get("source", auth.get("provider", ""))
    if source in ("secret", "env", "secret_manager") or "secret" in auth or "env" in auth or not given:
        raise ActionFailed(
            "arguments_invalid",
            'auth: name a stored credential, or give the fields with `inline`, as in {dsn: "{{ secret.NAME }}"}',
        )
    value = auth[given[0]]
    if given[0] in NAMING and isinstance(value, str):
        return context.credential(value)
    if given[0] in VALUES and isinstance(value, Mapping):
        return Credential(
            "inline", "postgres", {str(name): "" if item is None else str(item) for name, item in value.items()}
        )
    raise ActionFailed("arguments_invalid", f"auth: {given[0]} has the wrong type")


def _alias(auth: Mapping[str, Any], use_auth: str | None) -> Any:
    if use_auth is not None:
        if use_auth not in auth:
            raise ActionFailed("arguments_invalid", f"use_auth: there is no alias {use_auth!r} in auth")
        return auth[use_auth]
    if len(auth) != 1:
        raise ActionFailed("arguments_invalid", "auth: say with use_auth which of these is meant: " + ", ".join(auth))
    return next(iter(auth.values()))
