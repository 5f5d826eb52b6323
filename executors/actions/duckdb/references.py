"""Which credentials a step names, each under the alias that its SQL knows it by.

Knows the forms of `auth`, and the inputs by which the original's steps gave a connection; nothing of DuckDB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from executors.contract import ActionContext, ActionFailed, Credential

OBJECT_KEYS: Final = frozenset({"source", "key", "name", "credential", "service", "scope", "type", "fields", "inline"})
"""With any of these a map is one credential, and not a map of aliases."""
FROM_STORE: Final = ("credential", "credential_store")
LAID_OVER: Final = ("scope", "service", "region")
"""Fields that a step may say beside a credential. Not its endpoint: that decides who gets requests it signed."""
SERVER_FIELDS: Final = ("db_host", "db_port", "db_user", "db_password", "db_name", "db_conn_string", "sslmode")
ALIASES: Final = {"postgres": "postgres_db", "sqlite": "sqlite_db", "mysql": "mysql_db"}


@dataclass(frozen=True, slots=True)
class Reference:
    """A credential and the name that SQL knows it by."""

    alias: str
    credential: Credential
    read_only: bool = False


def references(auth: Any, inputs: Mapping[str, Any], context: ActionContext) -> list[Reference]:
    """All that a step names, by `auth` and by inputs of the original's form.

    Raises: `ActionFailed` (`auth_invalid`, `credential_not_found`).
    """
    found = [_reference(alias, entry, context) for alias, entry in _entries(auth)]
    return [*found, *_of_inputs(inputs)]


def _entries(auth: Any) -> Iterator[tuple[str, Any]]:
    if not auth:
        return
    if isinstance(auth, str):
        yield auth.strip(), {"key": auth}
    elif OBJECT_KEYS & auth.keys():
        yield str(auth.get("alias") or auth.get("key") or auth.get("name") or auth.get("credential") or "db"), auth
    else:
        for alias, entry in auth.items():
            yield alias, {"key": entry} if isinstance(entry, str) else entry


def _reference(alias: str, entry: Any, context: ActionContext) -> Reference:
    if not isinstance(entry, Mapping):
        raise ActionFailed("auth_invalid", f"{alias}: a reference to a credential is its name, or a map with `key`")
    if "endpoint" in entry:
        raise ActionFailed("auth_invalid", f"{alias}: an endpoint belongs into the credential itself")
    source = entry.get("source") or entry.get("provider") or "credential"
    name = entry.get("key") or entry.get("credential") or entry.get("name")
    if source not in FROM_STORE or not isinstance(name, str) or not name.strip():
        raise ActionFailed("auth_invalid", f"{alias}: name a stored credential with `key`")
    stored = context.credential(name.strip())
    over = {field: str(entry[field]) for field in LAID_OVER if entry.get(field)}
    kind = str(entry.get("type") or stored.type).lower()
    return Reference(alias, Credential(stored.name, kind, {**stored.data, **over}), bool(entry.get("read_only")))


def _of_inputs(inputs: Mapping[str, Any]) -> Iterator[Reference]:
    """What `db_host` and its like, or `key_id` and `secret_key`, ask for among a step's inputs."""
    given = {name: str(inputs[name]) for name in (*SERVER_FIELDS, "db_path") if inputs.get(name) not in (None, "")}
    kind = str(inputs.get("db_type") or ("sqlite" if "db_path" in given else "postgres")).lower()
    if given:
        alias = str(inputs.get("db_alias") or ALIASES.get(kind, "db"))
        yield Reference(alias, Credential(alias, kind, given), _is_true(inputs.get("db_read_only")))
    if inputs.get("key_id") and inputs.get("secret_key"):
        keys = {"key_id": str(inputs["key_id"]), "secret_key": str(inputs["secret_key"])}
        yield Reference("gcs_secret", Credential("gcs_secret", "gcs", keys))


def _is_true(value: Any) -> bool:
    return value is True or str(value).strip().lower() in ("true", "1", "yes")
