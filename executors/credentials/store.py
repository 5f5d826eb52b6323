"""Reads and writes credential rows; the only place that turns one into clear text.

Knows the model, the cipher and the types; nothing of who may call (that is the edges' matter).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from django.db import transaction
from django.db.models import Q

from executors.auth import as_texts, problems_of
from executors.contract import Credential
from executors.credentials.cipher import CredentialCipher
from executors.errors import CredentialInvalid, CredentialNotFound, CredentialUnreadable
from executors.models import CLOCK, every_path
from executors.models import Credential as CredentialRow

MAX_SCOPES: Final = 100
MAX_DATA_CHARS: Final = 256 * 1024
USE_IS_WRITTEN_EVERY: Final = timedelta(seconds=60)
ROTATED_AT_ONCE: Final = 100
_NAME: Final = re.compile(r"[^\s/\x00-\x1f][^/\x00-\x1f]{0,199}")


@dataclass(frozen=True, slots=True)
class CredentialSummary:
    """What may be shown of a credential: everything but its data."""

    id: int
    name: str
    type: str
    meta: Mapping[str, Any]
    tags: tuple[str, ...]
    description: str
    scopes: tuple[str, ...]
    key_id: str
    last_used_at: datetime | None
    last_used_by: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential to be stored."""

    name: str
    type: str
    data: Mapping[str, Any]
    meta: Mapping[str, Any] | None = None
    tags: Iterable[str] = ()
    description: str = ""
    scopes: Iterable[str] | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A credential in clear, and where it may be used."""

    credential: Credential
    scopes: tuple[str, ...]

    @property
    def is_for_all(self) -> bool:
        """Whether every playbook may use it."""
        return "*" in self.scopes

    def may_be_used_by(self, path: str) -> bool:
        """Whether the playbook of this path may use it."""
        return any(fnmatchcase(path, pattern) for pattern in self.scopes)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What came of encrypting anew: how many rows, and the names of those that no key reads."""

    rotated: int
    unreadable: tuple[str, ...]


def put_credential(cipher: CredentialCipher, new: NewCredential) -> CredentialSummary:
    """Create the credential, or replace all of it. Raises: `CredentialInvalid`."""
    data = check(new)
    values = {
        "type": new.type,
        "data_encrypted": cipher.encrypt(new.name, data),
        "key_id": cipher.key_id,
        "meta": dict(new.meta or {}),
        "tags": list(new.tags),
        "description": new.description,
        "scopes": every_path() if new.scopes is None else list(new.scopes),
    }
    # A column default counts at insert only.
    row, _ = CredentialRow.objects.update_or_create(
        name=new.name, defaults={**values, "updated_at": CLOCK}, create_defaults=values
    )
    row.refresh_from_db()
    return _summary(row)


def change_credential(cipher: CredentialCipher, reference: str, changes: Mapping[str, Any]) -> CredentialSummary:
    """Change some of `type`, `data`, `meta`, `tags`, `description` and `scopes`; what is not named stays.

    Raises: `CredentialNotFound`, `CredentialInvalid`; `CredentialUnreadable` when only the type changes.
    """
    with transaction.atomic():
        row = CredentialRow.objects.select_for_update().filter(_named(reference)).first()
        if row is None:
            raise CredentialNotFound(reference)
        own = {name: getattr(row, name) for name in ("type", "meta", "tags", "description", "scopes")}
        data = changes["data"] if "data" in changes else cipher.decrypt(row.name, row.data_encrypted)
        told = {name: value for name, value in changes.items() if name != "data"}
        return put_credential(cipher, NewCredential(row.name, data=data, **{**own, **told}))


def check(new: NewCredential) -> dict[str, str]:
    """The data as texts. Raises: `CredentialInvalid`, which quotes no value."""
    if not isinstance(new.name, str) or not _NAME.fullmatch(new.name):
        raise CredentialInvalid("the name of a credential is a text of 1 to 200 characters, without a slash")
    if not isinstance(new.type, str) or not 0 < len(new.type) <= 100:
        raise CredentialInvalid("the type of a credential is a text of 1 to 100 characters")
    if not isinstance(new.data, Mapping):
        raise CredentialInvalid("the data of a credential is a map")
    data = as_texts(new.data)
    if sum(map(len, data.values())) > MAX_DATA_CHARS:
        raise CredentialInvalid(f"the data of a credential has {MAX_DATA_CHARS} characters at most")
    if problems := problems_of(new.type, data):
        raise CredentialInvalid("; ".join(problems))
    scopes = every_path() if new.scopes is None else list(new.scopes)
    if len(scopes) > MAX_SCOPES or not all(isinstance(scope, str) and 0 < len(scope) <= 500 for scope in scopes):
        raise CredentialInvalid(f"scopes are at most {MAX_SCOPES} patterns of paths, each a text")
    return data


def get_credential(cipher: CredentialCipher, name: str) -> Stored:
    """The clear credential. Raises: `CredentialNotFound`, `CredentialUnreadable`."""
    row = CredentialRow.objects.filter(name=name).only("name", "type", "data_encrypted", "scopes").first()
    if row is None:
        raise CredentialNotFound(name)
    data = cipher.decrypt(row.name, row.data_encrypted)
    return Stored(Credential(row.name, row.type, as_texts(data)), tuple(map(str, row.scopes or ())))


def find_credential(reference: str) -> CredentialSummary:
    """One credential by its id or its name, without its data. Raises: `CredentialNotFound`."""
    row = CredentialRow.objects.defer("data_encrypted").filter(_named(reference)).first()
    if row is None:
        raise CredentialNotFound(reference)
    return _summary(row)


def list_credentials(type_: str | None = None, text: str | None = None) -> list[CredentialSummary]:
    """Credentials by name, without their data: of a type, and with a text in their name or description."""
    rows = CredentialRow.objects.defer("data_encrypted").order_by("name")
    if type_:
        rows = rows.filter(type=type_)
    if text:
        rows = rows.filter(Q(name__icontains=text) | Q(description__icontains=text))
    return [_summary(row) for row in rows]


def existing_names(names: Iterable[str]) -> list[str]:
    """Those of the names that are stored, sorted."""
    return sorted(CredentialRow.objects.filter(name__in=list(names)).values_list("name", flat=True))


def delete_credential(reference: str) -> None:
    """Delete one by its id or its name. Raises: `CredentialNotFound`."""
    deleted, _ = CredentialRow.objects.filter(_named(reference)).delete()
    if not deleted:
        raise CredentialNotFound(reference)


def record_use(name: str, execution_id: int) -> None:
    """Write that an execution uses the credential, unless a use was written a short while ago."""
    recently = Q(last_used_at__gt=CLOCK - USE_IS_WRITTEN_EVERY)
    CredentialRow.objects.filter(~recently | Q(last_used_at=None), name=name).update(
        last_used_at=CLOCK, last_used_by=execution_id
    )


def rotate_credentials(cipher: CredentialCipher) -> Rotation:
    """Encrypt with the newest key what another has encrypted, a few rows in a transaction.

    What was done stays done when it is ended; begun again it goes on. A row that no key reads stays as it is.
    """
    rotated, unreadable, after = 0, list[str](), 0
    while True:
        with transaction.atomic():
            others = CredentialRow.objects.filter(id__gt=after).exclude(key_id=cipher.key_id)
            rows = list(others.select_for_update().order_by("id")[:ROTATED_AT_ONCE])
            for row in rows:
                try:
                    data = cipher.decrypt(row.name, row.data_encrypted)
                except CredentialUnreadable:
                    unreadable.append(row.name)
                    continue
                token = cipher.encrypt(row.name, data)
                CredentialRow.objects.filter(id=row.id).update(data_encrypted=token, key_id=cipher.key_id)
                rotated += 1
        if not rows:
            return Rotation(rotated, tuple(unreadable))
        after = rows[-1].id


def _named(reference: str) -> Q:
    """Text of nothing but digits is an id."""
    text = str(reference)
    if text.isascii() and text.isdigit() and len(text) < 19:
        return Q(id=int(text))
    return Q(name=text)


def _summary(row: CredentialRow) -> CredentialSummary:
    return CredentialSummary(
        id=row.id,
        name=row.name,
        type=row.type,
        meta=dict(row.meta or {}),
        tags=tuple(row.tags or ()),
        description=row.description or "",
        scopes=tuple(row.scopes or ()),
        key_id=row.key_id,
        last_used_at=row.last_used_at,
        last_used_by=row.last_used_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
