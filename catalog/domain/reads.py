"""Which names the templates of a step read: they say what is loaded before it is planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from catalog.domain.playbook import Action, Playbook, Step, Target, targets_of
from catalog.domain.template_syntax import names_read


def with_reads(playbook: Playbook) -> Playbook:
    """The playbook with `start_reads` and `next_reads` of every step."""
    more = _results_by_other_names(playbook)
    handlers = _inputs_of(playbook.on_error)
    steps = []
    for step in playbook.steps:
        reads = {
            "start_reads": _sorted(names_read(_read_at_start(step)), more, step.name),
            "next_reads": _sorted(names_read([*_read_at_next(step), *handlers]), more, step.name),
        }
        steps.append(step.model_copy(update=reads))
    return playbook.model_copy(update={"steps": tuple(steps)})


def _read_at_start(step: Step) -> list[Any]:
    """What is rendered when the step starts; its loop's element is not from outside."""
    values = [step.inputs, step.skip_if, step.run_if, step.result, *_arguments(step.action)]
    if step.child is not None:
        values += [step.child.path, step.child.version]
    if step.limit is not None:
        values.append(step.limit.key)
    if step.wait is not None:
        values += [step.wait.what, step.wait.form]
    if (loop := step.loop) is not None:
        values += [loop.items, loop.filter, loop.order_by, loop.limit]
    return values


def _read_at_next(step: Step) -> list[Any]:
    """What is rendered after the step's work: what is saved, its transitions, and what follows a failure."""
    values = [*(item.when for item in step.next), *_inputs_of([*targets_of(step), *step.error_targets])]
    if step.retry is not None:
        values += [step.retry.retry_when, step.retry.stop_when]
    for save in step.saves:
        values += [save.when, *_arguments(save.action)]
        if save.retry is not None:
            values += [save.retry.retry_when, save.retry.stop_when]
    return [*values, *_arguments(step.undo), step.undo_inputs]


def _arguments(action: Action | None) -> list[Any]:
    if action is None:
        return []
    return [value for key, value in action.arguments.items() if key not in action.verbatim]


def _inputs_of(targets: Iterable[Target]) -> list[Any]:
    return [target.inputs for target in targets]


def _results_by_other_names(playbook: Playbook) -> dict[str, list[str]]:
    """Names that stand for a step's result: `LOOP_results`, and the keys of a loop end's `result`."""
    names: dict[str, list[str]] = {}
    for step in playbook.steps:
        if step.loop is not None and step.loop.end is not None:
            for name in (results_name(step), "loop_results"):
                names.setdefault(name, []).append(step.name)
        if step.end_loop is not None and isinstance(step.result, dict):
            for key in step.result:
                names.setdefault(key, []).append(step.name)
    return names


def results_name(loop: Step) -> str:
    """The name of what the items of a loop over several steps gave."""
    return f"{loop.name}_results"


def _sorted(names: set[str], more: Mapping[str, list[str]], own: str) -> tuple[str, ...]:
    also = {step for name in names for step in more.get(name, ()) if step != own}
    return tuple(sorted(names | also))
