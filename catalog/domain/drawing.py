"""A playbook as a graph to look at: its steps, where each leads and when, and the bodies of its loops.

Knows the shape of a playbook; how a plan walks it is the planner's matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from catalog.domain.playbook import Playbook, Step, Target

MAX_LABEL_CHARS = 120


@dataclass(frozen=True, slots=True)
class Way:
    """One way that a step can lead; `condition` in words, empty when it is always taken."""

    target: Target
    condition: str


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow from a step, or from `on_error` or `finally` of the playbook itself, to a step."""

    source: str
    target: str
    condition: str
    kind: Literal["next", "error", "loop", "playbook"] = "next"


def ways_from(step: Step) -> Iterator[Way]:
    """Where a step can lead, in the order it is written; a loop over several steps also leads to its end."""
    for item in step.next:
        told = {"always": "", "condition": f"if {item.when}", "default": "otherwise"}[item.kind]
        yield from (Way(target, told) for target in item.then)
        yield from (Way(target, f"if not {item.when}") for target in item.otherwise)
    yield from (Way(target, "on error") for target in step.error_targets)
    if step.loop is not None and step.loop.end is not None:
        yield Way(Target(step=step.loop.end), "when all items are over")


def kind_of(step: Step) -> str:
    """What a step does, in a word: an action's kind, `playbook`, a wait, `loop` over several steps, or `route`."""
    if step.loop is not None and step.loop.end is not None:
        return "loop"
    if step.action is not None:
        return step.action.kind
    if step.child is not None:
        return "playbook"
    return "route" if step.wait is None else f"wait: {step.wait.kind}"


def edges_of(playbook: Playbook) -> list[Edge]:
    """All arrows, in file order; those of the playbook itself last."""
    edges = []
    for step in playbook.steps:
        for way in ways_from(step):
            kind: Literal["next", "error", "loop"] = "next"
            if way.condition == "on error":
                kind = "error"
            elif step.loop is not None and way.target.step == step.loop.end:
                kind = "loop"
            edges.append(Edge(step.name, way.target.step, way.condition, kind))
    edges += [Edge("on_error", target.step, "", "playbook") for target in playbook.on_error]
    edges += [Edge("finally", name, "", "playbook") for name in playbook.finally_steps]
    return edges


def draw_json(playbook: Playbook) -> dict[str, Any]:
    """The graph as data: `nodes`, `edges` and `groups`, the bodies of loops; a node's `group` is the innermost."""
    return {
        "playbook": playbook.path,
        "nodes": [
            {"id": step.name, "kind": kind_of(step), "loop": _loop_label(step), "group": _group_of(playbook, index)}
            for index, step in enumerate(playbook.steps)
        ],
        "edges": [
            {"from": edge.source, "to": edge.target, "condition": edge.condition, "kind": edge.kind}
            for edge in edges_of(playbook)
        ],
        "groups": [
            {
                "id": playbook.steps[loop].name,
                "group": _group_of(playbook, loop),
                "label": _loop_label(playbook.steps[loop]),
            }
            for loop in playbook.bodies
        ],
    }


def draw_mermaid(playbook: Playbook) -> str:
    """The graph as a Mermaid flowchart; a loop's body is a subgraph."""
    lines = ["flowchart TD", *_mermaid_nodes(playbook, None, "  ")]
    for name in dict.fromkeys(edge.source for edge in edges_of(playbook) if edge.kind == "playbook"):
        lines.append(f'  {_id(playbook, name)}(["{name}"])')
    for edge in edges_of(playbook):
        arrow = "-.->" if edge.kind in ("error", "playbook") else "-->"
        label = f'|"{_escaped(edge.condition)}"|' if edge.condition else ""
        lines.append(f"  {_id(playbook, edge.source)} {arrow}{label} {_id(playbook, edge.target)}")
    return "\n".join(lines)


def _mermaid_nodes(playbook: Playbook, group: str | None, indent: str) -> Iterator[str]:
    for index, step in enumerate(playbook.steps):
        if _group_of(playbook, index) == group:
            told = "" if step.loop is None else f"<br/>{_escaped(_loop_label(step) or '')}"
            yield f'{indent}{_id(playbook, step.name)}["{_escaped(step.name)}<br/>{kind_of(step)}{told}"]'
    for loop in playbook.bodies:
        if _group_of(playbook, loop) == group:
            name = playbook.steps[loop].name
            yield f'{indent}subgraph body{loop}["each item of {_escaped(name)}"]'
            yield from _mermaid_nodes(playbook, name, indent + "  ")
            yield f"{indent}end"


def _group_of(playbook: Playbook, index: int) -> str | None:
    around = playbook.enclosing[index]
    return playbook.steps[around[-1]].name if around else None


def _loop_label(step: Step) -> str | None:
    loop = step.loop
    if loop is None:
        return None
    items = f"paths under {loop.items_under}" if loop.items_under is not None else str(loop.items)
    return f"for {loop.element} in {items} ({loop.mode})"


def _id(playbook: Playbook, name: str) -> str:
    """Names of steps may be words of Mermaid's own, as `end` is."""
    index = playbook.index_by_name.get(name)
    return f"step{index}" if index is not None else f"playbook_{name}"


def _escaped(text: str) -> str:
    short = " ".join(text.split())
    short = short if len(short) <= MAX_LABEL_CHARS else f"{short[: MAX_LABEL_CHARS - 1]}…"
    replaced = short.replace("&", "&amp;").replace("#", "#35;").replace('"', "#quot;")
    return replaced.replace("<", "&lt;").replace(">", "&gt;")
