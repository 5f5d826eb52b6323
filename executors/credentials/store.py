"""Reads and writes credential rows; the only place that turns one into clear text.

Knows the model and the cipher; nothing of who may call (that is the edges' matter).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from executors.contract import Credential
from executors.credentials.cipher import CredentialCipher
from executors.errors import CredentialNotFound
from executors.models import CLOCK
from executors.models import Credential as CredentialRow


@dataclass(frozen=True, slots=True)
class CredentialSummary:
    """What may be shown of a credential: everything but its data."""

    name: str
    type: str
    meta: Mapping[str, Any]
    tags: tuple[str, ...]
    description: str
    created_at: datetime
    updated_at: datetime


def put_credential(
    cipher: CredentialCipher,
    name: str,
    type: str,
    data: Mapping[str, Any],
    *,
    meta: Mapping[str, Any] | None = None,
    tags: Iterable[str] = (),
    description: str = "",
) -> CredentialSummary:
    """Create the credential, or replace all of it."""
    values = {
        "type": type,
        "data_encrypted": cipher.encrypt(name, data),
        "meta": dict(meta or {}),
        "tags": list(tags),
        "description": description,
    }
    # A column default counts at insert only.
    row, _ = CredentialRow.objects.update_or_create(
        name=name, defaults={**values, "updated_at": CLOCK}, create_defaults=values
    )
    row.refresh_from_db()
    return _summary(row)


def get_credential(cipher: CredentialCipher, name: str) -> Credential:
    """The clear credential. Raises: `CredentialNotFound`, `CredentialUnreadable`."""
    row = CredentialRow.objects.filter(name=name).only("name", "type", "data_encrypted").first()
    if row is None:
        raise CredentialNotFound(name)
    data = cipher.decrypt(row.name, row.data_encrypted)
    return Credential(name=row.name, type=row.type, data={key: str(value) for key, value in data.items()})


def list_credentials() -> list[CredentialSummary]:
    """All credentials by name, without their data."""
    return [_summary(row) for row in CredentialRow.objects.defer("data_encrypted").order_by("name")]


def delete_credential(name: str) -> None:
    """Raises: `CredentialNotFound`."""
    deleted, _ = CredentialRow.objects.filter(name=name).delete()
    if not deleted:
        raise CredentialNotFound(name)


def _summary(row: CredentialRow) -> CredentialSummary:
    return CredentialSummary(
        name=row.name,
        type=row.type,
        meta=dict(row.meta or {}),
        tags=tuple(row.tags or ()),
        description=row.description or "",
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
