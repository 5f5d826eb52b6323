"""The items of a loop, as the naive interpreter (`naive`) goes through them."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from catalog.domain.playbook import Loop, Save
from executions.domain.conditions import evaluate
from executions.domain.results import StepResult
from executions.domain.templating import Lookup, render
from executions.errors import ExecutionError, TemplateError

if TYPE_CHECKING:
    from tests.support.naive import Cause, Frame


class Items:
    """The items of a loop while it runs: each an action, or a frame of its own."""

    def __init__(self, frame: Frame, index: int, loop: Loop, items: list[Any]) -> None:
        self.frame = frame
        self.index = index
        self.loop = loop
        self.items = items
        self.bound = 1 if loop.mode == "sequential" else (loop.concurrency or len(items))
        self.started = 0
        self.entries: dict[int, Any] = {}
        self.outcomes: dict[int, StepResult] = {}
        self.errors: dict[int, str] = {}
        self.asked: set[int] = set()
        self.saving: set[int] = set()
        self.unsaved: dict[int, str] = {}
        self.handed = 0
        self.busy = False
        # No two visits of a loop may give their items' steps the same node ids.
        self.base = (frame.live[index].number - 1) * frame.playbook.max_visits

    def pump(self) -> None:
        """Start what may start; when nothing runs any more the loop is over."""
        if self.busy:
            return
        self.busy = True
        while self.frame.alive and self.may_start():
            first = self.started
            self.started += 1
            if self.loop.end is None:
                self.begin_action(first)
                continue
            # Items with steps of their own are all begun before the first step of any of them starts.
            while self.may_start():
                self.started += 1
            for number in range(first, self.started):
                if self.frame.alive:
                    self.begin_frame(number)
        self.save_chunks()
        self.busy = False
        if self.frame.alive and len(self.entries) == self.started and not self.saving:
            self.close()

    def save_chunks(self) -> None:
        """Save the items that are over, so many at a time; at the end what is left of them."""
        save = self.loop.save
        if save is None:
            return
        over = len(self.entries) == self.started
        for chunk in range(-(-len(self.items) // save.chunk_size)):
            numbers = range(len(self.items))[chunk * save.chunk_size : (chunk + 1) * save.chunk_size]
            begun = [number for number in numbers if number < self.started] if over else list(numbers)
            if chunk in self.asked or not begun or not all(number in self.entries for number in begun):
                continue
            if save.concurrency is not None and len(self.saving) >= save.concurrency:
                return
            self.save_chunk(save, chunk, begun)

    def save_chunk(self, save: Save, chunk: int, numbers: list[int]) -> None:
        self.asked.add(chunk)
        data = []
        try:
            for number in numbers:
                own = self.outcomes[number]
                shown = {**own.envelope(), "this": own.envelope(), **self.variables(number)}
                lookup = self.frame.lookup(self.index, self.frame.live[self.index].scope, shown, own=own)
                if wants(save, own, lookup):
                    data.append(render(save.action.arguments["data"], lookup))
        except TemplateError as error:
            self.unsaved[chunk] = str(error)
            return
        if not data:
            return
        self.handed += len(data)
        self.saving.add(chunk)
        node = f"{self.frame.node(self.index, self.frame.live[self.index].number)}#save:{chunk}"
        self.frame.ask_save(save, node, data, partial(self.chunk_over, chunk))

    def chunk_over(self, chunk: int, result: StepResult) -> None:
        self.saving.remove(chunk)
        if result.status == "error":
            self.unsaved[chunk] = result.error["message"]
        self.pump()

    def may_start(self) -> bool:
        stopped = bool(self.errors) and self.loop.on_error == "fail"
        return not stopped and self.started < len(self.items) and self.started - len(self.entries) < self.bound

    def variables(self, number: int) -> dict[str, Any]:
        item = self.items[number]
        told = {"index": number, "item": item, "count": len(self.items), "parent": self.frame.variables.get("_loop")}
        index = {"index": number} if self.loop.enumerate else {}
        return {**self.frame.variables, self.loop.element: item, **index, "_loop": told}

    def begin_action(self, number: int) -> None:
        over = partial(self.action_over, number)
        try:
            self.frame.ask_action(self.index, self.variables(number), (number,), over)
        except TemplateError as error:
            over(failed(error))

    def action_over(self, number: int, result: StepResult) -> None:
        self.outcomes[number] = result
        self.item_over(number, result.data, result.error["message"] if result.status == "error" else None)

    def begin_frame(self, number: int) -> None:
        frame = self.frame.for_item(self.index, number, self.base, self.variables(number))
        frame.done = lambda cause: self.frame_over(number, frame, cause)
        frame.enter()

    def frame_over(self, number: int, frame: Frame, cause: Cause | None) -> None:
        self.item_over(number, self.entry(frame), None if cause is None else cause.message)

    def entry(self, frame: Frame) -> dict[str, Any]:
        """What an item gave: the data of its body's steps that do something, null where there is none."""
        playbook = frame.playbook
        body = {}
        for index, step in enumerate(playbook.steps):
            inside = playbook.enclosing[index] == (*playbook.enclosing[self.index], self.index)
            if inside and (step.action or step.child or step.loop or step.result is not None):
                result = frame.results.get(index, StepResult("skipped"))
                data = result.data["results"] if step.loop and result.data else result.data
                # What failed after it gave something, as its save may, gives nothing here.
                body[step.name] = data if step.loop or result.status == "success" else None
        return body

    def item_over(self, number: int, entry: Any, error: str | None) -> None:
        self.entries[number] = entry
        if error is not None:
            self.errors[number] = error
        self.pump()

    def close(self) -> None:
        """All items are over: so is the loop step."""
        results = [entry for _, entry in sorted(self.entries.items())]
        errors = [{"index": number, "message": message} for number, message in sorted(self.errors.items())]
        data = {"results": results, "result": results, "count": len(results), "errors": errors}
        meta = {"item_saves": {"items": self.handed, "failed": sorted(self.unsaved)}} if self.asked else None
        if errors and self.loop.on_error == "fail":
            self.frame.world.outcome.torn = True
            error = {"code": "loop_item_failed", "message": f"item {errors[0]['index']} failed"}
            self.frame.end_step(self.index, StepResult("error", data, error, meta))
        elif self.unsaved and self.loop.save is not None and self.loop.save.on_error == "fail":
            error = {"code": "save_failed", "message": "some items were not saved"}
            self.frame.end_step(self.index, StepResult("error", data, error, meta))
        else:
            self.frame.end_step(self.index, StepResult("success", data, meta=meta))
        self.frame.settle()


def collect(loop: Loop, lookup: Lookup) -> list[Any]:
    """The items of a loop: where, order_by, limit, chunk. Raises: `TemplateError`."""
    items = render(loop.items, lookup)
    if isinstance(items, str):
        items = json.loads(items)
    if not isinstance(items, list):
        raise NoList(str(loop.items), "no list")

    def seen(item: Any) -> Lookup:
        return lambda name: item if name == loop.element else lookup(name)

    if loop.filter is not None:
        items = [item for item in items if evaluate(loop.filter, seen(item)).truth]
    if loop.order_by is not None:
        items = sorted(items, key=lambda item: render(loop.order_by, seen(item)))
    if loop.limit is not None:
        items = items[: int(render(loop.limit, lookup))]
    if loop.chunk is not None:
        items = [items[place : place + loop.chunk] for place in range(0, len(items), loop.chunk)]
    return items


def wants(save: Save, own: StepResult, lookup: Lookup) -> bool:
    """Whether what a work came to is to be saved."""
    return save.on in ("always", own.status) and (save.when is None or evaluate(save.when, lookup).truth)


class NoList(TemplateError):
    """What should be looped over is no list."""

    code = "loop_not_a_list"


def failed(error: ExecutionError) -> StepResult:
    return StepResult("error", None, {"code": error.code, "message": str(error)})
