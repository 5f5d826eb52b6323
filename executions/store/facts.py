"""What a plan reads of the log and of other tables."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from catalog.api import list_playbooks
from executions.domain import events as ev
from executions.domain.facts import Facts, Recorded
from executions.domain.results import StepResult
from executions.domain.wanted import Wanted
from executions.store.children import child_requests
from executions.store.frames import load_all_frames, load_frames
from executions.store.statements import json_value, rows
from queueing.api import find_done_actions


def load_facts(facts: Facts, wanted: Wanted, *, rerun_of: int | None = None) -> None:
    """Add the wanted stored values to `facts`; `rerun_of` is the execution that this one may take results from."""
    execution_id = int(facts.execution_id)
    if wanted.results:
        facts.results.update(load_results(execution_id, wanted.results))
    for prefix in wanted.trees:
        facts.trees[prefix] = outcomes_below(execution_id, prefix)
    if wanted.transitions:
        found = rows("transition_inputs", execution_id=execution_id, seqs=sorted(wanted.transitions))
        for seq, taken in found:
            facts.transitions[seq] = {item["step"]: item["inputs"] for item in json.loads(taken)}
    if wanted.items:
        items = sorted(wanted.items)
        places = {"node_ids": [node_id for node_id, _ in items], "indexes": [index for _, index in items]}
        for node_id, index, item in rows("loop_items", execution_id=execution_id, **places):
            facts.items[node_id, index] = json_value(item)
    if wanted.signals:
        found = rows("signal_data", execution_id=execution_id, seqs=sorted(wanted.signals))
        facts.signals.update((seq, json_value(data)) for seq, data in found)
    if wanted.kept:
        found = rows("kept_results", execution_id=execution_id, seqs=sorted(wanted.kept))
        facts.kept.update((seq, json_value(result)) for seq, result in found)
    if wanted.all_frames:
        facts.frames.update(load_all_frames(execution_id))
        facts.all_frames = True
    elif wanted.frames:
        facts.frames.update(load_frames(execution_id, wanted.frames))
    if wanted.completed:
        found = rows("completed_steps", execution_id=execution_id)
        facts.completed = [node_id for (node_id,) in found]
    for prefix in wanted.catalog:
        facts.catalog[prefix] = _paths_below(prefix)
    if wanted.recorded:
        facts.recorded.update(dict.fromkeys(wanted.recorded))
        if rerun_of is not None:
            facts.recorded.update(_recorded(rerun_of, wanted.recorded))


def load_results(execution_id: int, node_ids: Iterable[str]) -> dict[str, StepResult]:
    """Results by node: the work's outcome, under what the step itself made of it (its `result`, an error)."""
    return _merged(rows("step_outcomes", execution_id=execution_id, node_ids=sorted(node_ids)))


def outcomes_below(execution_id: int, prefix: str) -> dict[str, StepResult]:
    """The results at all node ids that begin with a prefix, which ends with a colon."""
    # The character after the colon: every id that begins so is before it.
    after = f"{prefix[:-1]};"
    return _merged(rows("outcomes_below", execution_id=execution_id, prefix=prefix, after=after))


def _merged(found: Iterable[tuple[str, str, str, str | None, str | None, str | None]]) -> dict[str, StepResult]:
    results: dict[str, StepResult] = {}
    for node_id, type_, status, result, error, meta in found:
        before = results.get(node_id)
        data = json_value(result) if result is not None or before is None else before.data
        if type_ == ev.STEP_SKIP:
            results[node_id] = StepResult("skipped")
        elif type_ in (ev.ACTION_COMPLETED, ev.STEP_COMPLETED) or status == "success":
            results[node_id] = StepResult("success", data, meta=json_value(meta))
        else:
            results[node_id] = StepResult("error", data, json_value(error), json_value(meta))
    return results


def _paths_below(prefix: str) -> list[str]:
    """The catalog's paths below a path, sorted; all for the empty one."""
    folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    return sorted(found.path for found in list_playbooks(folder))


def _recorded(execution_id: int, nodes: Collection[str]) -> dict[str, Recorded | None]:
    """What an execution recorded at these nodes (without the execution): what it has taken over itself as well."""
    here = {f"{execution_id}:{node}": node for node in nodes}
    found = rows("recorded_successes", execution_id=execution_id, node_ids=sorted(here))
    works = {**child_requests(execution_id, list(here)), **find_done_actions(execution_id, here)}
    recorded: dict[str, Recorded | None] = {}
    elsewhere: dict[int, set[str]] = {}
    for node_id, result, reused_from in found:
        if reused_from is not None:
            elsewhere.setdefault(int(reused_from), set()).add(here[node_id])
        elif node_id in works:
            recorded[here[node_id]] = Recorded(works[node_id], json_value(result))
    for other, its_nodes in elsewhere.items():
        recorded.update(_recorded(other, its_nodes))
    return recorded
