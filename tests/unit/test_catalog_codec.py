"""Versions, references, canonical JSON."""

from __future__ import annotations

import pytest

from catalog.domain.codec import canonical_json, content_hash, next_version, split_reference, version_key


def test_versions_grow_by_number() -> None:
    assert [next_version(None), next_version("0.1.9"), next_version("0.1.10")] == [
        "0.1.0",
        "0.1.10",
        "0.1.11",
    ]
    assert version_key("0.1.10") > version_key("0.1.9")


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("a/b", ("a/b", None)),
        ("a/b:0.1.2", ("a/b", "0.1.2")),
        ("a/b:latest", ("a/b", None)),
        ("a:", ("a", None)),
    ],
)
def test_references(reference: str, parts: tuple[str, str | None]) -> None:
    assert split_reference(reference) == parts


def test_canonical_json_has_one_text() -> None:
    assert (
        canonical_json({"b": [1, None], "a": "é"})
        == canonical_json({"a": "é", "b": [1, None]})
        == '{"a":"é","b":[1,null]}'
    )
    assert len(content_hash("x")) == 64
