"""Stored credentials under this installation's keys."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.db import Error, connection, transaction

from executions.api import get_playbook_path
from executors.auth import type_named
from executors.contract import Credential
from executors.credentials import carrying, store
from executors.credentials.cipher import CredentialCipher
from executors.credentials.store import CredentialSummary, NewCredential, Rotation
from executors.credentials.trying import Trial, try_credential
from executors.errors import CredentialExists, CredentialOutOfScope

logger = logging.getLogger(__name__)

USE_IS_TOLD_EVERY: Final = 60.0
"""Seconds between two writes of a credential's use by one process."""

_uses: Final[dict[str, float]] = {}


@cache
def _cipher() -> CredentialCipher:
    return CredentialCipher(settings.NOETL_CREDENTIAL_KEYS)


def save_credential(
    name: str,
    type: str,
    data: Mapping[str, Any],
    *,
    meta: Mapping[str, Any] | None = None,
    tags: Iterable[str] = (),
    description: str = "",
    scopes: Iterable[str] | None = None,
) -> CredentialSummary:
    """Store a credential encrypted, or replace all of the one with this name; without scopes all may use it.

    Raises: `CredentialInvalid`.
    """
    new = NewCredential(name, type, data, meta, tuple(tags), description, None if scopes is None else tuple(scopes))
    return store.put_credential(_cipher(), new)


def change_credential(reference: str, changes: Mapping[str, Any]) -> CredentialSummary:
    """Change some of a credential; what is not named stays. Raises: `CredentialNotFound`, `CredentialInvalid`."""
    return store.change_credential(_cipher(), reference, changes)


def is_known_type(type_name: str) -> bool:
    """Whether there is such a type of credentials; of any other the fields are not checked."""
    return type_named(type_name) is not None


def resolve_credential(name: str, execution_id: int) -> Credential:
    """The clear credential for a job of an execution; for workers only.

    Raises: `CredentialNotFound`, `CredentialUnreadable`, `CredentialOutOfScope`.
    """
    stored = store.get_credential(_cipher(), name)
    if not stored.is_for_all:
        path = get_playbook_path(execution_id)
        if path is None or not stored.may_be_used_by(path):
            raise CredentialOutOfScope(name, path or "")
    _tell_of_use(name, execution_id)
    return stored.credential


def try_stored(reference: str, url: str | None = None) -> Trial:
    """Try whether a credential works; `url`, or the `test_url` of its `meta`, is for those that are shown over HTTP.

    Raises: `CredentialNotFound`, `CredentialUnreadable`.
    """
    summary = store.find_credential(reference)
    credential = store.get_credential(_cipher(), summary.name).credential
    told = summary.meta.get("test_url")
    return try_credential(
        credential, url or (told if isinstance(told, str) else None), tuple(settings.NOETL_HTTP_ALLOWED_NETWORKS)
    )


def rotate_credentials() -> Rotation:
    """Encrypt every credential with the newest key; begun again it goes on where it was."""
    return store.rotate_credentials(_cipher())


def export_credentials(names: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Credentials in clear, as a file of them has them; all when none is named.

    Raises: `CredentialNotFound`, `CredentialUnreadable`.
    """
    wanted = list(names)
    found = [store.find_credential(name) for name in wanted] if wanted else store.list_credentials()
    return [
        carrying.as_entry(summary, store.get_credential(_cipher(), summary.name).credential.data) for summary in found
    ]


def import_credentials(entries: Iterable[NewCredential], *, replace: bool) -> list[str]:
    """Store all of them or none. Returns: their names. Raises: `CredentialInvalid`, `CredentialExists`."""
    new = list(entries)
    with transaction.atomic():
        if not replace and (there := store.existing_names(entry.name for entry in new)):
            raise CredentialExists(there)
        for entry in new:
            store.put_credential(_cipher(), entry)
    return [entry.name for entry in new]


def _tell_of_use(name: str, execution_id: int) -> None:
    """Write the use now and then; a job never fails for it."""
    now = time.monotonic()
    if now - _uses.get(name, -USE_IS_TOLD_EVERY) < USE_IS_TOLD_EVERY:
        return
    _uses[name] = now
    try:
        store.record_use(name, execution_id)
    except Error as error:
        logger.warning("the use of the credential %s was not written: %s", name, type(error).__name__)
        connection.close()
