"""What the storages share whose writing is another kind's work: it runs as a step of that kind would.

The kinds are lent by whoever builds them. So there is one way to send and one to run code, with its rules, bounds,
errors and logs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from executors.actions.save.arguments import SaveArguments
from executors.actions.save.storage import SaveContext, Storage
from executors.contract import ActionContext, ActionFailed, ActionKind, ActionRequest
from executors.sandbox.sparing import Sparing


@dataclass(frozen=True, slots=True)
class Part:
    """What is handed over at once: `data` as its reader wants it, and the rows in it.

    `effect_key` is the same for every attempt, and another for each part. `rows_before` are those of earlier parts.
    """

    data: Any
    rows: Sequence[Any]
    effect_key: str
    rows_before: int


@dataclass(frozen=True, slots=True)
class Work:
    """What the kind is asked to do for a part."""

    arguments: Mapping[str, Any]
    inputs: Mapping[str, Any]


class KindStorage(Storage):
    """A storage that is called like the kind whose work it is."""

    def __init__(self) -> None:
        self._kinds: Mapping[str, ActionKind] = {}

    def work_with(self, kinds: Mapping[str, ActionKind]) -> None:
        """Use these kinds from now on; they are the worker's to close."""
        self._kinds = kinds

    def _each(
        self, rows: Sequence[Any], spec: SaveArguments, context: SaveContext, work_of: Callable[[Part], Work]
    ) -> Iterator[Any]:
        """What the kind gives for each part, in order. Raises: `ActionFailed`, which tells of the rows before it."""
        kind = self._kinds.get(self.name)
        if kind is None:
            raise ActionFailed("storage_unavailable", f"this worker has no actions of the kind {self.name!r}")
        told = Sparing(context.lent.log)
        lent = cast("ActionContext", _Lent(context.lent, told))
        try:
            for part in parts_of(rows, spec, context.effect_key):
                yield _run(kind, _request(self.name, work_of(part), part, context), lent, part)
        finally:
            told.end()


class _Lent:
    """What a job is lent, with one log for all of its parts."""

    def __init__(self, lent: ActionContext, told: Sparing) -> None:
        self._lent = lent
        self.log = told.tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lent, name)


def parts_of(rows: Sequence[Any], spec: SaveArguments, effect_key: str) -> Iterator[Part]:
    """All of it at once; with a `chunk_size` so many rows as a list; with one of 1 each row by itself."""
    size = spec.chunk_size
    if size is None:
        yield Part(list(rows) if spec.of_items else spec.data, rows, effect_key, 0)
        return
    for number, start in enumerate(range(0, len(rows), size), 1):
        some = rows[start : start + size]
        yield Part(some[0] if size == 1 else list(some), some, f"{effect_key}/batch-{number}", start)


def _run(kind: ActionKind, request: ActionRequest, lent: ActionContext, part: Part) -> Any:
    try:
        if request.timeout_seconds <= 0:
            raise ActionFailed("timeout", "stopped: the time of the save is over")
        return kind.run(request, lent)
    except ActionFailed as failure:
        if part.rows_before:
            raise _behind(failure, part.rows_before) from None
        raise


def _request(kind: str, work: Work, part: Part, context: SaveContext) -> ActionRequest:
    return replace(
        context.request,
        kind=kind,
        arguments=work.arguments,
        inputs=work.inputs,
        effect_key=part.effect_key,
        timeout_seconds=context.deadline - time.monotonic(),
    )


def _behind(failure: ActionFailed, rows: int) -> ActionFailed:
    return ActionFailed(
        failure.code,
        f"{rows} rows were saved before it failed: {failure}",
        data=failure.data,
        traceback=failure.traceback,
        retry_after_seconds=failure.retry_after_seconds,
    )
