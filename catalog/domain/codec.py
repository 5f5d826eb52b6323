"""How a playbook version is written down: canonical JSON, content hash, version numbers, references."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

FIRST_VERSION: Final = "0.1.0"
LATEST: Final = "latest"


def canonical_json(value: Any) -> str:
    """The one text of a JSON-like value: keys sorted, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def version_key(version: str) -> tuple[int, ...]:
    """A version as numbers, for ordering: 0.1.10 comes after 0.1.9."""
    return tuple(int(part) for part in version.split("."))


def next_version(newest: str | None) -> str:
    """The version after the newest one: its last number plus one."""
    if newest is None:
        return FIRST_VERSION
    *head, patch = version_key(newest)
    return ".".join(str(number) for number in (*head, patch + 1))


def split_reference(reference: str) -> tuple[str, str | None]:
    """`PATH` or `PATH:VERSION` as path and version; the version `latest` is None."""
    path, colon, version = reference.rpartition(":")
    if not colon:
        return reference, None
    return path, None if version in ("", LATEST) else version
