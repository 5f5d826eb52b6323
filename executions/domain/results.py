"""The result of a step, and how a template reaches into it.

`{{ s.n }}`, `{{ s.data.n }}`, `{{ s.result.n }}`, `{{ s.status }}` and `{{ s.error }}` all answer; the
result's own keys win in `s.x`, and `steps.s.status` is always the envelope. Source: docs/language.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

MISSING: Any = object()
"""What `attribute` gives when there is no such thing."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """How a step ended: its data (null when skipped), the error of a failed one, what its save came to (`meta`)."""

    status: Literal["success", "error", "skipped"]
    data: Any = None
    error: Any = None
    meta: Any = None

    def envelope(self) -> dict[str, Any]:
        """What `steps.NAME` shows; `meta` is there when the step saves."""
        told = {"status": self.status, "data": self.data, "result": self.data, "error": self.error}
        return told if self.meta is None else {**told, "meta": self.meta}

    def attribute(self, name: str) -> Any:
        """What `NAME.x` shows, or `MISSING`."""
        if isinstance(self.data, Mapping) and name in self.data:
            return self.data[name]
        if name in ("data", "result", "value"):
            return self.data
        if name == "status":
            return self.status
        if name == "error":
            return self.error
        if name == "meta" and self.meta is not None:
            return self.meta
        return MISSING


def aggregate_loop(outcomes: Iterable[tuple[int, StepResult]], *, keep_failed: bool = False) -> dict[str, Any]:
    """The data of a loop step: results by item index, every item counted, errors listed.

    `outcomes` are (item index, result) in the order of the index; a failed item's entry is null, unless `keep_failed`:
    what the steps of its body came to before is worth telling.
    """
    results: list[Any] = []
    errors: list[dict[str, Any]] = []
    for index, outcome in outcomes:
        results.append(outcome.data if keep_failed or outcome.status == "success" else None)
        if outcome.status == "error":
            message = outcome.error.get("message", "") if isinstance(outcome.error, Mapping) else outcome.error
            errors.append({"index": index, "message": message})
    return {"results": results, "result": results, "count": len(results), "errors": errors}
