"""The storage `event_log`: what is saved is the job's own result, and stands with it in the log for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from executors.actions.save.arguments import SaveArguments
from executors.actions.save.storage import SaveContext, Storage


class EventLogStorage(Storage):
    """Keeps `data` in the execution's own log."""

    name: ClassVar[str] = "event_log"
    takes: ClassVar[frozenset[str]] = frozenset({"data"})

    def save(self, rows: Sequence[Any], spec: SaveArguments, context: SaveContext) -> dict[str, Any]:
        """`{saved: "event", data}`."""
        return {"saved": "event", "data": spec.data}
