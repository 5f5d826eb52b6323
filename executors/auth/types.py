"""The types of credentials: which fields each has, under which names, and which are secret.

Pure tables and functions; knows nothing of where credentials are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from executors.contract import Credential


@dataclass(frozen=True, slots=True)
class CredentialType:
    """One type. `fields` are the canonical names with the other spellings of each; `needs` are alternatives, of which
    one set must be there whole; `main` is the field that a secret's bare value stands for.
    """

    name: str
    fields: Mapping[str, tuple[str, ...]]
    needs: tuple[tuple[str, ...], ...]
    main: str = ""
    synonyms: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)


_POSTGRES: Final = {
    "db_host": ("host", "hostname"),
    "db_port": ("port",),
    "db_user": ("user", "username"),
    "db_password": ("password",),
    "db_name": ("dbname", "database"),
    "sslmode": (),
    "dsn": ("db_conn_string", "connection_string", "conninfo"),
}
_S3: Final = {
    "access_key_id": ("key_id", "aws_access_key_id"),
    "secret_access_key": ("secret_key", "secret", "aws_secret_access_key"),
    "session_token": ("aws_session_token",),
    "region": ("region_name",),
    "endpoint": ("endpoint_url",),
}
_HMAC: Final = {
    "key_id": ("access_key_id",),
    "secret_key": ("secret_access_key", "secret"),
    "service": (),
    "region": (),
    "endpoint": ("endpoint_url",),
}
_OAUTH: Final = {
    "token": ("access_token", "api_key"),
    "client_id": (),
    "client_secret": (),
    "refresh_token": (),
    "token_url": ("token_uri", "token_endpoint"),
    "tenant_id": (),
}

_ALL: Final = (
    CredentialType(
        "postgres",
        _POSTGRES,
        needs=(("dsn",), ("db_host", "db_user", "db_name")),
        main="dsn",
        synonyms=("postgresql", "pg"),
    ),
    CredentialType(
        "gcs",
        _HMAC,
        needs=(("key_id", "secret_key"),),
        synonyms=("gcs_hmac", "hmac", "gcp_hmac"),
        defaults={"service": "gcs"},
    ),
    CredentialType("s3", _S3, needs=(("access_key_id", "secret_access_key"),), synonyms=("s3_hmac", "aws")),
    CredentialType(
        "bearer",
        {"token": ("access_token",), "token_expiry": ()},
        needs=(("token",),),
        main="token",
        synonyms=("httpbearerauth", "http_bearer"),
    ),
    CredentialType(
        "basic",
        {"username": ("user",), "password": ()},
        needs=(("username", "password"),),
        synonyms=("httpbasicauth", "http_basic"),
    ),
    CredentialType(
        "api_key",
        {"value": ("key", "api_key", "token"), "header": ()},
        needs=(("value",),),
        main="value",
        synonyms=("apikey", "httpapikeyauth"),
        defaults={"header": "X-API-Key"},
    ),
    CredentialType(
        "header", {"name": (), "value": ()}, needs=(("name", "value"),), main="value", synonyms=("httpheaderauth",)
    ),
    CredentialType("token", {"token": ("access_token", "api_key", "value")}, needs=(("token",),), main="token"),
    CredentialType(
        "oauth",
        _OAUTH,
        needs=(("client_id", "client_secret"), ("refresh_token",), ("token",)),
        main="token",
        synonyms=("oauth2", "oauth2_client_credentials", "client_credentials"),
    ),
    CredentialType(
        "google_service_account",
        dict.fromkeys(("client_email", "private_key", "private_key_id", "project_id", "token_uri"), ()),
        needs=(("client_email", "private_key"),),
        synonyms=("googleserviceaccount", "service_account", "gcp"),
    ),
    CredentialType(
        "vault",
        {"token": (), "role_id": (), "secret_id": (), "address": ("url", "addr"), "namespace": ()},
        needs=(("token",), ("role_id", "secret_id")),
        main="token",
    ),
    CredentialType("notify", {"url": (), "urls": ()}, needs=(("url",), ("urls",)), main="url"),
    CredentialType("generic", {}, needs=((),), main="value"),
)
TYPES: Final[Mapping[str, CredentialType]] = {type_.name: type_ for type_ in _ALL}
_BY_ANY_NAME: Final = {name: type_ for type_ in _ALL for name in (type_.name, *type_.synonyms)}


def type_named(name: str) -> CredentialType | None:
    """The type of this name or synonym, in any case; None when there is no such type."""
    return _BY_ANY_NAME.get(name.strip().lower())


def as_texts(data: Mapping[str, Any]) -> dict[str, str]:
    """A credential's fields as texts: what is no text is written as JSON; a null is no field."""
    return {
        str(name): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in data.items()
        if value is not None
    }


def canonical(credential: Credential) -> Credential:
    """The credential with its type's own name, and its fields under their canonical names; the rest as it is.

    A canonical name that is there wins over its spellings. Of an unknown type nothing is changed.
    """
    known = type_named(credential.type)
    if known is None:
        return credential
    return Credential(credential.name, known.name, _renamed(known, credential.data))


def _renamed(known: CredentialType, data: Mapping[str, str]) -> dict[str, str]:
    data = dict(data)
    if known.name == "google_service_account":
        data = _key_file(data)
    spelled = {spelling: name for name, spellings in known.fields.items() for spelling in spellings}
    renamed = {name: value for name, value in data.items() if name not in spelled}
    for spelling, value in data.items():
        if spelling in spelled and value and not renamed.get(spelled[spelling]):
            renamed[spelled[spelling]] = value
    return {**known.defaults, **{name: value for name, value in renamed.items() if value != ""}}


def _key_file(data: dict[str, str]) -> dict[str, str]:
    """A service account given as the text of its key file, as the file's fields."""
    for name in ("json", "key_file", "credentials_info", "value", "service_account_json"):
        fields = json_object(data.get(name, ""))
        if fields is not None:
            return {**as_texts(fields), **{key: value for key, value in data.items() if key != name}}
    return data


def json_object(text: str) -> dict[str, Any] | None:
    """The map that a text holds as JSON; None when it holds none."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def problems_of(type_name: str, data: Mapping[str, Any]) -> list[str]:
    """What a credential of this type lacks, one sentence each; none of a type that nobody knows."""
    known = type_named(type_name)
    if known is None:
        return []
    texts = as_texts(data)
    if known.name == "generic":
        return [] if any(texts.values()) else ["a credential needs at least one field"]
    there = _renamed(known, texts)
    if any(all(there.get(name) for name in needed) for needed in known.needs):
        return []
    nearest = min(known.needs, key=lambda needed: _distance(needed, there))
    missing = ", ".join(name for name in nearest if not there.get(name))
    other = [" and ".join(needed) for needed in known.needs if needed != nearest]
    hint = f" (or give {', or '.join(other)})" if other else ""
    return [f"a credential of the type {known.name} lacks {missing}{hint}"]


def _distance(needed: tuple[str, ...], there: Mapping[str, str]) -> tuple[int, int]:
    """How far the fields are from what is needed: what is missing, then how little of it is there."""
    present = sum(bool(there.get(name)) for name in needed)
    return len(needed) - present, -present


def as_fields(type_name: str, value: str) -> dict[str, str]:
    """A secret's bare value as a credential's fields: of a JSON map its fields, else the type's main one."""
    fields = json_object(value)
    if fields is not None:
        return as_texts(fields)
    known = type_named(type_name)
    return {(known.main if known and known.main else "value"): value}
