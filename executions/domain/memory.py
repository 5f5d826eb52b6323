"""An execution's log and its frames in memory, and the one assembly of results from events.

The database's shell asks the same questions with SQL. The rule is the same: an outcome gives a node its result, and
what the step itself made of it (`result`, an error) lies over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from executions.domain import events as ev
from executions.domain.events import Event
from executions.domain.facts import Facts
from executions.domain.frames import encode_frame
from executions.domain.results import StepResult
from executions.domain.state import State
from executions.domain.wanted import FrameKey, Wanted

STEP_STATUSES: Final = {
    ev.STEP_STARTED: "running",
    ev.STEP_SKIP: "skipped",
    ev.STEP_COMPLETED: "success",
    ev.STEP_FAILED: "error",
}
_GIVE_RESULTS: Final = ev.OUTCOMES | {
    ev.WAIT_COMPLETED,
    ev.LOOP_ITERATION_COMPLETED,
    ev.STEP_COMPLETED,
    ev.STEP_FAILED,
}
_ALWAYS_WELL: Final = frozenset({ev.ACTION_COMPLETED, ev.STEP_COMPLETED})


class MemoryLog:
    """Events in the order of their `seq`, from 1, with the time that each was written at (RFC 3339).

    Results, items and transition inputs are found by node and seq, so that loading costs what is loaded.
    """

    def __init__(self, events: Iterable[tuple[Event, str]] = ()) -> None:
        self.events: list[Event] = []
        self.times: list[str] = []
        self._results: dict[str, StepResult] = {}
        self._by_step: dict[str, dict[str, StepResult]] = {}
        self._loops: dict[str, list[Any]] = {}
        for event, at in events:
            self.append(event, at)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def append(self, event: Event, at: str) -> None:
        """Add the next event."""
        self.events.append(event)
        self.times.append(at)
        if event.type in _GIVE_RESULTS:
            result = _laid_over(event, self._results.get(event.node_id))
            self._results[event.node_id] = result
            self._by_step.setdefault(_step_prefix(event.node_id), {})[event.node_id] = result
        elif event.type == ev.LOOP_START:
            self._loops[event.node_id] = event.context["items"]

    def result(self, node_id: str) -> StepResult | None:
        """What a node came to, if it has ended."""
        return self._results.get(node_id)

    def load(self, facts: Facts, wanted: Wanted) -> None:
        """Add the wanted stored values to `facts`, as far as a log has them."""
        facts.results.update((node_id, self._results[node_id]) for node_id in wanted.results & self._results.keys())
        for prefix in wanted.trees:
            nodes = self._by_step.get(_step_prefix(prefix), {})
            facts.trees[prefix] = {node_id: found for node_id, found in nodes.items() if node_id.startswith(prefix)}
        for seq in wanted.transitions:
            taken = self.events[seq - 1].context["taken"]
            facts.transitions[seq] = {item["step"]: item["inputs"] for item in taken}
        for seq in wanted.kept:
            facts.kept[seq] = self.events[seq - 1].result
        for node_id, index in wanted.items:
            facts.items[node_id, index] = self._loops[node_id][index]
        for seq in wanted.signals:
            facts.signals[seq] = self.events[seq - 1].context["data"]
        if wanted.completed:
            facts.completed = [event.node_id for event in self.events if event.type == ev.STEP_COMPLETED]


class MemoryFrames:
    """The frames of items as they would be stored, so that planning one event reads only those on its path."""

    def __init__(self) -> None:
        self._frames: dict[FrameKey, dict[str, Any]] = {}
        self._below: dict[FrameKey, set[FrameKey]] = {}

    def keep(self, state: State) -> None:
        """Store what has changed since the state was read."""
        for key in state.dropped:
            self._drop(key)
        for key in state.dirty:
            if key and key in state.frames:
                self._frames[key] = encode_frame(state.frames[key])
                self._below.setdefault(key[:-2], set()).add(key)

    def load(self, facts: Facts, wanted: Wanted) -> None:
        """Add the wanted frames to `facts`."""
        facts.frames.update((key, self._frames.get(key)) for key in wanted.frames)
        if wanted.all_frames:
            facts.frames.update(self._frames)
            facts.all_frames = True

    def all(self) -> dict[FrameKey, dict[str, Any]]:
        """Every frame but the root, as stored."""
        return dict(self._frames)

    def _drop(self, key: FrameKey) -> None:
        """Drop the frames of an item, of all items of a loop (a key without the item), or everything, for the root."""
        if key and len(key) % 2 == 0:
            gone = {key}
        else:
            parent = key[:-1]
            gone = {child for child in self._below.get(parent, ()) if child[: len(key)] == key}
        while gone:
            one = gone.pop()
            gone |= self._below.pop(one, set())
            self._frames.pop(one, None)
            self._below.get(one[:-2], set()).discard(one)


def _step_prefix(node_id: str) -> str:
    """Execution and step of a node id, or of a prefix of node ids."""
    return ":".join(node_id.partition("#")[0].split(":")[:2])


def _laid_over(event: Event, before: StepResult | None) -> StepResult:
    """The result of a node after one more event about it."""
    well = event.type in _ALWAYS_WELL or (event.type != ev.STEP_FAILED and event.status == "success")
    status: Literal["success", "error"] = "success" if well else "error"
    data = event.result if event.result is not None or before is None else before.data
    meta = event.meta if event.type in (ev.STEP_COMPLETED, ev.STEP_FAILED) else None
    return StepResult(status, data, None if well else event.error, meta)


def step_statuses(log: Iterable[Event]) -> dict[str, str]:
    """The status of the newest visit of every step that has started or was skipped, in the order of first starts."""
    statuses: dict[str, str] = {}
    for event in log:
        if (status := STEP_STATUSES.get(event.type)) is not None:
            statuses[event.node_name] = status
    return statuses
