"""Credentials in a file: read to be stored, or written to be carried away.

A file is a JSON list of `{name, type, data, meta, tags, description, scopes}`, in clear or encrypted with a passphrase.
Nothing of the database is known here.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidKey
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from executors.credentials.store import CredentialSummary, NewCredential
from executors.errors import CredentialsUnreadable

FORMAT: Final = "noetl-credentials/1"
OWN_KEYS: Final = frozenset({"name", "type", "data", "meta", "tags", "description", "scopes"})
SHORTEST_PASSPHRASE: Final = 12
_COST: Final = {"n": 2**15, "r": 8, "p": 1}


def as_entry(summary: CredentialSummary, data: Mapping[str, str]) -> dict[str, Any]:
    """A credential as a file has it."""
    return {
        "name": summary.name,
        "type": summary.type,
        "data": dict(data),
        "meta": dict(summary.meta),
        "tags": list(summary.tags),
        "description": summary.description,
        "scopes": list(summary.scopes),
    }


def write_file(target: Path, entries: Sequence[Mapping[str, Any]], passphrase: str | None) -> None:
    """Write a new file that only its owner may read; in clear without a passphrase. Raises: `OSError`."""
    content: Any = list(entries)
    if passphrase is not None:
        salt = os.urandom(16)
        token = Fernet(_key(passphrase, salt)).encrypt(json.dumps(content).encode()).decode()
        content = {"format": FORMAT, "salt": base64.b64encode(salt).decode(), "data": token}
    # Never into a file that is there: others may have it open, or may read it.
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def is_encrypted(text: str) -> bool:
    """Whether a file's text needs a passphrase."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_text(text: str, source: str, passphrase: str | None = None) -> list[NewCredential]:
    """The credentials of a file's text. Raises: `CredentialsUnreadable`, which quotes no value."""
    try:
        content = json.loads(text)
        if isinstance(content, dict) and content.get("format") == FORMAT:
            key = _key(passphrase or "", base64.b64decode(str(content["salt"])))
            content = json.loads(Fernet(key).decrypt(str(content["data"]).encode()))
    except (InvalidToken, InvalidKey):
        raise CredentialsUnreadable(source, "the passphrase is another") from None
    except (ValueError, KeyError, RecursionError) as error:
        raise CredentialsUnreadable(source, type(error).__name__) from None
    if not isinstance(content, list):
        raise CredentialsUnreadable(source, "it must hold a list")
    return [_entry(entry, place, source) for place, entry in enumerate(content)]


def _entry(entry: Any, place: int, source: str) -> NewCredential:
    if not (isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("data"), dict)):
        raise CredentialsUnreadable(source, f"entry {place} must be a map with name, type and data")
    kinds: dict[str, type] = {"type": str, "meta": dict, "tags": list, "description": str, "scopes": list}
    for name, kind in kinds.items():
        if entry.get(name) is not None and not isinstance(entry[name], kind):
            raise CredentialsUnreadable(source, f"entry {place}: {name} must be a {kind.__name__}")
    known = {name: value for name, value in entry.items() if name in OWN_KEYS and value is not None}
    return NewCredential(**{"type": "generic", **known})


def _key(passphrase: str, salt: bytes) -> bytes:
    return base64.urlsafe_b64encode(Scrypt(salt=salt, length=32, **_COST).derive(passphrase.encode()))
