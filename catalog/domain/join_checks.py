"""`join: all`: a step that waits for every predecessor must be able to get them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from catalog.domain.graph import bits_of
from catalog.domain.playbook import Playbook, Step
from catalog.domain.reading import Reading, shown
from catalog.domain.steps import StepRead


class _Branch(NamedTuple):
    """One branch of a step's `next`: the item's place in it, and which side of it."""

    step: int
    item: int
    side: str


def check_joins(reading: Reading, playbook: Playbook, reads: Sequence[StepRead], reached: set[int]) -> None:
    """Refuse joins that can never fire."""
    joins = [index for index, step in enumerate(playbook.steps) if step.join == "all" and index in reached]
    if not joins:
        return
    branches = _branches_into(playbook)
    for join in joins:
        pointer, name = reads[join].places["join"], shown(playbook.steps[join].name)
        before = list(bits_of(playbook.predecessors[join]))
        absent = [index for index in before if index not in reached]
        if absent:
            lost = shown(playbook.steps[absent[0]].name)
            advice = f"lead to the step {lost} as well: {name} waits for it, and nothing reaches it"
            reading.error("join_never_fires", advice, pointer)
            continue
        split = _split(playbook, branches, join, before)
        if split is not None:
            advice = f"write `join: any`, or remove it: the step {shown(split)} takes only one of the ways to {name}"
            reading.error("join_never_fires", advice, pointer)


def _branches_into(playbook: Playbook) -> list[list[_Branch]]:
    """For each step the branches of `next` that name it, by any step."""
    into: list[list[_Branch]] = [[] for _ in playbook.steps]
    for index, step in enumerate(playbook.steps):
        for place, item in enumerate(step.next):
            for side, targets in (("then", item.then), ("else", item.otherwise)):
                for target in targets:
                    into[playbook.index_by_name[target.step]].append(_Branch(index, place, side))
    return into


def _split(playbook: Playbook, into: list[list[_Branch]], join: int, before: list[int]) -> str | None:
    """A step that takes only one of two branches which the join needs both."""
    needed: dict[int, list[tuple[int, _Branch]]] = {}
    for source in before:
        for branch in _branches_before(playbook, into, join, source):
            for other, taken in needed.setdefault(branch.step, []):
                if other != source and _exclude(playbook.steps[branch.step], branch, taken):
                    return playbook.steps[branch.step].name
            needed[branch.step].append((source, branch))
    return None


def _branches_before(playbook: Playbook, into: list[list[_Branch]], join: int, source: int) -> Iterator[_Branch]:
    """The branches that must have been taken for `source` to arrive: as far back as there is one way only."""
    target, seen = join, {join}
    ways = [branch for branch in into[join] if branch.step == source]
    while len(ways) == 1 and source not in seen:
        # In a cycle another visit may take the other branch.
        if not playbook.ancestors[source] >> source & 1:
            yield ways[0]
        seen.add(source)
        target = source
        ways = into[target]
        if playbook.predecessors[target].bit_count() != 1 or not ways:
            return
        source = ways[0].step


def _exclude(step: Step, one: _Branch, other: _Branch) -> bool:
    """Whether a step never takes both branches in one visit."""
    if one.item == other.item:
        return one.side != other.side
    kinds = {step.next[one.item].kind, step.next[other.item].kind}
    if "always" in kinds or "else" in (one.side, other.side):
        return False
    return ("default" in kinds and kinds != {"default"}) or (step.next_mode == "exclusive" and kinds == {"condition"})
