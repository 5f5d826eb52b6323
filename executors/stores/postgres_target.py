"""Where a step's statements go: one set of libpq's options out of a credential, a map, a DSN and single fields.

Knows every spelling of a connection and which databases no step may use; opens nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from executors.contract import ActionFailed, Credential

FIELDS: Final = {
    "host": ("db_host", "host"),
    "port": ("db_port", "port"),
    "user": ("db_user", "user", "username"),
    "password": ("db_password", "password"),
    "dbname": ("db_name", "dbname", "database"),
    "sslmode": ("sslmode",),
}
"""libpq's option -> its spellings in a credential, the newest first."""
DSN_FIELDS: Final = ("db_conn_string", "dsn")
OWN_FIELDS: Final = ("db_host", "db_port", "db_user", "db_password", "db_name", "sslmode", *DSN_FIELDS)
"""Of a step and its inputs only these count: a plain `user` there is somebody else's word."""
REQUIRED: Final = ("host", "user", "dbname")
# Of a DSN only these count: others read files of the worker (`service`, `passfile`, `sslkey`).
DSN_OPTIONS: Final = (*FIELDS, "hostaddr", "options", "target_session_attrs", "keepalives")
DEFAULT_PORT: Final = "5432"
MOST_HOSTS: Final = 8
LOCAL: Final = "local"
PLACE: Final = {"host": None, "hostaddr": None, "port": DEFAULT_PORT}
"""The options that say which server it is, and what counts for those that nobody names."""


@dataclass(frozen=True, slots=True)
class ForbiddenTarget:
    """A database role of the orchestrator itself: steps may use neither that role nor that database."""

    host: str
    port: str
    dbname: str
    user: str


@dataclass(frozen=True, slots=True)
class Target:
    """libpq's options of one connection. They are clear text: `mask` takes the secret ones out of a text."""

    options: Mapping[str, str] = field(repr=False)
    secrets: Credential = field(repr=False)

    def mask(self, text: str) -> str:
        """The text with every secret of the connection replaced."""
        return self.secrets.mask(text)


def target_of(credential: Credential | None, own: Mapping[str, Any]) -> Target:
    """The connection that a step names. `own` are its fields of `OWN_FIELDS`, which win over the credential's, the
    password excepted.

    Raises: `ActionFailed` (`arguments_invalid`, `credential_invalid`).
    """
    for name, value in own.items():
        if value is None or not str(value).strip():
            raise ActionFailed("arguments_invalid", f"{name} is blank: give it a value, or leave it out")
    told = _options(own, "the step") if own else {}
    options = dict(told)
    if credential is not None:
        stored = _options(credential.data, f"credential {credential.name!r}")
        options = {**stored, **told}
        if "password" in stored:
            options["password"] = stored["password"]
        _guard_elsewhere(options, stored, told)
    _require(options, credential)
    options.setdefault("port", DEFAULT_PORT)
    secret = {name: str(own[name]) for name in own if name in DSN_FIELDS} | {"password": options.get("password", "")}
    data = {**(credential.data if credential else {}), **secret, "user": options["user"]}
    return Target(options, Credential(credential.name if credential else "", "postgres", data))


def forbidden_targets(settings: Any) -> tuple[ForbiddenTarget, ...]:
    """The platform's own databases and roles. `settings` is an object with Django's settings."""
    return tuple(
        ForbiddenTarget(*(str(database.get(name) or "") for name in ("HOST", "PORT", "NAME", "USER")))
        for database in settings.DATABASES.values()
    )


def refuse_own_database(options: Mapping[str, str], forbidden: Iterable[ForbiddenTarget]) -> None:
    """Raises: `ActionFailed` (`target_forbidden`) when one of the hosts could be a database of the orchestrator."""
    ports = {port or DEFAULT_PORT for port in options.get("port", "").split(",")}
    # Both count: libpq connects to one, and the other may stand in its place at the next try.
    hosts = ",".join(options[name] for name in ("host", "hostaddr") if options.get(name)).split(",")
    for own in forbidden:
        same_name = options["user"] == own.user or options["dbname"] == own.dbname
        if not same_name or (own.port or DEFAULT_PORT) not in ports:
            continue
        if any(_places(host) & _places(own.host) for host in hosts):
            raise ActionFailed("target_forbidden", "a step may not use the orchestrator's own database or role")


def _options(data: Mapping[str, Any], whose: str) -> dict[str, str]:
    """libpq's options in some fields; a DSN wins over the fields beside it."""
    options: dict[str, str] = {}
    for option, names in FIELDS.items():
        found = next((data[name] for name in names if _text(data.get(name))), None)
        if found is not None:
            options[option] = _text(found)
    for name in DSN_FIELDS:
        if dsn := data.get(name):
            try:
                given = conninfo_to_dict(str(dsn))
            except psycopg.Error:
                # Without the cause: it quotes the DSN.
                raise ActionFailed("credential_invalid", f"{whose}: {name} cannot be read") from None
            options |= {key: str(value) for key, value in given.items() if key in DSN_OPTIONS and value}
    return options


def _guard_elsewhere(options: dict[str, str], stored: Mapping[str, str], told: Mapping[str, str]) -> None:
    """Where the step names another server than the credential, what belongs to the old one goes, and the credential's
    password stays hidden: a server that asks for it in clear, or in a form that can be tried out, gets none.
    """
    if not stored.keys() & {"host", "hostaddr"}:
        return
    if "host" in told and told["host"] != stored.get("host") and "hostaddr" not in told:
        options.pop("hostaddr", None)
    is_elsewhere = any(name in told and told[name] != stored.get(name, default) for name, default in PLACE.items())
    if is_elsewhere and "password" in stored:
        options["require_auth"] = "!password,!md5"


def _require(options: Mapping[str, str], credential: Credential | None) -> None:
    if max(options.get(name, "").count(",") for name in ("host", "hostaddr")) >= MOST_HOSTS:
        # Each is waited for.
        raise ActionFailed("credential_invalid", f"a connection has {MOST_HOSTS} hosts at most")
    # Without a password libpq would try the worker's own (PGPASSWORD); a local socket needs none.
    required = REQUIRED if options.get("host", "").startswith("/") else (*REQUIRED, "password")
    missing = [FIELDS[option][0] for option in required if not options.get(option)]
    if not missing:
        return
    if credential is not None:
        raise ActionFailed("credential_invalid", f"credential {credential.name!r} lacks {', '.join(missing)}")
    raise ActionFailed("arguments_invalid", f"name a credential with `auth`, or give {', '.join(missing)}")


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip() if not isinstance(value, str) else value


def _places(host: str) -> frozenset[str]:
    """What a host name stands for; every way to say "this machine" is one place."""
    if not host or host.startswith(("/", "@")):
        return frozenset({LOCAL})
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return frozenset({host.lower()})
    return frozenset(
        LOCAL if ipaddress.ip_address(address.split("%")[0]).is_loopback else address for address in addresses
    )
