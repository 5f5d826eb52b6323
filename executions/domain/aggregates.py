"""The result of a loop, put together from the outcomes of its items (decision 0005)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from catalog.domain.playbook import Playbook
from executions.domain import events as ev
from executions.domain.frames import places
from executions.domain.results import StepResult, aggregate_loop

Path = tuple[int, ...]
Tree = Callable[[str], Mapping[str, StepResult]]
"""Gives the outcomes at all node ids that begin with a prefix."""


def node_prefix(execution_id: str, step: str, path: Path) -> str:
    """What the ids of all nodes of a step begin with, inside the items of `path`, below them included."""
    return f"{execution_id}:{step}:" + "".join(f"{index}:" for index in path)


def trees_of_loop(playbook: Playbook, execution_id: str, loop: int, path: Path) -> set[str]:
    """The prefixes that a loop's result is read from: its items, and the steps of its body."""
    steps = [loop, *places(playbook.bodies.get(loop, 0))]
    return {node_prefix(execution_id, playbook.steps[step].name, path) for step in steps}


def collect_loop(
    playbook: Playbook, execution_id: str, loop: int, path: Path, visit: int, tree: Tree
) -> dict[str, Any]:
    """The data of a loop's step. `tree` gives the outcomes below those prefixes of `trees_of_loop`."""
    return _Collector(playbook, execution_id, path, tree).loop(loop, path, visit)


class _Collector:
    """One reading of a loop. `path` is that of the outermost loop: the trees are by its prefixes."""

    def __init__(self, playbook: Playbook, execution_id: str, path: Path, tree: Tree) -> None:
        self._playbook = playbook
        self._execution_id = execution_id
        self._path = path
        self._tree = tree
        self._newest: dict[int, dict[Path, list[tuple[int, StepResult]]]] = {}

    def loop(self, loop: int, path: Path, visit: int) -> dict[str, Any]:
        items = sorted(self._items(loop, path, visit))
        if loop not in self._playbook.bodies:
            return aggregate_loop(items)
        entries = [
            (item, StepResult(found.status, self._entry(loop, (*path, item), visit), found.error))
            for item, found in items
        ]
        return aggregate_loop(entries, keep_failed=True)

    def _items(self, loop: int, path: Path, visit: int) -> Iterator[tuple[int, StepResult]]:
        for where, visits in self._outcomes(loop).items():
            if where[:-1] == path and where != path:
                yield from ((where[-1], found) for number, found in visits if number == visit)

    def _entry(self, loop: int, path: Path, visit: int) -> dict[str, Any]:
        """What one item's body came to: the data of each of its steps that gives any, null where it did not."""
        around = (*self._playbook.enclosing[loop], loop)
        entry: dict[str, Any] = {}
        for index in places(self._playbook.bodies[loop]):
            step = self._playbook.steps[index]
            if self._playbook.enclosing[index] == around and (step.gives_result or step.loop is not None):
                entry[step.name] = self._newest_data(index, path, (visit - 1) * self._playbook.max_visits)
        return entry

    def _newest_data(self, index: int, path: Path, base: int) -> Any:
        top = base + self._playbook.max_visits
        visits = [one for one in self._outcomes(index).get(path, ()) if base < one[0] <= top]
        if not visits:
            return None
        number, found = max(visits, key=lambda one: one[0])
        if self._playbook.steps[index].loop is not None:
            return self.loop(index, path, number)["results"]
        return found.data if found.status == "success" else None

    def _outcomes(self, index: int) -> dict[Path, list[tuple[int, StepResult]]]:
        """The outcomes of a step's nodes by the items they are in."""
        if index not in self._newest:
            prefix = node_prefix(self._execution_id, self._playbook.steps[index].name, self._path)
            found: dict[Path, list[tuple[int, StepResult]]] = {}
            for node_id, result in self._tree(prefix).items():
                node = ev.parse_node_id(node_id)
                if not (node.undo or node.save):
                    found.setdefault(node.path, []).append((node.visit, result))
            self._newest[index] = found
        return self._newest[index]
