"""What can only be judged over the whole playbook: reachability, and names that nothing gives."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.domain.graph import reachable_from
from catalog.domain.playbook import Playbook
from catalog.domain.reading import Reading, Use, shown, suggestion
from catalog.domain.spelling import GLOBAL_NAMES
from catalog.domain.steps import StepRead


def check_playbook(reading: Reading, playbook: Playbook, reads: Sequence[StepRead], workload: Sequence[Use]) -> None:
    """Warn of steps that cannot run, and of names in templates that cannot have a value."""
    reached = reachable_from(playbook.successors, playbook.index_by_name["start"])
    if any(problem.severity == "error" for problem in reading.problems):
        reached = set()  # A transition may be missing: what would be said of the graph may be wrong.
    for index, found in enumerate(reads):
        # `end` runs at quiescence even when no branch leads to it.
        if reached and index not in reached and found.step.name != "end":
            advice = f"lead to the step {shown(found.step.name)} with a `next`, or remove it: it is never reached"
            reading.warn("unreachable_step", advice, found.pointer)
    _Names(reading, playbook, reads).check(workload, reached)


class _Names:
    """The names that exist somewhere in a playbook."""

    def __init__(self, reading: Reading, playbook: Playbook, reads: Sequence[StepRead]) -> None:
        self._reading = reading
        self._playbook = playbook
        self._reads = reads
        self._given = set(playbook.workload)
        for found in reads:
            self._given |= found.given
            if found.step.loop is not None:
                self._given.add(found.step.loop.element)
        self._known = self._given | GLOBAL_NAMES | playbook.index_by_name.keys()
        self._told: set[tuple[str, str]] = set()

    def check(self, workload: Sequence[Use], reached: set[int]) -> None:
        for use in workload:
            self._check_known(use)
        for index, found in enumerate(self._reads):
            for use in found.uses:
                self._check_known(use)
                if index in reached and found.step.name != "end":
                    self._check_has_run(use, index)

    def _check_known(self, use: Use) -> None:
        if use.name not in self._known and self._first(use):
            advice = suggestion(use.name, self._known) or "it is no step, no workload key and no input"
            self._reading.warn("unknown_name", f"nothing gives `{shown(use.name)}` a value; {advice}", use.pointer)

    def _check_has_run(self, use: Use, index: int) -> None:
        """A step's result is there for the steps after it, and for its own `next`."""
        other = self._playbook.index_by_name.get(use.name)
        if other is None or use.name in self._given or use.name in GLOBAL_NAMES:
            return
        if self._playbook.ancestors[index] >> other & 1 or (use.phase == "next" and other == index):
            return
        if self._first(use):
            name, reader = shown(use.name), shown(self._playbook.steps[index].name)
            advice = f"`{name}` cannot have run before the step {reader}: lead from it to there, or read another"
            self._reading.warn("step_cannot_have_run", advice, use.pointer)

    def _first(self, use: Use) -> bool:
        seen = (use.pointer, use.name) in self._told
        self._told.add((use.pointer, use.name))
        return not seen
