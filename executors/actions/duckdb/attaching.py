"""What DuckDB is to attach for a step, made of the credentials that it names: databases, files and keys for buckets.

Knows credentials' fields and the words of DuckDB's secrets. Values go into the sandbox's payload and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from executors.actions.duckdb.references import Reference
from executors.contract import ActionFailed, Credential
from executors.stores.places import Places

PostgresOptions = Callable[[Credential], Mapping[str, str]]
"""libpq's options of a credential; refuses what a step may not connect to."""

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
POSTGRES_TYPES: Final = ("postgres", "postgresql", "pg")
S3_TYPES: Final = ("s3", "aws")
HMAC_TYPES: Final = ("gcs", "hmac", "gcs_hmac", "gcp_hmac")
IN_SECRET: Final = {"host": "HOST", "port": "PORT", "dbname": "DATABASE", "user": "USER", "password": "PASSWORD"}
ALWAYS: Final = {"passfile": "/dev/null", "connect_timeout": "10", "application_name": "noetl-step"}
"""Of libpq: nobody's password file, and an end to waiting for a server that is not there."""
DEFAULT_PORT: Final = 5432
KEY_ID: Final = ("key_id", "access_key_id", "aws_access_key_id")
SECRET_KEY: Final = ("secret_key", "secret_access_key", "aws_secret_access_key", "secret")
SESSION_TOKEN: Final = ("session_token", "aws_session_token")
SCHEMES: Final = {"s3": ("s3://",), "gcs": ("gs://", "gcs://")}


@dataclass(slots=True)
class Attached:
    """Parts of the sandbox's payload."""

    secrets: list[dict[str, Any]] = field(default_factory=list)
    attach: list[dict[str, Any]] = field(default_factory=list)
    sqlite: list[dict[str, Any]] = field(default_factory=list)
    remote: list[str] = field(default_factory=list)
    extensions: set[str] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)

    def payload(self) -> dict[str, Any]:
        return {
            "secrets": self.secrets,
            "attach": self.attach,
            "sqlite": self.sqlite,
            "remote": sorted(set(self.remote)),
            "ports": sorted(self.ports),
        }


def attached(references: Iterable[Reference], places: Places, postgres_options: PostgresOptions) -> Attached:
    """Everything that the references ask for. Raises: `ActionFailed`."""
    found = Attached()
    seen: set[str] = set()
    for reference in references:
        alias, kind = reference.alias, reference.credential.type.lower()
        if not NAME.fullmatch(alias) or alias.lower() in seen:
            raise ActionFailed("auth_invalid", f"{alias!r} is no alias of its own for SQL: use letters, digits and _")
        seen.add(alias.lower())
        if kind in POSTGRES_TYPES:
            _add_postgres(found, reference, postgres_options(reference.credential))
        elif kind == "sqlite":
            _add_sqlite(found, reference, places)
        elif kind in (*S3_TYPES, *HMAC_TYPES):
            _add_bucket(found, reference)
        else:
            message = f"{alias}: DuckDB steps attach postgres, sqlite, s3 and gcs; this credential is of type {kind!r}"
            raise ActionFailed("not_supported", message)
    return found


def _add_postgres(found: Attached, reference: Reference, options: Mapping[str, str]) -> None:
    fields = {word: options[name] for name, word in IN_SECRET.items() if options.get(name)}
    rest = {name: value for name, value in options.items() if name not in IN_SECRET and value}
    found.secrets.append({"name": reference.alias, "type": "postgres", "fields": fields})
    found.attach.append(
        {
            "alias": reference.alias,
            "secret": reference.alias,
            "options": " ".join(f"{name}={_conninfo_value(value)}" for name, value in {**rest, **ALWAYS}.items()),
            "read_only": reference.read_only,
        }
    )
    found.extensions.add("postgres")
    found.ports |= {int(port) if port else DEFAULT_PORT for port in options.get("port", "").split(",")}


def _conninfo_value(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _add_sqlite(found: Attached, reference: Reference, places: Places) -> None:
    data = reference.credential.data
    name = next((data[key] for key in ("db_path", "path", "database", "db_name") if data.get(key)), "")
    if not name:
        raise ActionFailed("credential_invalid", f"{reference.alias}: the file is missing: give db_path")
    path, is_own = places.sqlite_file(name)
    read_only = reference.read_only or not is_own
    found.sqlite.append({"alias": reference.alias, "path": str(path), "read_only": read_only})
    found.extensions.add("sqlite")


def _add_bucket(found: Attached, reference: Reference) -> None:
    data = reference.credential.data
    kind = "s3" if reference.credential.type in S3_TYPES or data.get("service") == "s3" else "gcs"
    key_id, secret = _first(data, KEY_ID), _first(data, SECRET_KEY)
    if not key_id or not secret:
        raise ActionFailed("credential_invalid", f"{reference.alias}: a {kind} credential needs key_id and secret_key")
    scopes = _scopes(kind, reference.alias, data.get("scope", ""))
    fields: dict[str, Any] = {"KEY_ID": key_id, "SECRET": secret, "SCOPE": scopes}
    if token := _first(data, SESSION_TOKEN):
        fields["SESSION_TOKEN"] = token
    if data.get("region"):
        fields["REGION"] = data["region"]
    found.ports.add(443)
    if data.get("endpoint"):
        endpoint = urlsplit(data["endpoint"] if "://" in data["endpoint"] else f"https://{data['endpoint']}")
        is_https = endpoint.scheme == "https"
        fields |= {"ENDPOINT": endpoint.netloc, "URL_STYLE": "path", "USE_SSL": is_https}
        found.ports.add(endpoint.port or (443 if is_https else 80))
    found.secrets.append({"name": reference.alias, "type": kind, "fields": fields})
    found.remote += scopes
    found.extensions.add("httpfs")


def _scopes(kind: str, alias: str, given: str) -> list[str]:
    """Beginnings of addresses, each in every spelling of its scheme; all buckets when no scope is given."""
    schemes = SCHEMES[kind]
    if not given:
        return list(schemes)
    for scheme in schemes:
        if given.startswith(scheme):
            rest = given.removeprefix(scheme).strip("/")
            return [f"{other}{rest}/" if rest else other for other in schemes]
    raise ActionFailed("auth_invalid", f"{alias}: the scope of a {kind} credential begins with {schemes[0]}")


def _first(data: Mapping[str, str], names: Iterable[str]) -> str:
    return next((data[name] for name in names if data.get(name)), "")
