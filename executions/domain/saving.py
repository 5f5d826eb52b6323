"""What is saved when a work has ended: of a step, which ends when its save has, and of the items of a loop, in chunks.

A save is a job of its own, at a node below the step's. A chunk is a range of items by their index, whatever the order
in which they end: it is saved when all of them are over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from catalog.domain.playbook import Loop, Save, Step
from catalog.domain.template_syntax import names_read
from executions.domain import events as ev
from executions.domain.conditions import evaluate
from executions.domain.frames import LoopState, places
from executions.domain.jobs import EnqueueJob, render_save
from executions.domain.loops import item_names, startable
from executions.domain.planning import Planning, problem_of
from executions.domain.results import StepResult
from executions.domain.sight import Spot
from executions.domain.submitting import submit
from executions.domain.templating import Lookup
from executions.domain.wanted import MissingFacts, Wanted
from executions.errors import TemplateError, shorten

PER_ITEM: Final = ("data", "params")
"""The arguments that every item of a chunk has its own of."""
MAX_MESSAGE_CHARS: Final = 300


def begin_save(planning: Planning, spot: Spot, own: StepResult, kept: Any = None) -> bool:
    """Save a step's result, unless that was done. Returns: whether the step waits for it.

    `own` is what the work came to; `kept` is the step's rendered `result`, which its end will need again.
    """
    step, live = planning.step(spot), planning.state.frame(spot.key).live[spot.index]
    if (save := step.save) is None or live.save:
        return False
    node_id = ev.save_node_id(planning.sight.node_id(spot))
    lookup = _of_step(planning, spot, step, own)
    if (because := _why_not(save, own, lookup)) is not None:
        _skip(planning, node_id, step, because)
        return False
    context = {"storage": save.action.arguments["storage"]}
    try:
        job = render_save(planning.sight, spot, save, node_id, lookup)
    except TemplateError as error:
        _start(planning, node_id, step, context, kept)
        _fail(planning, node_id, step, error)
        return True
    _start(planning, node_id, step, context, kept)
    submit(planning, spot, job)
    return True


def kept_result(planning: Planning, spot: Spot) -> Any:
    """The rendered `result` of a step whose save is over. Raises: `MissingFacts`."""
    seq = planning.state.frame(spot.key).live[spot.index].save_seq
    if seq not in planning.facts.kept:
        raise MissingFacts(Wanted(kept={seq}))
    return planning.facts.kept[seq]


def save_failure(planning: Planning, spot: Spot) -> dict[str, Any] | None:
    """The failure of a step's save, when the step fails with it. Raises: `MissingFacts`."""
    step, live = planning.step(spot), planning.state.frame(spot.key).live[spot.index]
    if step.save is None or step.save.on_error != "fail" or live.save != "error":
        return None
    cause = planning.sight.outcome(ev.save_node_id(planning.sight.node_id(spot))).error
    message = f"the result of step {step.name!r} was not saved: {_message(cause)}"
    return {"code": "save_failed", "message": message, "cause": cause}


def marks_of(planning: Planning, spot: Spot) -> dict[str, Any] | None:
    """The `meta` of the event that ends a step: how its saves ended, if it has any. Raises: `MissingFacts`."""
    step, live = planning.step(spot), planning.state.frame(spot.key).live[spot.index]
    marks: dict[str, Any] = {}
    if live.save:
        marks["save"] = live.save
    if step.loop is not None and step.loop.save is not None and live.loop is not None and live.loop.asked:
        marks["item_saves"] = {
            "items": live.loop.handed,
            "errors": _chunk_errors(planning, spot, step.loop.save.chunk_size, live.loop),
        }
    return marks or None


def _why_not(save: Save, own: StepResult, lookup: Lookup) -> dict[str, Any] | None:
    """Why nothing is to be saved, as an event tells it; None when it is."""
    if save.on != "always" and save.on != own.status:
        return {"because": "on", "on": save.on}
    if save.when is None:
        return None
    verdict = evaluate(save.when, lookup)
    return None if verdict.truth else {"because": "when", **verdict.explain()}


def _of_step(planning: Planning, spot: Spot, step: Step, own: StepResult) -> Lookup:
    """What the save of a step sees beside what its `next` sees."""
    scope = planning.state.frame(spot.key).live[spot.index].scope
    values = _shown(step, own)
    if step.loop is not None:
        # Not of `own`: an `end` may have been registered with a `result` beside its loop.
        came_to = planning.sight.loop_data(spot)
        values |= {name: came_to[name] for name in ("results", "errors", "count")}
    seen = planning.sight.lookup(spot, scope, values)
    return lambda name: planning.sight.items_of(spot) if name == "items" and step.loop is not None else seen(name)


def _shown(step: Step, own: StepResult) -> dict[str, Any]:
    envelope = own.envelope()
    return {"this": envelope, **envelope, step.name: own}


# -- the items of a loop -----------------------------------------------------------------------------


def next_chunk(loop: Loop, counters: LoopState) -> int | None:
    """The first chunk of items that may be saved now."""
    save = loop.save
    if save is None:
        return None
    if save.concurrency is not None and (counters.asked & ~counters.saved).bit_count() >= save.concurrency:
        return None
    if counters.full:
        return next(places(counters.full))
    # What a loop that has stopped early leaves: the last chunk, whose other items never start.
    rest, begun = divmod(counters.started, save.chunk_size)
    over = counters.finished == counters.started and not startable(loop, counters)
    return rest if over and begun and not counters.asked >> rest & 1 else None


def chunks_are_over(counters: LoopState) -> bool:
    """Whether all that was asked to be saved is over."""
    return counters.asked == counters.saved


def save_chunk(planning: Planning, spot: Spot, step: Step, chunk: int) -> None:
    """Save a chunk of the items of a step's loop by one job. Raises: `MissingFacts`."""
    live = planning.state.frame(spot.key).live[spot.index]
    assert step.loop is not None and step.loop.save is not None and live.loop is not None
    save, counters = step.loop.save, live.loop
    node_id = ev.save_node_id(planning.sight.node_id(spot), chunk)
    first = chunk * save.chunk_size
    items = range(first, min(first + save.chunk_size, counters.started))
    context = {"storage": save.action.arguments["storage"], "first": first, "last": items[-1]}
    _want_items(planning, spot, items, read=_reads_items(step, save))
    try:
        rendered = _render_items(planning, spot, step, save, items)
        if not rendered:
            _skip(planning, node_id, step, {"because": "items", **context})
            return
        job = _chunk_job(planning, spot, save, node_id, rendered)
    except TemplateError as error:
        _start(planning, node_id, step, {**context, "items": 0})
        _fail(planning, node_id, step, error)
        return
    _start(planning, node_id, step, {**context, "items": len(rendered)})
    submit(planning, spot, job)


def _own_arguments(save: Save) -> dict[str, Any]:
    """Those that every item of a chunk has its own of."""
    return {name: save.action.arguments[name] for name in PER_ITEM if name in save.action.arguments}


def _reads_items(step: Step, save: Save) -> bool:
    """Whether a chunk reads the items themselves, and not only what came of them."""
    return not item_names(step.loop).isdisjoint(names_read([_own_arguments(save), save.when]))


def _want_items(planning: Planning, spot: Spot, items: Sequence[int], *, read: bool) -> None:
    """Ask for all that a chunk reads at once; `read`: the items as well. Raises: `MissingFacts`."""
    sight, facts, loop_id = planning.sight, planning.facts, planning.sight.node_id(spot)
    nodes = {sight.node_id(spot, item) for item in items}
    wanted = Wanted(
        results=nodes - sight.ended_here.keys() - facts.results.keys(),
        items={(loop_id, item) for item in items if read} - facts.items.keys(),
    )
    if wanted:
        raise MissingFacts(wanted)


def _render_items(
    planning: Planning, spot: Spot, step: Step, save: Save, items: Sequence[int]
) -> list[Mapping[str, Any]]:
    """Of those items that are to be saved the arguments that are their own. Raises: `TemplateError`."""
    sight, scope = planning.sight, planning.state.frame(spot.key).live[spot.index].scope
    own_arguments, reads_items = _own_arguments(save), _reads_items(step, save)
    rendered = []
    for item in items:
        own = sight.outcome(sight.node_id(spot, item))
        variables = sight.item_variables(spot, item) if reads_items else {}
        lookup = sight.lookup(spot, scope, {**_shown(step, own), **variables})
        if _why_not(save, own, lookup) is None:
            rendered.append(sight.render(own_arguments, lookup))
    return rendered


def _chunk_job(
    planning: Planning, spot: Spot, save: Save, node_id: str, rendered: Sequence[Mapping[str, Any]]
) -> EnqueueJob:
    scope = planning.state.frame(spot.key).live[spot.index].scope
    given: dict[str, Any] = {name: [one[name] for one in rendered] for name in rendered[0]}
    lookup = planning.sight.lookup(spot, scope, {})
    return render_save(planning.sight, spot, save, node_id, lookup, {**given, "of_items": True})


def _chunk_errors(planning: Planning, spot: Spot, size: int, counters: LoopState) -> list[dict[str, Any]]:
    """Which items were not saved, and why: an entry per chunk that failed. Raises: `MissingFacts`."""
    sight, loop_id = planning.sight, planning.sight.node_id(spot)
    nodes = {chunk: ev.save_node_id(loop_id, chunk) for chunk in places(counters.unsaved)}
    if missing := set(nodes.values()) - sight.ended_here.keys() - planning.facts.results.keys():
        raise MissingFacts(Wanted(results=missing))
    return [
        {
            "first": chunk * size,
            "last": min((chunk + 1) * size, counters.started) - 1,
            "message": _message(sight.outcome(node_id).error),
        }
        for chunk, node_id in nodes.items()
    ]


def item_save_failure(planning: Planning, spot: Spot, step: Step, counters: LoopState) -> dict[str, Any] | None:
    """The failure of the saves of a loop's items, when the step fails with it. Raises: `MissingFacts`."""
    save = None if step.loop is None else step.loop.save
    if save is None or save.on_error != "fail" or not counters.unsaved:
        return None
    first = _chunk_errors(planning, spot, save.chunk_size, counters)[0]
    message = f"items of step {step.name!r} were not saved, the first at index {first['first']}: {first['message']}"
    return {"code": "save_failed", "message": message}


# -- events ------------------------------------------------------------------------------------------


def _start(planning: Planning, node_id: str, step: Step, context: dict[str, Any], kept: Any = None) -> None:
    event = planning.emit(ev.SAVE_STARTED, node_id, step.name, status="running", context=context, result=kept)
    planning.facts.kept[event.seq] = kept


def _skip(planning: Planning, node_id: str, step: Step, because: dict[str, Any]) -> None:
    planning.emit(ev.SAVE_SKIP, node_id, step.name, status="skipped", context=because)


def _fail(planning: Planning, node_id: str, step: Step, error: TemplateError) -> None:
    """What is to be saved cannot be rendered: as if the job had failed."""
    problem = problem_of(error)
    planning.sight.ended_here[node_id] = StepResult("error", None, problem)
    planning.emit(ev.ACTION_ERROR, node_id, step.name, status="error", error=problem)


def _message(error: Any) -> str:
    message = error.get("message", "") if isinstance(error, Mapping) else error
    return shorten(str(message), MAX_MESSAGE_CHARS)
