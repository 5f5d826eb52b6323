"""Stored credentials under this installation's keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from django.conf import settings

from executors.contract import Credential
from executors.credentials import store
from executors.credentials.cipher import CredentialCipher
from executors.credentials.store import CredentialSummary


@cache
def _cipher() -> CredentialCipher:
    return CredentialCipher(settings.NOETL_CREDENTIAL_KEYS)


def save_credential(
    name: str, type: str, data: Mapping[str, Any], *, description: str = "", tags: Iterable[str] = ()
) -> CredentialSummary:
    """Store a credential encrypted, or replace all of the one with this name."""
    return store.put_credential(_cipher(), name, type, data, description=description, tags=tags)


def resolve_credential(name: str) -> Credential:
    """The clear credential; for workers only. Raises: `CredentialNotFound`, `CredentialUnreadable`."""
    return store.get_credential(_cipher(), name)
