"""Reading the environment: typed values, secrets from files, and the databases named by URLs.

Knows `os.environ` and the shape of Django's `DATABASES`; which names there are is the settings' matter.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import environ
from django.core.exceptions import ImproperlyConfigured

from noetl_site.embedded import Embedded

env: Final = environ.Env()

SECRET_SOUNDS: Final = ("PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL")
SECRET_WORDS: Final = frozenset({"KEY", "KEYS", "AUTH", "DSN"})
"""Where these are words of a name by themselves: `MONKEY` holds no secret."""

ENGINE: Final = "noetl_site.database"
SESSION_TIMEOUTS: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
}
"""Rule R14: no session of a server holds anything up for ever."""
ADMIN_TIMEOUTS: Final = {"lock_timeout": "10s"}
"""Migrations and retention may take their time, but do not queue for a lock in front of everybody."""


def secret(name: str) -> str:
    """The variable, or the content of the file that `<name>_FILE` names; empty when neither is set."""
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE: {path} cannot be read: {error.strerror}") from error
    return os.environ.get(name, "").strip()


def boolean(name: str, *, default: bool) -> bool:
    """true 1 yes y on, or false 0 no n off; anything else is a mistake."""
    text = os.environ.get(name, "").strip().lower()
    if text in {"true", "1", "yes", "y", "on"}:
        return True
    if text in {"false", "0", "no", "n", "off"}:
        return False
    if text:
        raise ImproperlyConfigured(f"{name} is neither true nor false: {text!r}")
    return default


def number(name: str, default: float, least: float = 0.0) -> float:
    """A number that is not below `least`. Raises: `ImproperlyConfigured`."""
    text = os.environ.get(name, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        raise ImproperlyConfigured(f"{name} is no number: {text!r}") from None
    if not least <= value < float("inf"):
        raise ImproperlyConfigured(f"{name} must be at least {least:g}, and is {text}")
    return value


def one_of(name: str, choices: Sequence[str], default: str) -> str:
    """One of the choices. Raises: `ImproperlyConfigured`."""
    text = os.environ.get(name, "").strip() or default
    if text not in choices:
        raise ImproperlyConfigured(f"{name} is none of {', '.join(choices)}: {text!r}")
    return text


def networks(name: str) -> list[str]:
    """Networks in CIDR notation, separated by commas. Raises: `ImproperlyConfigured`."""
    given = words(name)
    for text in given:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name}: {error}") from None
    return given


def values_for_templates(names: Iterable[str], values: Mapping[str, str]) -> dict[str, str]:
    """What templates read as `env.NAME`: the value, or the mark of the secret of that name when it sounds secret.

    A worker puts a secret's value in the place of its mark (`executions.domain.secrets`); nobody else ever sees one.
    """
    return {name: f"⟦secret:{name}⟧" if _sounds_secret(name) else values[name] for name in names if name in values}


def _sounds_secret(name: str) -> bool:
    upper = name.upper()
    return any(word in upper for word in SECRET_SOUNDS) or bool(SECRET_WORDS & set(re.split("[^A-Z0-9]+", upper)))


def words(name: str, default: str = "") -> list[str]:
    """A list, separated by commas."""
    return [word for part in os.environ.get(name, default).split(",") if (word := part.strip())]


def pools(name: str, default: str = "") -> list[str]:
    """Names of worker pools, separated by commas. Raises: `ImproperlyConfigured`."""
    given = words(name, default)
    for text in given:
        _check_pool(name, text)
    return given


def pools_by_kind(name: str) -> dict[str, str]:
    """`KIND=POOL`, separated by commas. Raises: `ImproperlyConfigured`."""
    by_kind = {}
    for word in words(name):
        kind, equals, pool = (part.strip() for part in word.partition("="))
        if not equals or not kind:
            raise ImproperlyConfigured(f"{name} is a list of KIND=POOL, and has {word!r}")
        _check_pool(name, pool)
        by_kind[kind] = pool
    return by_kind


def _check_pool(name: str, pool: str) -> None:
    if not re.fullmatch("[a-z0-9_-]{1,50}", pool):
        advice = "1 to 50 characters out of a-z, 0-9, _ and -"
        raise ImproperlyConfigured(f"{name}: a pool's name is {advice}, and {pool!r} is none")


def database_from_url(url: str, timeouts: dict[str, str]) -> dict[str, Any]:
    """A database on a server of the user's. Raises: `ImproperlyConfigured` for anything but Postgres."""
    if url.split(":", 1)[0] not in {"postgres", "postgresql", "pgsql"}:
        raise ImproperlyConfigured("DATABASE_URL must name a Postgres database: postgresql://user:password@host/name")
    database = dict(environ.Env.db_url_config(url))
    given = database.pop("OPTIONS", {})
    # A socket's folder comes as ?host=/folder, which is libpq's way to write it.
    database["HOST"] = given.pop("host", database.get("HOST") or "")
    return _database({**database, "ENGINE": ENGINE}, timeouts, given)


def embedded_database(embedded: Embedded, words: dict[str, str], timeouts: dict[str, str]) -> dict[str, Any]:
    """A database of the embedded server, which is started at the first connection."""
    database = {
        "ENGINE": ENGINE,
        "EMBEDDED": str(embedded.folder.root),
        "NAME": words["dbname"],
        "USER": words["user"],
        "PASSWORD": words["password"],
        "HOST": words["host"],
        "PORT": words["port"],
    }
    return _database(database, timeouts, {})


def _database(database: dict[str, Any], timeouts: dict[str, str], given: dict[str, Any]) -> dict[str, Any]:
    settings = {
        "search_path": "noetl",
        # What is prepared finds rows by their keys, whatever the values: planning it anew costs more than running it.
        "plan_cache_mode": "force_generic_plan",
        **timeouts,
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return {
        **database,
        # Connections are kept: opening one costs more than most of what is done with it.
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "application_name": "noetl",
            "connect_timeout": 5,
            # Else whoever waits for a network that has gone waits for hours: half a minute, idle or not.
            "keepalives": 1,
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            **given,
            "options": " ".join([options, given.get("options", "")]).strip(),
        },
    }
