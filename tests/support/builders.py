"""Short ways to build playbooks as values, without YAML."""

from __future__ import annotations

from typing import Any

from catalog.domain.playbook import Action, Loop, Playbook, Step, Target, Transition
from catalog.domain.template_syntax import names_read


def to(*steps: str, **inputs: Any) -> Transition:
    """An unconditional transition that hands `inputs` to each target."""
    return Transition(kind="always", then=tuple(Target(step=step, inputs=inputs) for step in steps))


def when(condition: str, *steps: str, otherwise: tuple[str, ...] = ()) -> Transition:
    """A conditional transition."""
    return Transition(
        kind="condition",
        when=condition,
        then=tuple(Target(step=step) for step in steps),
        otherwise=tuple(Target(step=step) for step in otherwise),
    )


def default(*steps: str) -> Transition:
    """The branch that is taken when no condition was true."""
    return Transition(kind="default", then=tuple(Target(step=step) for step in steps))


def step(name: str, *transitions: Transition, action: bool = True, loop: Loop | None = None, **fields: Any) -> Step:
    """A step with a python action, unless `action` is false."""
    given = Action(kind="python", arguments={"code": "..."}, verbatim=("code",)) if action else None
    reads = [fields.get(key) for key in ("inputs", "skip_if", "run_if", "result")]
    if loop is not None:
        reads += [loop.items, loop.filter]
    next_reads = [[item.when, [target.inputs for target in item.then]] for item in transitions]
    return Step(
        name=name,
        action=given,
        loop=loop,
        next=transitions,
        start_reads=tuple(sorted(names_read(reads))),
        next_reads=tuple(sorted(names_read(next_reads))),
        **fields,
    )


def start(*transitions: Transition) -> Step:
    """The routing step `start`."""
    return step("start", *transitions, action=False)


def end(result: Any = None) -> Step:
    """The routing step `end`."""
    return step("end", action=False, result=result)


def playbook(*steps: Step, **fields: Any) -> Playbook:
    """A playbook of these steps."""
    return Playbook(name="book", path="tests/book", steps=steps, **fields)
