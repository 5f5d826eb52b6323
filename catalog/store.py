"""The rows of playbook versions as values: the only place of this app that asks the database.

Knows no rule of registration. Every function runs in the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from django.contrib.postgres.fields import ArrayField
from django.db import connection
from django.db.models import F, Func, IntegerField, QuerySet, TextField, Value
from django.db.models.functions import Cast

from catalog.domain.codec import canonical_json, content_hash
from catalog.domain.playbook import Playbook
from catalog.domain.registered import PinnedVersion, RegisteredPlaybook
from catalog.errors import Problem
from catalog.models import PlaybookVersion

_NUMBERS = Cast(
    Func(F("version"), Value("."), function="string_to_array", output_field=ArrayField(TextField())),
    ArrayField(IntegerField()),
)
"""A version as numbers: 0.1.10 is newer than 0.1.9."""

_FIND_PIN: Final = """
SELECT id, path, version FROM catalog
WHERE path = %(path)s AND (%(version)s::text IS NULL OR version = %(version)s)
ORDER BY string_to_array(version, '.')::int[] DESC LIMIT 1
"""


def lock_path(path: str) -> None:
    """Make registrations of one path wait for one another until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('catalog:' || %s, 0))", [path])


def find_version(path: str, version: str | None) -> RegisteredPlaybook | None:
    """A version of a playbook; None stands for the newest."""
    rows = PlaybookVersion.objects.filter(path=path)
    if version is not None:
        rows = rows.filter(version=version)
    row = rows.order_by(_NUMBERS.desc()).first()
    return None if row is None else _value(row)


def find_pin(path: str, version: str | None) -> PinnedVersion | None:
    """Which version `find_version` would give, without its text: every start asks."""
    # The project's own database backend; Django's types do not know it.
    rows: list[Any] = connection.ask_prepared(  # type: ignore[attr-defined]  # see above
        "catalog.find_pin", _FIND_PIN, {"path": path, "version": version}
    )()
    return PinnedVersion(*rows[0]) if rows else None


def find_by_id(catalog_id: int) -> RegisteredPlaybook | None:
    """The version with this id."""
    row = PlaybookVersion.objects.filter(pk=catalog_id).first()
    return None if row is None else _value(row)


def find_payload(catalog_id: int) -> dict[str, Any] | None:
    """The normalised playbook of a version."""
    return PlaybookVersion.objects.filter(pk=catalog_id).values_list("payload", flat=True).first()


def list_newest(prefix: str = "") -> list[RegisteredPlaybook]:
    """The newest version of every playbook whose path begins with the prefix, by path."""
    return [_value(row) for row in query_newest(prefix)]


def query_newest(prefix: str) -> QuerySet[PlaybookVersion]:
    """The rows of `list_newest`."""
    rows: QuerySet[PlaybookVersion] = PlaybookVersion.objects.filter(path__startswith=prefix)
    return rows.order_by("path", _NUMBERS.desc()).distinct("path")


def query_versions(path: str) -> QuerySet[PlaybookVersion]:
    """All rows, or those of one path."""
    rows: QuerySet[PlaybookVersion] = PlaybookVersion.objects.all()
    return rows.filter(path=path) if path else rows


def list_versions(path: str) -> list[RegisteredPlaybook]:
    """All versions of a playbook, the newest first."""
    return [_value(row) for row in PlaybookVersion.objects.filter(path=path).order_by(_NUMBERS.desc())]


def insert_version(
    playbook: Playbook, text: str, version: str, warnings: Sequence[Problem], meta: dict[str, Any], actor: str
) -> RegisteredPlaybook:
    """Write a new version. The caller holds the path's lock."""
    PlaybookVersion.objects.create(
        path=playbook.path,
        version=version,
        content=text,
        payload=json.loads(canonical_json(playbook.model_dump(mode="json"))),
        content_hash=content_hash(text),
        warnings=[asdict(problem) for problem in warnings],
        meta=meta,
        created_by=actor,
    )
    # The id and the time are the database's: read them back.
    return _value(PlaybookVersion.objects.get(path=playbook.path, version=version))


def _value(row: PlaybookVersion) -> RegisteredPlaybook:
    return RegisteredPlaybook(
        id=row.id,
        path=row.path,
        version=row.version,
        content=row.content,
        content_hash=row.content_hash,
        warnings=tuple(row.warnings),
        meta=row.meta,
        created_at=row.created_at,
        created_by=row.created_by,
    )
