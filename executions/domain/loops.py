"""The items of a loop: what the collection is, which items stay, and how many may start now."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.domain.playbook import Loop
from executions.domain.conditions import Verdict, evaluate
from executions.domain.frames import LoopState
from executions.domain.templating import Lookup, render
from executions.domain.values import plain
from executions.errors import TemplateError, shorten


class NoCollection(TemplateError):
    """What should be looped over is no list."""

    code = "loop_not_a_list"


class NoOrder(TemplateError):
    """The items' sort keys cannot be compared, or the limit is no number."""

    code = "loop_not_ordered"


@dataclass(slots=True)
class Items:
    """The items that stay, in their order, and the filters that failed (each such item is left out)."""

    kept: list[Any]
    failed: list[Verdict] = field(default_factory=list)


def collect_items(loop: Loop, collection: Any, lookup: Lookup) -> Items:
    """Filter, order, cut and chunk a rendered collection: in this sequence.

    Raises: `NoCollection`, `NoOrder`, `TemplateError`.
    """
    items = Items(_as_list(loop, collection))
    with_item = _with_item(loop, lookup)
    if loop.filter is not None and loop.filter.strip() not in ("", "{{}}"):
        _filter(loop.filter, items, with_item)
    if loop.order_by is not None:
        items.kept = _ordered(loop.order_by, items.kept, with_item)
    if loop.limit is not None:
        items.kept = items.kept[: _limit(loop.limit, lookup)]
    if loop.chunk is not None:
        items.kept = [items.kept[at : at + loop.chunk] for at in range(0, len(items.kept), loop.chunk)]
    return items


def _with_item(loop: Loop, lookup: Lookup) -> Callable[[Any, int], Lookup]:
    def bound(item: Any, place: int) -> Lookup:
        names = {loop.element: item, **({"index": place} if loop.enumerate else {})}
        return lambda name: names[name] if name in names else lookup(name)

    return bound


def _filter(condition: str, items: Items, with_item: Callable[[Any, int], Lookup]) -> None:
    given, items.kept = items.kept, []
    for place, item in enumerate(given):
        verdict = evaluate(condition, with_item(item, place))
        if verdict.truth:
            items.kept.append(item)
        if verdict.warning:
            items.failed.append(verdict)


def _ordered(template: str, items: list[Any], with_item: Callable[[Any, int], Lookup]) -> list[Any]:
    """The items by their keys; nothing (null) comes first, equal keys keep their order."""
    keys = [render(template, with_item(item, place)) for place, item in enumerate(items)]
    try:
        order = sorted(range(len(items)), key=lambda place: _sort_key(keys[place]))
    except TypeError:
        order = None
    if order is None:
        raise NoOrder(template, "the items' sort keys cannot be compared with one another")
    return [items[place] for place in order]


def _sort_key(key: Any) -> tuple[bool, Any]:
    return (False, 0) if key is None else (True, key)


def _limit(limit: Any, lookup: Lookup) -> int:
    value = render(limit, lookup)
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise NoOrder(str(limit), f"the limit of a loop needs a whole number from 0 and got {shorten(repr(value), 60)}")


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


def item_names(loop: Loop | None) -> frozenset[str]:
    """The names that an item of the loop gives its templates."""
    if loop is None:
        return frozenset()
    return frozenset(
        {loop.element, "_loop", *(["index"] if loop.enumerate else []), *(["batch"] if loop.chunk is not None else [])}
    )


def loop_variables(
    loop: Loop, loop_id: str, step: str, index: int, item: Any, count: int, parent: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The values of `item_names`; `parent` is the `_loop` of the item around this loop."""
    values = {
        loop.element: item,
        "index": index,
        "batch": item,
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
            **({} if parent is None else {"parent": parent}),
        },
    }
    return {name: values[name] for name in item_names(loop)}
