"""The frames of items of loops over several steps: parts of a state, a row each.

Keys are texts here: place of the loop's step, index of the item, and so on, as `3.0.5.1`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from executions.domain.wanted import FrameKey
from executions.store.statements import execute, json_text, json_value, rows

ROOT: FrameKey = ()


def load_frames(execution_id: int, keys: Collection[FrameKey]) -> dict[FrameKey, dict[str, Any] | None]:
    """The stored frames at these keys; None where there is none."""
    if not keys:
        return {}
    found = rows("frames_at", execution_id=execution_id, keys=sorted(map(_text, keys)))
    return {**dict.fromkeys(keys), **{_key(key): json_value(data) for key, data in found}}


def load_all_frames(execution_id: int) -> dict[FrameKey, dict[str, Any]]:
    """All stored frames of an execution."""
    return {_key(key): json_value(data) for key, data in rows("all_frames", execution_id=execution_id)}


def save_frames(
    execution_id: int, changed: Mapping[FrameKey, dict[str, Any]], dropped: Iterable[FrameKey] = ()
) -> None:
    """Drop frames with all below them, then write the changed ones. The caller holds the execution's lock.

    `dropped` may hold the key of a loop's step, (..., step), which stands for all its items, and the root.
    """
    gone = set(dropped)
    if ROOT in gone:
        execute("drop_all_frames", execution_id=execution_id)
    elif gone:
        execute("drop_frames", execution_id=execution_id, keys=sorted(map(_text, gone)))
    if changed:
        keys = sorted(changed)
        execute(
            "write_frames",
            execution_id=execution_id,
            keys=[_text(key) for key in keys],
            datas=[json_text(changed[key]) for key in keys],
        )


def _text(key: FrameKey) -> str:
    return ".".join(map(str, key))


def _key(text: str) -> FrameKey:
    return tuple(map(int, text.split(".")))
