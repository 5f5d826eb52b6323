"""What can only be judged over the whole playbook: reachability, and names that nothing gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catalog.domain.graph import reachable_from
from catalog.domain.join_checks import check_joins
from catalog.domain.loop_checks import check_bodies
from catalog.domain.playbook import Playbook
from catalog.domain.reading import Reading, Use, shown, suggestion
from catalog.domain.reads import results_name
from catalog.domain.spelling import GLOBAL_NAMES
from catalog.domain.steps import StepRead


@dataclass(frozen=True, slots=True)
class Head:
    """What stands beside the steps: names that its templates read and give, and where it names steps."""

    uses: list[Use]
    given: set[str]
    tasks: frozenset[str]
    error_places: Mapping[str, str]
    finally_places: Mapping[str, str]


def check_playbook(reading: Reading, playbook: Playbook, reads: Sequence[StepRead], head: Head) -> None:
    """Tell of routes that go wrong, and of names in templates that cannot have a value."""
    reached: set[int] = set()
    # Where a transition is missing, what would be said of the graph may be wrong.
    if reading.graph_is_whole:
        reached = _reached(playbook)
        for index, found in enumerate(reads):
            # `end` runs at quiescence even when no branch leads to it.
            if index not in reached and found.step.name != "end":
                advice = f"lead to the step {shown(found.step.name)} with a `next`, or remove it: it is never reached"
                reading.warn("unreachable_step", advice, found.pointer)
        check_bodies(reading, playbook, reads, (head.error_places, head.finally_places))
        check_joins(reading, playbook, reads, reached)
        _check_finally(reading, playbook, reads, head)
    _check_step_secrets(reading, playbook)
    _NameChecks(reading, playbook, reads, head).check(head.uses, reached)


def _check_step_secrets(reading: Reading, playbook: Playbook) -> None:
    """The result of a step of the kind `secrets` is a reference: nothing can be done with it."""
    for name, pointer in dict.fromkeys(reading.step_secrets):
        if name in playbook.secret_steps:
            alone = f"write the secret by itself, as {{{{ {shown(name)}.secret_value }}}}, in SQL as one of `params`"
            advice = f"{alone}: it is a reference, and nothing can be done with it"
            reading.error("template_syntax", advice, pointer)


def _reached(playbook: Playbook) -> set[int]:
    """The steps that can run: from `start`, which leads to the playbook's `on_error`, too, `finally` and `notify`."""
    notices = (step.name for step in playbook.steps if step.notice is not None)
    roots = {"start", *playbook.finally_steps, *notices}
    return {step for root in roots for step in reachable_from(playbook.successors, playbook.index_by_name[root])}


def _check_finally(reading: Reading, playbook: Playbook, reads: Sequence[StepRead], head: Head) -> None:
    """The steps of `finally` run after all others, the step end included: no way leads across."""
    region = playbook.finally_region
    for name in ("start", "end"):
        if name in head.finally_places:
            advice = f"name another step: {name} is part of what `finally` comes after"
            reading.error("finally_leaves", advice, head.finally_places[name])
    for index, found in enumerate(reads):
        if region >> index & 1:
            for name in {"start", "end"} & found.leads.keys():
                advice = f"end the branch here: `finally` comes after the step {name}, and leads nowhere else"
                reading.error("finally_leaves", advice, found.leads[name])
        else:
            _check_entered(reading, playbook, found.leads)
    _check_entered(reading, playbook, head.error_places)


def _check_entered(reading: Reading, playbook: Playbook, leads: Mapping[str, str]) -> None:
    for target, pointer in leads.items():
        if playbook.finally_region >> playbook.index_by_name[target] & 1:
            advice = f"lead elsewhere: only `finally` runs the step {shown(target)}, when all else is over"
            reading.error("finally_entered", advice, pointer)


class _NameChecks:
    """The names that exist somewhere in a playbook, and the templates that read others."""

    def __init__(self, reading: Reading, playbook: Playbook, reads: Sequence[StepRead], head: Head) -> None:
        self._reading = reading
        self._playbook = playbook
        self._reads = reads
        self._tasks = head.tasks
        self._given = playbook.workload.keys() | head.given
        self._results: set[str] = set()
        for found in reads:
            self._given |= found.given
            if found.step.loop is not None:
                self._given.add(found.step.loop.element)
                self._results.add(results_name(found.step))
            if found.step.end_loop is not None and isinstance(found.step.result, dict):
                self._results |= found.step.result.keys()
        self._known = self._given | self._results | GLOBAL_NAMES | playbook.index_by_name.keys()
        self._told: set[tuple[str, str]] = set()

    def check(self, uses: Sequence[Use], reached: set[int]) -> None:
        for use in uses:
            self._check_known(use)
        for index, found in enumerate(self._reads):
            for use in found.uses:
                self._check_known(use)
                if index in reached and found.step.name != "end":
                    self._check_has_run(use, index)
                if reached:
                    self._check_is_inside(use, index)

    def _check_known(self, use: Use) -> None:
        if use.name in self._known or not self._first(use):
            return
        if use.name in self._tasks:
            advice = f"read the result of the step that runs `{shown(use.name)}`: a workbook task itself has none"
            self._reading.error("not_supported", advice, use.pointer)
            return
        advice = suggestion(use.name, self._known) or "it is no step, no workload key and no input"
        self._reading.warn("unknown_name", f"nothing gives `{shown(use.name)}` a value; {advice}", use.pointer)

    def _step_of(self, use: Use) -> int | None:
        """The step whose result is read, when the name can mean nothing else."""
        if use.name in self._given or use.name in self._results or use.name in GLOBAL_NAMES:
            return None
        return self._playbook.index_by_name.get(use.name)

    def _check_has_run(self, use: Use, index: int) -> None:
        """A step's result is there for the steps after it, and for its own `next`."""
        other = self._step_of(use)
        if other is None or self._playbook.ancestors[index] >> other & 1:
            return
        if (use.phase == "next" and other == index) or not self._first(use):
            return
        name, reader = shown(use.name), shown(self._playbook.steps[index].name)
        advice = f"`{name}` cannot have run before the step {reader}: lead from it to there, or read another"
        self._reading.warn("step_cannot_have_run", advice, use.pointer)

    def _check_is_inside(self, use: Use, index: int) -> None:
        """A step of a loop's body runs once per item: from outside there is no one result of it."""
        other = self._step_of(use)
        if other is None:
            return
        outside = [loop for loop in self._playbook.enclosing[other] if loop not in self._playbook.enclosing[index]]
        if outside and self._first(use):
            loop = self._playbook.steps[outside[0]]
            advice = f"read `{shown(results_name(loop))}`: `{shown(use.name)}` runs once per item of {shown(loop.name)}"
            self._reading.warn("step_cannot_have_run", advice, use.pointer)

    def _first(self, use: Use) -> bool:
        seen = (use.pointer, use.name) in self._told
        self._told.add((use.pointer, use.name))
        return not seen
