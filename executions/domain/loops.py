"""The items of a loop: what the collection is, which items stay, and how many may start now."""

from __future__ import annotations

import json
from typing import Any

from catalog.domain.playbook import Loop
from executions.domain.conditions import Verdict, evaluate
from executions.domain.state import LoopState
from executions.domain.templating import Lookup, render
from executions.domain.values import plain
from executions.errors import TemplateError, shorten


class NoCollection(TemplateError):
    """What should be looped over is no list."""

    code = "loop_not_a_list"


def collect_items(loop: Loop, lookup: Lookup) -> tuple[list[Any], list[Verdict]]:
    """Render the collection and leave out what the filter leaves out.

    Returns: the items, and the verdicts of filters that failed (each such item is left out).
    Raises: `NoCollection`, `TemplateError`.
    """
    items = _as_list(loop, render(loop.items, lookup))
    if loop.filter is None or loop.filter.strip() in ("", "{{}}"):
        return items, []
    kept: list[Any] = []
    failed: list[Verdict] = []
    for item in items:
        verdict = evaluate(loop.filter, _with_element(loop.element, item, lookup))
        if verdict.truth:
            kept.append(item)
        if verdict.warning:
            failed.append(verdict)
    return kept, failed


def _with_element(element: str, item: Any, lookup: Lookup) -> Lookup:
    return lambda name: item if name == element else lookup(name)


def _as_list(loop: Loop, value: Any) -> list[Any]:
    """A list as it is; a text as the JSON list it holds; anything else is an error."""
    if isinstance(value, str):
        try:
            value = plain(json.loads(value))
        except (ValueError, RecursionError):
            raise NoCollection(str(loop.items), f"the text {shorten(value, 60)!r} is no JSON list") from None
    if isinstance(value, list):
        return value
    kind = "nothing" if value is None else f"a {type(value).__name__}"
    raise NoCollection(str(loop.items), f"a loop needs a list and got {kind}")


def startable(loop: Loop, state: LoopState) -> int:
    """How many more items may start now."""
    if state.failed and loop.on_error == "fail":
        return 0
    bound = 1 if loop.mode == "sequential" else loop.concurrency
    left = state.total - state.started
    if bound is None:
        return left
    return max(0, min(left, bound - (state.started - state.finished)))


def loop_variables(loop: Loop, loop_id: str, step: str, index: int, item: Any, count: int) -> dict[str, Any]:
    """The names an item's templates see: its element and `_loop`."""
    return {
        loop.element: item,
        "_loop": {
            "loop_id": loop_id,
            "loop_name": step,
            "iterator": loop.element,
            "index": index,
            "current_index": index,
            "item": item,
            "current_item": item,
            "count": count,
            "items_count": count,
        },
    }
