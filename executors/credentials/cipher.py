"""Encrypts a credential's data for its row and reads it back.

Knows keys and cipher texts; nothing of the database. The name is inside the cipher text, so that a text
copied into another row cannot be read as that row's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from executors.errors import CredentialUnreadable


def key_id_of(key: str) -> str:
    """What a key is called beside what it has encrypted; nothing can be learnt of the key from it."""
    return hashlib.sha256(b"noetl credential key " + key.strip().encode()).hexdigest()[:12]


class CredentialCipher:
    """Encrypts with the first key, which `key_id` names; reads with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys` are Fernet keys, the newest first. Raises: `ValueError` for none or a malformed one."""
        if not keys:
            raise ValueError("at least one credential key is needed")
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self.key_id = key_id_of(keys[0])

    def encrypt(self, name: str, data: Mapping[str, Any]) -> str:
        """The cipher text of `data` for the row called `name`."""
        clear = json.dumps({"name": name, "data": dict(data)}, allow_nan=False)
        return self._fernet.encrypt(clear.encode()).decode()

    def decrypt(self, name: str, token: str) -> dict[str, Any]:
        """The data of the row called `name`. Raises: `CredentialUnreadable`."""
        try:
            clear = json.loads(self._fernet.decrypt(token.encode()))
        except (InvalidToken, ValueError):
            # Without the cause: its text may quote what was decrypted.
            raise CredentialUnreadable(name) from None
        if not isinstance(clear, dict) or clear.get("name") != name or not isinstance(clear.get("data"), dict):
            raise CredentialUnreadable(name)
        return dict(clear["data"])
