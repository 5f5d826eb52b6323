"""Secrets behind an HTTP address of one's own.

The name and the version are added to the query (GET, DELETE) or to the JSON body; the reply's `secret_value` is the
secret, else the whole reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from executors.actions.secrets.asking import LATEST, Asked, Secret, text_of
from executors.contract import ActionFailed
from executors.redaction import names_secret
from executors.stores.http_calls import headers_of

IN_QUERY: Final = frozenset({"GET", "DELETE"})
METHODS: Final = IN_QUERY | {"POST", "PUT", "PATCH"}


def fetch(asked: Asked) -> Secret:
    """Ask the address. Raises: `ActionFailed`."""
    arguments = asked.arguments
    parts = arguments.request_parts or {}
    bound = None if parts else asked.bound()
    method = str(parts.get("method") or "GET").upper()
    if method not in METHODS:
        raise ActionFailed("arguments_invalid", f"auth.method must be one of {', '.join(sorted(METHODS))}")
    headers = {str(name): str(value) for name, value in _map(parts, "headers").items()}
    if bound is not None:
        headers |= headers_of(bound.credential)
    asked.context.keep_secret(value for name, value in headers.items() if names_secret(name))
    wanted = {"secret_name": arguments.secret_name, "version": arguments.wanted_version or LATEST}
    query, body = _map(parts, "params"), _map(parts, "payload")
    options: dict[str, Any] = {"params": {**query, **wanted}} if method in IN_QUERY else {"json": {**body, **wanted}}
    if method not in IN_QUERY and query:
        options["params"] = query
    reply = asked.answer(method, arguments.api_endpoint or "", headers=headers, **options)
    told = reply.json()
    if isinstance(told, Mapping):
        version = str(told.get("version") or arguments.wanted_version or "")
        if "secret_value" in told and told["secret_value"] is None:
            raise asked.refused(404)
        if "secret_value" in told:
            return Secret(text_of(told["secret_value"]), version)
        if arguments.field is not None:
            return Secret(asked.one_field(told), version)
    return Secret(reply.content.decode("utf-8", "replace"), arguments.wanted_version or "")


def _map(parts: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = parts.get(name) or {}
    if not isinstance(found, Mapping):
        raise ActionFailed("arguments_invalid", f"auth.{name} must be a map")
    return dict(found)
