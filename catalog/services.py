"""Registering and loading playbooks, and the action kinds' schemas they are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.db import transaction

from catalog import store
from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.codec import content_hash, next_version
from catalog.domain.language_schema import build_language_schema
from catalog.domain.normalise import read_playbook
from catalog.domain.playbook import FORMAT, Playbook
from catalog.domain.registered import Registration
from catalog.errors import PlaybookInvalid, PlaybookNotFound, Problem

_schemas = ActionSchemas()


def register_action_schemas(schemas: Mapping[str, Mapping[str, Any]]) -> None:
    """Hand in the JSON Schema of every action kind's arguments; once, when the process starts."""
    global _schemas  # noqa: PLW0603  (one holder per process, set by the site's AppConfig)
    _schemas = ActionSchemas(schemas)


def playbook_json_schema() -> dict[str, Any]:
    """The JSON Schema of the language, for editors."""
    return build_language_schema(_schemas)


def validate_text(text: str) -> tuple[Playbook | None, tuple[Problem, ...]]:
    """The playbook a text holds (None when it has an error), and all its problems in the text's order."""
    return read_playbook(text, _schemas)


def register_playbook(
    text: str, source: str = "", actor: str = "", meta: Mapping[str, Any] | None = None
) -> Registration:
    """Register a text as a new version, unless the newest version is this very text.

    `source` names the text in errors (a file, a request).
    Raises: `PlaybookInvalid` with all problems; nothing is written then.
    """
    playbook, problems = validate_text(text)
    if playbook is None:
        raise PlaybookInvalid(problems, source)
    with transaction.atomic():
        store.lock_path(playbook.path)
        newest = store.find_version(playbook.path, None)
        if newest is not None and newest.content_hash == content_hash(text):
            return Registration(newest, False, problems)
        version = next_version(newest.version if newest else None)
        return Registration(
            store.insert_version(playbook, text, version, problems, dict(meta or {}), actor), True, problems
        )


@lru_cache(maxsize=256)
def load_playbook(catalog_id: int) -> Playbook:
    """The typed playbook of a version; versions are immutable, so it is kept.

    A version that was normalised to an older form is read anew from its text. Raises: `PlaybookNotFound`, and
    `PlaybookInvalid` when such a text is refused by now.
    """
    payload = store.find_payload(catalog_id)
    if payload is None:
        raise PlaybookNotFound(f"#{catalog_id}")
    if payload.get("format") == FORMAT:
        return Playbook.model_validate(payload)
    found = store.find_by_id(catalog_id)
    assert found is not None
    playbook, problems = validate_text(found.content)
    if playbook is None:
        raise PlaybookInvalid(problems, f"{found.path}:{found.version}")
    return playbook
