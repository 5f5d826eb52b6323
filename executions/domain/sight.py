"""What the templates of a step see: names to values, in the one order of docs/language.md.

Knows the lookup order and asks for stored values that were not loaded; knows nothing of when a step starts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from catalog.domain.playbook import Playbook, Step
from executions.domain import events as ev
from executions.domain.facts import Facts, MissingFacts, Wanted, want_result
from executions.domain.limits import LANGUAGE_FUNCTION
from executions.domain.results import MISSING, StepResult, aggregate_loop
from executions.domain.state import Scope, State
from executions.domain.templating import Lookup, render

_NAMESPACE: Final = uuid.UUID("6f1b5a5e-5d3c-4c58-9c55-3f6a1b1f0a01")

_ALWAYS_THEMSELVES: Final = frozenset({"workload", "steps", "env"})


def job_uuid(node_id: str) -> str:
    """The stable identity of the work at a node: a hash, so that every attempt has the same."""
    return str(uuid.uuid5(_NAMESPACE, node_id))


class Sight:
    """Everything that a planning can look up, over a state that advances while it plans.

    `ended_here` holds the results, by node id, of steps that ended in this planning; `items_here` those of
    items of a loop.
    """

    def __init__(self, playbook: Playbook, state: State, facts: Facts) -> None:
        self.playbook = playbook
        self.state = state
        self.facts = facts
        self.ended_here: dict[str, StepResult] = {}
        self.items_here: dict[str, dict[int, StepResult]] = {}

    def lookup(self, step: Step, scope: Scope, values: Mapping[str, Any], *, ended: bool = False) -> Lookup:
        """A function from a name to its value, as the templates of `step` see it.

        Order: `workload`, `steps` and `env` (always themselves) > `values` (loop element, inputs) > transition
        inputs > step results > workload keys > the other names every template has. `ended`: the step's
        `next` is being evaluated, and its own result is seen, too. Results are seen of steps that lead to this one
        and of no other: what runs beside it may or may not be over, and nothing may depend on that.
        """

        here = self.playbook.index_by_name[step.name]
        seen = self.playbook.ancestors[here] | (1 << here if ended else 0)

        def find(name: str) -> Any:
            try:
                return look_up(name)
            except MissingFacts as missing:
                self._widen(missing.wanted, step, scope, seen)
                raise

        def look_up(name: str) -> Any:
            if name in scope and name not in values and name not in _ALWAYS_THEMSELVES:
                return self.transition_input(name, scope[name])
            if ended and name in ("status", "error", "result") and self._is_free(name, values, seen):
                return self._of_ended(step, seen, name)
            return self._find(name, values, seen)

        return find

    def survey(self, values: Mapping[str, Any]) -> Lookup:
        """What may be seen of the whole execution: every result there is, in the same order; no step's inputs."""
        everything = (1 << len(self.playbook.steps)) - 1
        return lambda name: self._find(name, values, everything)

    def _is_free(self, name: str, values: Mapping[str, Any], seen: int) -> bool:
        return name not in values and not self.has_result(name, seen)

    def _find(self, name: str, values: Mapping[str, Any], seen: int) -> Any:
        if name in _ALWAYS_THEMSELVES:
            return self._ambient(name, seen)
        if name in values:
            return values[name]
        if (found := self.result(name, seen)) is not MISSING:
            return found
        if name in self.facts.workload:
            return self.facts.workload[name]
        return self._ambient(name, seen)

    def _ambient(self, name: str, seen: int) -> Any:
        facts = self.facts
        match name:
            case "workload" | "work" | "context":
                return facts.workload
            case "steps":
                return _Steps(self, seen, envelopes=True)
            case "results":
                return _Steps(self, seen, envelopes=False)
            case "env":
                return facts.env
            case "execution_id":
                return facts.execution_id
            case "now":
                return _clock(facts.recorded_at)
            case "job":
                return {"uuid": job_uuid(facts.execution_id), "execution_id": facts.execution_id}
        return MISSING

    def _of_ended(self, step: Step, seen: int, name: str) -> Any:
        found = self.result(step.name, seen)
        if found is MISSING:
            return MISSING
        return {"status": found.status, "error": found.error, "result": found.data}[name]

    def handed(self, step: Step, scope: Scope) -> dict[str, Any]:
        """The transition inputs that the step's templates read, or that were handed to the step itself."""
        here = self.playbook.index_by_name[step.name]
        read = {name: place for name, place in scope.items() if name in step.start_reads or place[1] == here}
        missing = {seq for seq, _ in read.values() if seq not in self.facts.transitions}
        if missing:
            raise MissingFacts(Wanted(transitions=missing))
        return {name: self.transition_input(name, place) for name, place in read.items()}

    def inputs(
        self, step: Step, scope: Scope, handed: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The step's own inputs, rendered, with those handed to it by a transition laid on top."""
        own = render(step.inputs, self.lookup(step, scope, {**handed, **variables}))
        here = self.playbook.index_by_name[step.name]
        direct = {name: handed[name] for name, place in scope.items() if place[1] == here}
        return {**own, **direct}

    def has_result(self, name: str, seen: int) -> bool:
        """Whether the step called `name` is one of those `seen` (a bitmap) and has ended."""
        index = self.playbook.index_by_name.get(name)
        return index is not None and bool(seen >> index & 1) and self.state.has_result(index)

    def result(self, name: str, seen: int) -> Any:
        """The newest result of the step called `name`, or `MISSING`. Raises: `MissingFacts`."""
        if not self.has_result(name, seen):
            return MISSING
        index = self.playbook.index_by_name[name]
        if self.state.skipped >> index & 1:
            return StepResult("skipped")
        node_id = ev.step_node_id(self.facts.execution_id, name, self.state.visit(index))
        return self.stored(self.playbook.steps[index], node_id)

    def stored(self, step: Step, node_id: str) -> StepResult:
        """The result at a node, from this planning or from the log. Raises: `MissingFacts`."""
        if node_id in self.ended_here:
            return self.ended_here[node_id]
        if step.loop is not None and node_id in self.facts.loops:
            return self._loop_result(node_id)
        if step.loop is None and node_id in self.facts.results:
            return self.facts.results[node_id]
        wanted = Wanted()
        (wanted.loops if step.loop is not None else wanted.results).add(node_id)
        raise MissingFacts(wanted)

    def _widen(self, wanted: Wanted, reader: Step, scope: Scope, seen: int) -> None:
        """Ask for all that the reader's templates read at once, so that one more round is enough."""
        for name in (*reader.start_reads, *reader.next_reads):
            if self.has_result(name, seen):
                want_result(self.playbook, self.state, self.facts.execution_id, name, wanted)
        wanted.transitions.update(seq for seq, _ in scope.values() if seq not in self.facts.transitions)

    def _loop_result(self, node_id: str) -> StepResult:
        """A loop's result, put together from its items' outcomes."""
        outcomes = {**self.facts.loops[node_id], **self.items_here.get(node_id, {})}
        own = self.facts.results.get(node_id, StepResult("success"))
        found = StepResult(own.status, aggregate_loop(sorted(outcomes.items())), own.error)
        self.ended_here[node_id] = found
        return found

    def transition_input(self, name: str, place: tuple[int, int]) -> Any:
        """The value that a transition handed over. Raises: `MissingFacts`."""
        seq, target = place
        if seq not in self.facts.transitions:
            raise MissingFacts(Wanted(transitions={seq}))
        return self.facts.transitions[seq][self.playbook.steps[target].name][name]


def _clock(recorded_at: str) -> Callable[[], str]:
    """`now()`: the recorded time, the same however often it is asked."""

    def now() -> str:
        return recorded_at

    setattr(now, LANGUAGE_FUNCTION, True)
    return now


class _Steps(Mapping[str, Any]):
    """`steps` (envelopes) or `results` (data) of the steps that have ended, read only when a template names one."""

    def __init__(self, sight: Sight, seen: int, *, envelopes: bool) -> None:
        self._sight = sight
        self._seen = seen
        self._envelopes = envelopes

    def __getitem__(self, name: str) -> Any:
        found = self._sight.result(name, self._seen)
        if found is MISSING:
            raise KeyError(name)
        return found.envelope() if self._envelopes else found.data

    def __contains__(self, name: object) -> bool:
        return self._sight.has_result(str(name), self._seen)

    def __iter__(self) -> Iterator[str]:
        return (step.name for step in self._sight.playbook.steps if step.name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
