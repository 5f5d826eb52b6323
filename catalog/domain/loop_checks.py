"""Loops over several steps: each is tied to the step that ends it, and what its body may not do is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from catalog.domain.graph import bits_of
from catalog.domain.playbook import Playbook
from catalog.domain.reading import Reading, shown, suggestion
from catalog.domain.steps import StepRead


def link_loops(reading: Reading, reads: Sequence[StepRead]) -> None:
    """Give every loop over several steps its end."""
    by_name = {found.step.name: found for found in reads}
    ends: dict[str, str] = {}
    with reading.shaping_the_graph():
        for found in reads:
            if found.step.end_loop is not None:
                _link(reading, found, by_name, ends)
        for found in reads:
            if found.opens_loop and found.step.name not in ends:
                name = shown(found.step.name)
                advice = f"give the step {name} an action, or write `end_loop: {name}` on the step after the loop"
                reading.error("loop_without_end", advice, found.places["loop"], key=True)


def _link(reading: Reading, found: StepRead, by_name: dict[str, StepRead], ends: dict[str, str]) -> None:
    name, pointer = str(found.step.end_loop), found.places["end_loop"]
    loop = by_name.get(name)
    if loop is None or "loop" not in loop.places:
        loops = [other.step.name for other in by_name.values() if other.opens_loop]
        advice = suggestion(name, loops) or "name a step that has `loop` and no action"
        reading.error("unknown_loop", f"there is no loop `{shown(name)}`; {advice}", pointer)
    elif loop.step.loop is not None and not loop.opens_loop:
        advice = f"remove `end_loop`: the loop of {shown(name)} is one action, and ends by itself"
        reading.error("unknown_loop", advice, pointer)
    elif name in ends:
        advice = f"remove `end_loop`: the step {shown(ends[name])} already ends the loop {shown(name)}"
        reading.error("loop_ends_twice", advice, pointer)
    else:
        ends[name] = found.step.name
        if loop.step.loop is not None:
            closed = loop.step.loop.model_copy(update={"end": found.step.name})
            loop.step = loop.step.model_copy(update={"loop": closed})
        return
    found.step = found.step.model_copy(update={"end_loop": None})


def check_bodies(
    reading: Reading, playbook: Playbook, reads: Sequence[StepRead], outside: Sequence[Mapping[str, str]]
) -> None:
    """Tell of bodies that do not come to their end, or that are entered or left on other ways.

    `outside` is where the playbook itself names steps, which then run outside of any loop.
    """
    into: list[list[int]] = [[] for _ in reads]
    for source, found in enumerate(reads):
        for name in found.leads:
            into[playbook.index_by_name[name]].append(source)
    for loop, body in playbook.bodies.items():
        checked = _Body(reading, playbook, reads, into, loop, body)
        checked.check()
        for places in outside:
            checked.check_outside(places)


class _Body:
    """The body of one loop: a bitmap of its steps. `into` are, for each step, those that lead to it."""

    def __init__(
        self,
        reading: Reading,
        playbook: Playbook,
        reads: Sequence[StepRead],
        into: Sequence[Sequence[int]],
        loop: int,
        body: int,
    ) -> None:
        over = playbook.steps[loop].loop
        assert over is not None
        assert over.end is not None
        self._reading = reading
        self._steps = playbook.steps
        self._reads = reads
        self._into = into
        self._loop = loop
        self._within = body | 1 << loop
        self._body = list(bits_of(body))
        self._end = playbook.index_by_name[over.end]
        self._name = shown(playbook.steps[loop].name)

    def check(self) -> None:
        """Tell of everything that is wrong with the body."""
        if not any(self._within >> source & 1 for source in self._into[self._end]):
            advice = f"lead from the steps of the loop {self._name} to {shown(self._steps[self._end].name)}"
            place = self._reads[self._end].places["end_loop"]
            self._reading.error("loop_end_unreachable", f"{advice}, which ends it: no way leads there", place)
            return
        for index in self._body:
            self._check_leaving(index)
        for index in (*self._body, self._end):
            self._check_entering(index)

    def _check_leaving(self, index: int) -> None:
        found = self._reads[index]
        for target, pointer in found.leads.items():
            advice = ""
            if target == self._steps[self._loop].name:
                advice = f"lead to the end of the loop {self._name} instead: the next item begins by itself"
            elif target in ("start", "end"):
                advice = f"lead to the end of the loop {self._name} first: {target} does not run once per item"
            if advice:
                self._reading.error("loop_body_leaves", advice, pointer)
        if "undo" in found.places:
            advice = f"remove `undo`: a step in the loop {self._name} cannot be undone"
            self._reading.error("misplaced_key", advice, found.places["undo"], key=True)

    def check_outside(self, places: Mapping[str, str]) -> None:
        """Tell of steps of the body, or its end, that are named where they do not belong."""
        inside = {self._steps[index].name for index in (*self._body, self._end)}
        for name in inside & places.keys():
            self._refuse_entry(name, places[name])

    def _check_entering(self, index: int) -> None:
        name = self._steps[index].name
        for source in self._into[index]:
            if not self._within >> source & 1 and name not in ("start", "end"):
                self._refuse_entry(name, self._reads[source].leads[name])

    def _refuse_entry(self, name: str, pointer: str) -> None:
        advice = f"lead elsewhere: {shown(name)} belongs to the loop {self._name}, and runs only for its items"
        self._reading.error("loop_body_leaves", advice, pointer)
