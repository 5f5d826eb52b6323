"""A version that was registered before the normalised form changed is read anew from its text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from catalog import services, store
from catalog.api import PlaybookInvalid, PlaybookNotFound, load_playbook
from catalog.domain.playbook import FORMAT
from catalog.domain.registered import RegisteredPlaybook
from tests.support.catalog_kinds import SCHEMAS

TEXT = """\
apiVersion: noetl.io/v1
kind: Playbook
name: old
path: a/b
workflow:
  - {step: start, type: wait, duration: 5}
"""


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A version as the store would give it: its `payload` and its `content`."""
    row: dict[str, Any] = {"payload": None, "content": TEXT}

    def find_by_id(catalog_id: int) -> RegisteredPlaybook:
        return RegisteredPlaybook(
            catalog_id, "a/b", "0.1.0", row["content"], "", (), {}, datetime(2026, 1, 1, tzinfo=UTC), "ann"
        )

    monkeypatch.setattr(store, "find_by_id", find_by_id)
    monkeypatch.setattr(store, "find_payload", lambda _: row["payload"])
    monkeypatch.setattr(services, "_schemas", SCHEMAS)
    load_playbook.cache_clear()
    return row


def test_an_old_form_is_read_from_its_text(stored: dict[str, Any]) -> None:
    stored["payload"] = {"format": FORMAT - 1, "name": "old", "path": "a/b", "steps": [{"name": "start", "gone": 1}]}
    playbook = load_playbook(1)
    assert playbook.format == FORMAT
    assert playbook.steps[0].wait is not None


def test_the_newest_form_is_taken_as_it_is_stored(stored: dict[str, Any]) -> None:
    stored["payload"] = {"format": FORMAT, "name": "stored", "path": "a/b", "steps": [{"name": "start"}]}
    assert load_playbook(1).name == "stored"


def test_an_old_text_that_is_refused_by_now_says_why(stored: dict[str, Any]) -> None:
    stored |= {"payload": {"format": FORMAT - 1}, "content": TEXT.replace("duration", "join")}
    with pytest.raises(PlaybookInvalid, match=r"a/b:0\.1\.0:6:"):
        load_playbook(1)


def test_an_unknown_version_is_told(stored: dict[str, Any]) -> None:
    with pytest.raises(PlaybookNotFound):
        load_playbook(1)
