"""What the templates of a step see: names to values, in the one order of docs/language.md.

Knows the lookup order and asks for stored values that were not loaded; knows nothing of when a step starts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from catalog.domain.playbook import Playbook, Step
from executions.domain import events as ev
from executions.domain.aggregates import collect_loop
from executions.domain.facts import Facts, want_result
from executions.domain.frames import Scope
from executions.domain.limits import LANGUAGE_FUNCTION
from executions.domain.loops import item_names, loop_variables
from executions.domain.results import MISSING, StepResult
from executions.domain.state import State, frame_key, path_of
from executions.domain.templating import Lookup, coerce_literals, render
from executions.domain.wanted import FrameKey, MissingFacts, Wanted

_NAMESPACE: Final = uuid.UUID("6f1b5a5e-5d3c-4c58-9c55-3f6a1b1f0a01")

_ALWAYS_THEMSELVES: Final = frozenset({"workload", "steps", "env"})
_RESULTS: Final = "_results"


def job_uuid(node_id: str) -> str:
    """The stable identity of the work at a node: a hash, so that every attempt has the same."""
    return str(uuid.uuid5(_NAMESPACE, node_id))


@dataclass(frozen=True, slots=True)
class Spot:
    """A step in a frame: where templates are rendered."""

    key: FrameKey
    index: int


class Sight:
    """Everything that a planning can look up, over a state that advances while it plans.

    `ended_here` holds the results, by node id, of nodes that ended in this planning, `marked_here` the `meta` of
    those events that ended steps.
    """

    def __init__(self, playbook: Playbook, state: State, facts: Facts) -> None:
        self.playbook = playbook
        self.state = state
        self.facts = facts
        self.ended_here: dict[str, StepResult] = {}
        self.marked_here: dict[str, Any] = {}
        self._loops: dict[str, dict[str, Any]] = {}

    def step(self, spot: Spot) -> Step:
        """The step at a spot."""
        return self.playbook.steps[spot.index]

    def node_id(self, spot: Spot, item: int | None = None, *, upcoming: bool = False) -> str:
        """The node id of a step's newest visit, or the next one, or of an item of its loop."""
        visit = self.state.frame(spot.key).number(spot.index) + (1 if upcoming else 0)
        path = path_of(spot.key) if item is None else (*path_of(spot.key), item)
        return ev.step_node_id(self.facts.execution_id, self.step(spot).name, visit, path)

    def render(self, value: Any, lookup: Lookup) -> Any:
        """Render templates, the way of the playbook's `coerce`. Raises: `TemplateError`, `MissingFacts`."""
        return render(value, lookup, coerce_literals if self.playbook.coerce == "legacy" else None)

    # -- names --------------------------------------------------------------------------------------

    def lookup(self, spot: Spot, scope: Scope, values: Mapping[str, Any], *, ended: bool = False) -> Lookup:
        """A function from a name to its value, as the templates of the step at `spot` see it.

        Order: `workload`, `steps` and `env` (always themselves) > the item, the items around > `values` (inputs) >
        transition inputs > step results > workload keys > the other names every template has. `ended`: the step's
        `next` is being evaluated, and its own result is seen, too. Results are seen of steps that lead to this one
        and of no other: what runs beside it may or may not be over, and nothing may depend on that.
        """
        seen = _Seen(spot.key, self.playbook.ancestors[spot.index] | (1 << spot.index if ended else 0))
        own = item_names(self.step(spot).loop)

        def find(name: str) -> Any:
            try:
                return look_up(name)
            except MissingFacts as missing:
                self._widen(missing.wanted, spot, scope, seen)
                raise

        def look_up(name: str) -> Any:
            if name in _ALWAYS_THEMSELVES:
                return self._ambient(name, spot.key, seen)
            if name in own and name in values:
                return values[name]
            if (found := self._of_items_around(name, spot.key)) is not MISSING:
                return found
            if name in values:
                return values[name]
            if name in scope:
                return self.transition_input(name, scope[name])
            if ended and name in ("status", "error", "result") and not self.has_result(name, seen):
                return self._of_ended(spot, seen, name)
            return self._find(name, spot, seen)

        return find

    def survey(self, values: Mapping[str, Any]) -> Lookup:
        """What may be seen of the whole execution: every result there is, in the same order; no step's inputs."""
        seen = _Seen((), (1 << len(self.playbook.steps)) - 1)

        def find(name: str) -> Any:
            if name in values and name not in _ALWAYS_THEMSELVES:
                return values[name]
            return self._find(name, None, seen)

        return find

    def _find(self, name: str, spot: Spot | None, seen: _Seen) -> Any:
        if name not in _ALWAYS_THEMSELVES:
            if (found := self.result(name, seen)) is not MISSING:
                return found
            if name.endswith(_RESULTS) and (found := self._loop_results(name, spot, seen)) is not MISSING:
                return found
            if name in self.facts.workload:
                return self.facts.workload[name]
            if (found := self._of_loop_ends(name, seen)) is not MISSING:
                return found
        return self._ambient(name, spot.key if spot else (), seen, spot)

    def _of_items_around(self, name: str, key: FrameKey) -> Any:
        """An element, `_loop`, `index`, `batch`: of the innermost item that has the name."""
        for depth in range(len(key), 0, -2):
            index, place = key[depth - 2], key[depth - 1]
            if name in item_names(self.playbook.steps[index].loop):
                return self.item_variables(Spot(key[: depth - 2], index), place)[name]
        return MISSING

    def item_variables(self, spot: Spot, place: int) -> dict[str, Any]:
        """The names that an item of the loop at `spot` gives its templates. Raises: `MissingFacts`."""
        step = self.step(spot)
        loop, live = step.loop, self.state.frame(spot.key).live[spot.index].loop
        assert loop is not None and live is not None
        node_id = self.node_id(spot)
        if (node_id, place) not in self.facts.items:
            raise MissingFacts(Wanted(items={(node_id, place)}))
        outer = self._of_items_around("_loop", spot.key)
        parent = None if outer is MISSING else outer
        return loop_variables(loop, node_id, step.name, place, self.facts.items[node_id, place], live.total, parent)

    def items_of(self, spot: Spot) -> list[Any]:
        """All items of the loop at `spot`, in their order. Raises: `MissingFacts`."""
        live = self.state.frame(spot.key).live[spot.index].loop
        assert live is not None
        wanted = [(self.node_id(spot), place) for place in range(live.total)]
        if missing := set(wanted) - self.facts.items.keys():
            raise MissingFacts(Wanted(items=missing))
        return [self.facts.items[one] for one in wanted]

    def _loop_results(self, name: str, spot: Spot | None, seen: _Seen) -> Any:
        """`NAME_results` of a loop over several steps; `loop_results` of the one that the step closes, or the last."""
        if name != f"loop{_RESULTS}":
            found = self.result(name.removesuffix(_RESULTS), seen, only=self.playbook.bodies)
        else:
            own = self.step(spot).end_loop if spot else None
            loops = sorted(self.playbook.bodies, reverse=True)
            names = [own] if own else [self.playbook.steps[loop].name for loop in loops]
            results = (self.result(loop, seen) for loop in names)
            found = next((result for result in results if result is not MISSING), MISSING)
        if found is MISSING:
            return MISSING
        # A loop that was skipped has no items.
        return [] if found.data is None else found.data["results"]

    def _of_loop_ends(self, name: str, seen: _Seen) -> Any:
        """A key of the `result` of a step that closes a loop is a name of its own after it."""
        for step in self.playbook.loop_end_keys.get(name, ()):
            found = self.result(step, seen)
            if found is not MISSING and isinstance(found.data, Mapping) and name in found.data:
                return found.data[name]
        return MISSING

    def _ambient(self, name: str, key: FrameKey, seen: _Seen, spot: Spot | None = None) -> Any:
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
            case "execution":
                closing = self.state.closing or {"status": self.state.status, "error": None}
                return {"id": facts.execution_id, "status": closing["status"], "error": closing["error"]}
            case "path":
                return self.playbook.path
            case "step_name" if spot is not None:
                return self.step(spot).name
            case "now":
                return _clock(facts.recorded_at)
            case "job":
                return {"uuid": job_uuid(facts.execution_id), "execution_id": facts.execution_id}
        return MISSING

    def _of_ended(self, spot: Spot, seen: _Seen, name: str) -> Any:
        found = self.result(self.step(spot).name, seen)
        if found is MISSING:
            return MISSING
        return {"status": found.status, "error": found.error, "result": found.data}[name]

    # -- inputs -------------------------------------------------------------------------------------

    def handed(self, spot: Spot, scope: Scope) -> dict[str, Any]:
        """The transition inputs that the step's templates read, or that were handed to the step itself."""
        reads = self.step(spot).start_reads
        read = {name: place for name, place in scope.items() if name in reads or place[1] == spot.index}
        missing = {seq for seq, _ in read.values() if seq not in self.facts.transitions}
        if missing:
            raise MissingFacts(Wanted(transitions=missing))
        return {name: self.transition_input(name, place) for name, place in read.items()}

    def inputs(
        self, spot: Spot, scope: Scope, handed: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The step's own inputs, rendered, with those handed to it by a transition laid on top."""
        own = self.render(self.step(spot).inputs, self.lookup(spot, scope, {**handed, **variables}))
        direct = {name: handed[name] for name, place in scope.items() if place[1] == spot.index}
        return {**own, **direct}

    def transition_input(self, name: str, place: tuple[int, int]) -> Any:
        """The value that a transition handed over. Raises: `MissingFacts`."""
        seq, target = place
        if seq not in self.facts.transitions:
            raise MissingFacts(Wanted(transitions={seq}))
        step = self.playbook.steps[target if target >= 0 else ~target]
        return self.facts.transitions[seq][step.name][name]

    # -- results ------------------------------------------------------------------------------------

    def _visible(self, name: str, seen: _Seen) -> Spot | None:
        """Where the step called `name` is, when it can be seen and has ended."""
        index = self.playbook.index_by_name.get(name)
        if index is None or not seen.steps >> index & 1:
            return None
        around = self.playbook.enclosing[index]
        if around != seen.key[: 2 * len(around) : 2]:
            return None
        key = frame_key(self.playbook, index, path_of(seen.key))
        return Spot(key, index) if self.state.frame(key).has_result(index) else None

    def has_result(self, name: str, seen: _Seen) -> bool:
        """Whether the step called `name` is one of those `seen` and has ended."""
        return self._visible(name, seen) is not None

    def result(self, name: str, seen: _Seen, *, only: Mapping[int, Any] | None = None) -> Any:
        """The newest result of the step called `name`, or `MISSING`; of a step in `only`. Raises: `MissingFacts`."""
        spot = self._visible(name, seen)
        if spot is None or (only is not None and spot.index not in only):
            return MISSING
        if self.state.frame(spot.key).skipped >> spot.index & 1:
            return StepResult("skipped")
        return self.stored(spot)

    def secret_of(self, name: str, spot: Spot) -> Any:
        """The data of the step of the kind `secrets` called `name`, as the step at `spot` sees it; None: it does not.

        Raises: `MissingFacts`.
        """
        if name not in self.playbook.secret_steps:
            return None
        found = self.result(name, _Seen(spot.key, self.playbook.ancestors[spot.index] | 1 << spot.index))
        return None if found is MISSING else found.data

    def stored(self, spot: Spot) -> StepResult:
        """The result of a step's newest visit, from this planning or from the log. Raises: `MissingFacts`."""
        node_id = self.node_id(spot)
        step = self.step(spot)
        found = self.ended_here.get(node_id) or self.facts.results.get(node_id)
        if found is None:
            if not self._is_stored(spot, step):
                return StepResult("success")
            raise MissingFacts(Wanted(results={node_id}))
        meta = self._meta(node_id, self.marked_here.get(node_id, found.meta))
        if step.loop is None:
            return found if found.meta == meta else replace(found, meta=meta)
        return StepResult(found.status, self.loop_data(spot), found.error, meta)

    def _is_stored(self, spot: Spot, step: Step) -> bool:
        """Whether there is more to know of a step that has ended than that it succeeded."""
        if step.loop is not None or step.gives_result or step.saves:
            return True
        return not self.state.frame(spot.key).succeeded >> spot.index & 1

    def outcome(self, node_id: str) -> StepResult:
        """What the work at a node came to. Raises: `MissingFacts`."""
        found = self.ended_here.get(node_id) or self.facts.results.get(node_id)
        if found is None:
            raise MissingFacts(Wanted(results={node_id}))
        return found

    def _meta(self, node_id: str, marks: Any) -> dict[str, Any] | None:
        """What `meta` shows: the end of a step tells how its save ended, and the save's own node what it came to."""
        if not marks:
            return None
        told = dict(marks)
        if (ended := told.pop("save", None)) in ("success", "error"):
            saved = self.outcome(ev.save_node_id(node_id))
            told |= {"save": saved.data} if ended == "success" else {"save_error": saved.error}
        return told

    def loop_data(self, spot: Spot) -> dict[str, Any]:
        """The data of a loop whose items are over. Raises: `MissingFacts`."""
        node_id = self.node_id(spot)
        if node_id not in self._loops:
            visit, path = self.state.frame(spot.key).number(spot.index), path_of(spot.key)
            self._loops[node_id] = collect_loop(
                self.playbook, self.facts.execution_id, spot.index, path, visit, self._tree
            )
        return self._loops[node_id]

    def _tree(self, prefix: str) -> Mapping[str, StepResult]:
        if prefix not in self.facts.trees:
            raise MissingFacts(Wanted(trees={prefix}))
        here = {node_id: found for node_id, found in self.ended_here.items() if node_id.startswith(prefix)}
        return {**self.facts.trees[prefix], **here}

    def _widen(self, wanted: Wanted, spot: Spot, scope: Scope, seen: _Seen) -> None:
        """Ask for all that the reader's templates read at once, so that one more round is enough."""
        step = self.step(spot)
        for name in (*step.start_reads, *step.next_reads):
            if self.has_result(name, seen):
                want_result(self.playbook, self.state, self.facts.execution_id, path_of(spot.key), name, wanted)
        # What ended in this planning is in no log yet.
        wanted.results -= self.ended_here.keys()
        wanted.transitions.update(seq for seq, _ in scope.values() if seq not in self.facts.transitions)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Whose results may be seen: from which frame, and which steps, as a bitmap."""

    key: FrameKey
    steps: int


def _clock(recorded_at: str) -> Callable[[], str]:
    """`now()`: the recorded time, the same however often it is asked."""

    def now() -> str:
        return recorded_at

    setattr(now, LANGUAGE_FUNCTION, True)
    return now


class _Steps(Mapping[str, Any]):
    """`steps` (envelopes) or `results` (data) of the steps that have ended, read only when a template names one."""

    def __init__(self, sight: Sight, seen: _Seen, *, envelopes: bool) -> None:
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
