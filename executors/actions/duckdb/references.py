"""Which credentials a step names, each under the alias that its SQL knows it by.

Knows the forms of `auth`, and the inputs by which the original's steps gave a connection; nothing of DuckDB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from executors.auth import ONE, Auth, Bound, bound_credentials
from executors.contract import ActionContext, Credential

SERVER_FIELDS: Final = ("db_host", "db_port", "db_user", "db_password", "db_name", "db_conn_string", "sslmode")
ALIASES: Final = {"postgres": "postgres_db", "sqlite": "sqlite_db", "mysql": "mysql_db"}


@dataclass(frozen=True, slots=True)
class Reference:
    """A credential and the name that SQL knows it by."""

    alias: str
    credential: Credential
    read_only: bool = False


def references(
    auth: Auth | None, use_auth: str | None, inputs: Mapping[str, Any], context: ActionContext
) -> list[Reference]:
    """All that a step names, by `auth` and by inputs of the original's form.

    Raises: `ActionFailed` (`auth_invalid`, and what the look-up of a credential says).
    """
    found = [_reference(bound) for bound in bound_credentials(auth, context, use_auth).values()]
    for reference in _of_inputs(inputs):
        context.keep_secret(reference.credential.secret_texts())
        found.append(reference)
    return found


def _reference(bound: Bound) -> Reference:
    named = bound.credential.name
    alias = bound.alias if bound.alias != ONE else named if named != ONE else "db"
    return Reference(alias, bound.credential, bound.read_only)


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
