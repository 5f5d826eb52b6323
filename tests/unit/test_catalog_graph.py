"""Reachability: the same as networkx says, and quick for long playbooks."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from catalog.domain.graph import ancestor_bitmaps, reachable_from


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    size = draw(st.integers(1, 9))
    return draw(st.lists(st.lists(st.integers(0, size - 1), max_size=3), min_size=size, max_size=size))


@given(graphs())
def test_like_networkx(graph: list[list[int]]) -> None:
    peer: nx.DiGraph[int] = nx.DiGraph()
    peer.add_nodes_from(range(len(graph)))
    peer.add_edges_from((step, target) for step, targets in enumerate(graph) for target in targets)
    expected = []
    for step in range(len(graph)):
        before = nx.ancestors(peer, step)
        if any(nx.has_path(peer, target, step) for target in graph[step]):
            before = before | {step}
        expected.append(sum(1 << ancestor for ancestor in before))
    assert list(ancestor_bitmaps(graph)) == expected
    assert reachable_from(graph, 0) == {0} | nx.descendants(peer, 0)


def test_a_long_chain_and_a_long_cycle() -> None:
    size = 4000
    chain = ancestor_bitmaps([[step + 1] for step in range(size - 1)] + [[]])
    cycle = ancestor_bitmaps([[(step + 1) % size] for step in range(size)])
    assert chain[-1] == (1 << (size - 1)) - 1
    assert set(cycle) == {(1 << size) - 1}
