"""What the catalog tells of a registered playbook version, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from catalog.errors import Problem


@dataclass(frozen=True, slots=True)
class PinnedVersion:
    """Which version of a playbook; the part of a `RegisteredPlaybook` that an execution keeps."""

    id: int
    path: str
    version: str


@dataclass(frozen=True, slots=True)
class RegisteredPlaybook:
    """One version of a playbook. `content` is the text as given; `id` is what executions keep."""

    id: int
    path: str
    version: str
    content: str
    content_hash: str
    warnings: tuple[Mapping[str, Any], ...]
    meta: Mapping[str, Any]
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class Registration:
    """What came of registering a text. `created` is False when the newest version already was this text."""

    playbook: RegisteredPlaybook
    created: bool
    warnings: tuple[Problem, ...]
