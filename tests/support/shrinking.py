"""Making a case that breaks a law smaller, and showing it: the plain answer to Hypothesis's shrinking, for seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from catalog.domain.playbook import Playbook, Step, Target, Transition
from tests.support.generating import Case, without_target

Breaks = Callable[[Case], bool]

PLAIN = Step(name="plain")
ALWAYS_KEPT = {"name", "action", "next", "start_reads", "next_reads", "end_loop", "loop", "error_targets"}


def shrink(case: Case, breaks: Breaks) -> Case:
    """A smaller case that still breaks the law; `breaks` tells whether one does."""
    while True:
        for smaller in simpler(case):
            if closed(smaller.playbook) and breaks(smaller):
                case = smaller
                break
        else:
            return case


def simpler(case: Case) -> Iterator[Case]:
    """Cases with one thing less."""
    book = case.playbook
    for step in book.steps:
        if step.name != "start":
            yield replace(case, playbook=without_step(book, step))
    for name in case.fates:
        yield replace(case, fates={other: fate for other, fate in case.fates.items() if other != name})
    for name in case.fates:
        if case.fates[name] != "broken":
            yield replace(case, fates={**case.fates, name: "broken"})
    for fields in ({"on_error": ()}, {"finally_steps": ()}):
        if any(getattr(book, key) != value for key, value in fields.items()):
            yield replace(case, playbook=changed(book, **fields))
    for index, step in enumerate(book.steps):
        for smaller in simpler_steps(step):
            steps = (*book.steps[:index], smaller, *book.steps[index + 1 :])
            yield replace(case, playbook=changed(book, steps=steps))


def simpler_steps(step: Step) -> Iterator[Step]:
    for place, item in enumerate(step.next):
        rest = (*step.next[:place], *step.next[place + 1 :])
        yield step.model_copy(update={"next": rest})
        if item.kind != "always":
            always = Transition(kind="always", then=item.then)
            yield step.model_copy(update={"next": (*step.next[:place], always, *step.next[place + 1 :])})
        if item.otherwise:
            bare = item.model_copy(update={"otherwise": ()})
            yield step.model_copy(update={"next": (*step.next[:place], bare, *step.next[place + 1 :])})
        if any(target.inputs for target in item.then):
            bare = item.model_copy(update={"then": tuple(Target(step=target.step) for target in item.then)})
            yield step.model_copy(update={"next": (*step.next[:place], bare, *step.next[place + 1 :])})
    for key in Step.model_fields.keys() - ALWAYS_KEPT:
        if getattr(step, key) != getattr(PLAIN, key):
            routes = {"error_targets": ()} if key == "on_error" else {}
            yield step.model_copy(update={key: getattr(PLAIN, key), **routes})
    for key in ("inputs", "result"):
        if isinstance(value := getattr(step, key), dict):
            for name in value:
                yield step.model_copy(update={key: {other: it for other, it in value.items() if other != name}})
    if step.loop is not None:
        if step.loop.end is None:
            yield step.model_copy(update={"loop": None})
        for key in ("filter", "order_by", "limit", "chunk", "concurrency"):
            if getattr(step.loop, key) is not None:
                yield step.model_copy(update={"loop": step.loop.model_copy(update={key: None})})
        for items in ([1], [1, 2]):
            if step.loop.items not in ([1], [1, 2]):
                yield step.model_copy(update={"loop": step.loop.model_copy(update={"items": items})})
    if step.action is not None and step.loop is None and step.undo is None:
        yield step.model_copy(update={"action": None, "inputs": {}, "retry": None})


def without_step(book: Playbook, gone: Step) -> Playbook:
    """The playbook without a step; a loop over steps goes with its end, and its body is where it was."""
    names = {gone.name, gone.end_loop, gone.loop.end if gone.loop is not None else None} - {None}
    steps = [step for step in book.steps if step.name not in names]
    for name in names:
        steps = [without_target(step, str(name)) for step in steps]
    return changed(
        book,
        steps=tuple(steps),
        on_error=tuple(target for target in book.on_error if target.step not in names),
        finally_steps=tuple(name for name in book.finally_steps if name not in names),
    )


def changed(book: Playbook, **fields: Any) -> Playbook:
    """A playbook with other fields; what is worked out from them is worked out anew."""
    given = {name: getattr(book, name) for name in Playbook.model_fields}
    return Playbook.model_construct(**{**given, **fields})


def closed(book: Playbook) -> bool:
    """Whether no loop's body is entered or left but by its loop, and all names are there."""
    if "start" not in book.index_by_name:
        return False
    for index, step in enumerate(book.steps):
        loops = book.enclosing[index]
        closes = step.loop.end if step.loop is not None else None
        if step.end_loop is not None and step.end_loop not in book.index_by_name:
            return False
        for place in book._written_successors[index]:
            target = book.steps[place]
            inside = (*loops, index) if closes is not None and target.name != closes else loops
            if target.end_loop is not None and target.name != closes:
                if not loops or book.steps[loops[-1]].name != target.end_loop:
                    return False
            elif book.enclosing[place] != inside:
                return False
    return True


def shown(case: Case) -> str:
    """A case in few lines: a step a line, without what is as always."""
    lines = []
    for step in case.playbook.steps:
        told = step.model_dump(
            exclude_defaults=True, exclude={"name", "next", "start_reads", "next_reads", "action", "undo"}
        )
        loop = told.pop("loop", None)
        parts = ["action"] * (step.action is not None) + ["undo"] * (step.undo is not None)
        parts += [f"loop{loop}"] if loop else []
        parts += [f"{key}={value}" for key, value in told.items()]
        parts += [_shown_transition(item) for item in step.next]
        lines.append(f"  {step.name}: {'; '.join(parts)}")
    book = case.playbook
    lines.append(f"  (on_error {[target.step for target in book.on_error]}, finally {list(book.finally_steps)},")
    lines.append(f"   max_visits {book.max_visits}, fates {case.fates}, salt {case.salt})")
    return "\n".join(lines)


def _shown_transition(item: Transition) -> str:
    def names(targets: tuple[Target, ...]) -> str:
        return ", ".join(target.step + (str(target.inputs) if target.inputs else "") for target in targets)

    head = {"always": "", "default": "default ", "condition": f"if {item.when} "}[item.kind]
    return f"{head}-> {names(item.then)}" + (f" else {names(item.otherwise)}" if item.otherwise else "")
