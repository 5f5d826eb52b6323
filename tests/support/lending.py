"""What a case of the corpus may ask for beside its text: stored credentials, secrets of the environment, people.

| credential | is |
|---|---|
| `shop_database` | a database of its own role beside the platform's |
| `own_database` | the platform's own database and role, which no step may use |
| `half_a_database` | a database's host and name, without a user; of no type that would have been checked |
| `bearer`, `basic`, `api_key`, `header` | what `http` sends, each of the type of its name |
| `vault` | a secret: its one field is `value` |

Every case may read the secrets of `SECRETS`. Each value of a credential or a secret is a text that stands nowhere else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from executors.contract import Credential
from noetl_site import embedded
from tests.support.platform import Platform

SECRETS: Final = {"NOETL_SECRET_PLAYBOOK_DOOR": "0pen-sesame", "NOETL_SECRET_PLAYBOOK_PASSWORD": "p4ssing-by"}
"""In the environment of whatever runs actions."""
ROLE: Final = "operator"
"""Of the people that answer on a server; it is their group as well."""

_FIXED: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "half_a_database": ("generic", {"db_host": "/nowhere", "db_name": "shop"}),
    "bearer": ("bearer", {"token": "be4rer-t0ken"}),
    "basic": ("basic", {"username": "ada", "password": "b4sic-p4ss"}),
    "api_key": ("api_key", {"value": "4pi-k3y", "header": "X-Shop-Key"}),
    "header": ("header", {"name": "X-Shop-Pass", "value": "h34der-v4lue"}),
    "vault": ("generic", {"value": "v4ult-s3cret"}),
}


def _shop_database(data_dir: Path) -> dict[str, str]:
    return embedded.ensure_database(data_dir, "shop", "shop_steps")


def _own_database(data_dir: Path) -> dict[str, str]:
    return embedded.describe(data_dir).database


_DATABASES: Final[dict[str, Callable[[Path], dict[str, str]]]] = {
    "shop_database": _shop_database,
    "own_database": _own_database,
}
NAMES: Final = frozenset(_FIXED) | frozenset(_DATABASES)


def credentials_of(names: Iterable[str], data_dir: Path) -> dict[str, Credential]:
    """The credentials of these names, whose databases are in the embedded server of a data folder."""
    return {name: _credential(name, data_dir) for name in names}


def _credential(name: str, data_dir: Path) -> Credential:
    if name not in _DATABASES:
        return Credential(name, *_FIXED[name])
    words = _DATABASES[name](data_dir)
    told = {f"db_{key}": words[key] for key in ("host", "port", "user", "password")}
    return Credential(name, "postgres", {**told, "db_name": words["dbname"]})


@contextmanager
def secrets_around() -> Iterator[None]:
    """The secrets in this process's environment, as in that of a server."""
    with patch.dict(os.environ, SECRETS):
        yield


def store_on(platform: Platform, names: Iterable[str]) -> None:
    """Store the credentials of these names on a platform."""
    found = credentials_of(names, platform.data_dir)
    # The servers are the platform's: to hold on to them would keep them running after it.
    embedded.release(platform.data_dir)

    def store(credential: Credential) -> None:
        file = platform.data_dir / f"{credential.name}.json"
        file.write_text(json.dumps(credential.data))
        platform.manage("credentials", "set", credential.name, "--type", credential.type, "--data", str(file))
        file.unlink()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(store, found.values()))


def token_of(platform: Platform, person: str) -> str:
    """A token of somebody who may act on executions, and is made so when there is none of this name yet."""
    made = platform.manage("tokens", "create", "--service", person, "--role", ROLE, "--json")
    told: Mapping[str, Any] = json.loads(made.stdout)
    return str(told["token"])
