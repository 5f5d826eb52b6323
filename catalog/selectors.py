"""Reading the catalog."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.db.models import QuerySet

from catalog import store
from catalog.domain.codec import LATEST, split_reference
from catalog.domain.registered import PinnedVersion, RegisteredPlaybook
from catalog.errors import PlaybookNotFound
from catalog.models import PlaybookVersion

T = TypeVar("T")

PREFIX = "playbooks/"


def find_playbook_version(path: str, version: str | None = None) -> RegisteredPlaybook:
    """A version of a playbook; the newest for None and `latest`. `PATH:VERSION` may stand in `path`.

    The original's `playbooks/` before a path is cut off where the whole names nothing. Raises: `PlaybookNotFound`.
    """
    return _find(store.find_version, path, version)


def pin_playbook_version(path: str, version: str | None = None) -> PinnedVersion:
    """Which version `find_playbook_version` gives, without its text. Raises: `PlaybookNotFound`."""
    return _find(store.find_pin, path, version)


def _find(look: Callable[[str, str | None], T | None], path: str, version: str | None) -> T:
    if version in (None, "", LATEST):
        path, version = split_reference(path)
    if "\x00" in path or "\x00" in (version or ""):
        raise PlaybookNotFound(path, version)
    for place in dict.fromkeys((path, path.removeprefix(PREFIX))):
        if (found := look(place, version)) is not None:
            return found
    raise PlaybookNotFound(path, version)


def get_playbook_version(catalog_id: int) -> RegisteredPlaybook:
    """The version with this id. Raises: `PlaybookNotFound`."""
    found = store.find_by_id(catalog_id)
    if found is None:
        raise PlaybookNotFound(f"#{catalog_id}")
    return found


def list_playbooks(prefix: str = "") -> list[RegisteredPlaybook]:
    """The newest version of every playbook whose path begins with the prefix, by path."""
    return store.list_newest(prefix)


def list_playbook_versions(path: str) -> list[RegisteredPlaybook]:
    """All versions of a playbook, the newest first; none for an unknown path."""
    return store.list_versions(path)


def query_versions(path: str = "") -> QuerySet[PlaybookVersion]:
    """All versions as rows, of one playbook when its path is given; for pages of lists."""
    return store.query_versions(path)


def query_newest_versions() -> QuerySet[PlaybookVersion]:
    """The newest version of every playbook as rows, by path."""
    return store.query_newest("")


def get_version_row(reference: str) -> PlaybookVersion:
    """The row that PATH or PATH:VERSION names. Raises: `PlaybookNotFound`."""
    return store.query_versions("").get(pk=find_playbook_version(reference).id)
