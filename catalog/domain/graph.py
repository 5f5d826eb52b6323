"""Reachability in the static graph of a playbook, over plain integers: step i is bit i.

Knows nothing of playbooks: a graph is, for each step, the steps its `next` can lead to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Graph = Sequence[Sequence[int]]


def bits_of(bitmap: int) -> Iterator[int]:
    """The steps in a bitmap, in order."""
    while bitmap:
        lowest = bitmap & -bitmap
        yield lowest.bit_length() - 1
        bitmap ^= lowest


def reachable_from(graph: Graph, start: int) -> set[int]:
    """The steps that can run when `start` runs, itself included."""
    seen = {start}
    stack = [start]
    while stack:
        for target in graph[stack.pop()]:
            if target not in seen:
                seen.add(target)
                stack.append(target)
    return seen


def ancestor_bitmaps(graph: Graph) -> tuple[int, ...]:
    """For each step t a bitmap: bit i is set when step i can reach t by at least one transition.

    Cycles are contracted first, so the work is one pass over the transitions, with whole bitmaps.
    """
    component_of, members = _components(graph)
    own = [0] * len(members)
    for component, steps in enumerate(members):
        for step in steps:
            own[component] |= 1 << step
    ancestors = [0] * len(members)
    # Tarjan finishes a component after all it leads to: from the last to the first, sources come first.
    for component in reversed(range(len(members))):
        steps = members[component]
        targets = {component_of[target] for step in steps for target in graph[step]}
        if component in targets:
            ancestors[component] |= own[component]
        for target in targets - {component}:
            ancestors[target] |= ancestors[component] | own[component]
    return tuple(ancestors[component_of[step]] for step in range(len(graph)))


def _components(graph: Graph) -> tuple[list[int], list[list[int]]]:
    """Strongly connected components, by Tarjan's algorithm without recursion (chains are thousands long)."""
    unseen = len(graph) + 1
    order = [unseen] * len(graph)
    low = [unseen] * len(graph)
    component_of = [-1] * len(graph)
    members: list[list[int]] = []
    path: list[int] = []
    count = 0
    for root in range(len(graph)):
        if order[root] != unseen:
            continue
        work = [(root, 0)]
        while work:
            step, place = work.pop()
            if place == 0:
                order[step] = low[step] = count
                count += 1
                path.append(step)
            if place < len(graph[step]):
                work.append((step, place + 1))
                target = graph[step][place]
                if order[target] == unseen:
                    work.append((target, 0))
                elif component_of[target] < 0:
                    low[step] = min(low[step], order[target])
                continue
            if low[step] == order[step]:
                members.append(_take_component(path, step, component_of, len(members)))
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[step])
    return component_of, members


def _take_component(path: list[int], root: int, component_of: list[int], number: int) -> list[int]:
    steps: list[int] = []
    while True:
        step = path.pop()
        component_of[step] = number
        steps.append(step)
        if step == root:
            return steps
