"""`type: playbook`: which playbook is run as a child, and what its answer is. Source: docs/language.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from catalog.domain.codec import LATEST, split_reference
from catalog.domain.playbook import Child
from catalog.domain.reading import Field, Fields, Reading, Use, shown
from catalog.domain.spelling import CHILD_ANSWER, CHILD_PATH
from catalog.domain.template_syntax import is_template

MAX_PATH_CHARS: Final = 500
ALL_BELOW: Final = "/*"
CHILD_ELEMENT: Final = "child_path"
"""Name of the item in a loop over all playbooks below a path."""
_PATH: Final = re.compile(r"[^\s:/\x00-\x1f]+(?:/[^\s:/\x00-\x1f]+)*")


@dataclass(frozen=True, slots=True)
class ChildRead:
    """A child as read; `under` is the path of `path: PATH/*`, whose playbooks are all run."""

    child: Child
    under: str | None = None


def read_child(reading: Reading, fields: Fields, where: str, pointer: str, uses: list[Use]) -> ChildRead | None:
    """Take the child's keys out of the fields. `pointer` is the place of the step or task."""
    if (content := fields.pop("content", None)) is not None:
        advice = "is not read: register the playbook and name it with `path`"
        reading.error("not_supported", f"`content` {advice}", content.pointer, key=True)
    found = reading.one_of(fields, CHILD_PATH, "the child's path")
    version = _text(reading, fields.pop("version", None), f"`version` {where}", uses)
    # It is rendered over the child's context: its names are the child's.
    answer = _text(reading, reading.one_of(fields, CHILD_ANSWER, "the child's answer"), f"`return` {where}", [])
    path = _text(reading, found, f"`path` {where}", uses)
    if found is None or not path:
        if content is None and (found is None or found.value in (None, "")):
            reading.error("missing_argument", f"give `path` {where}: the playbook to run", pointer)
        return None
    if path.endswith(ALL_BELOW) and not is_template(path):
        check_path(reading, path.removesuffix(ALL_BELOW), found)
        return ChildRead(
            Child(path=f"{{{{ {CHILD_ELEMENT} }}}}", version=version, answer=answer), path.removesuffix(ALL_BELOW)
        )
    if not is_template(path):
        path, pinned = split_reference(path)
        check_path(reading, path, found)
        if pinned and version and pinned != version:
            advice = f"keep one version: `version` counts, the one in `path` {where} is ignored"
            reading.warn("spelling_conflict", advice, found.pointer)
        version = version or pinned
    return ChildRead(Child(path=path, version=None if version == LATEST else version, answer=answer))


def check_path(reading: Reading, path: str, found: Field) -> None:
    """Refuse a path that no playbook can be registered with."""
    # A client takes . and .. for steps within an address, and would never ask for what lies there.
    if len(path) > MAX_PATH_CHARS or not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        advice = f"make the path `{shown(path)}` names joined by /, as team/daily/report, without blanks and colons"
        reading.error("invalid_path", advice, found.pointer)


def _text(reading: Reading, found: Field | None, what: str, uses: list[Use]) -> str | None:
    """A text that may be a template; None when there is none."""
    text = reading.text(found, what).strip()
    if found is not None and text:
        reading.templates(found, f"in {what}", uses)
    return text or None
