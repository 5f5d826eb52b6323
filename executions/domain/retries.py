"""Whether a failed action is tried again, and when. Source: docs/language.md, "Retry"."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from catalog.domain.playbook import Playbook, Retry, Step
from executions.domain.conditions import evaluate
from executions.domain.events import Event, parse_node_id
from executions.domain.facts import Facts
from executions.domain.fold import place_of
from executions.domain.results import StepResult
from executions.domain.sight import Sight, Spot
from executions.domain.state import State

MAX_ASKED_SECONDS: Final = 3600.0
"""The longest pause that an action's failure may ask for."""


def judge(playbook: Playbook, state: State, facts: Facts, event: Event, tries: int) -> float | None:
    """Seconds until the next try, or None: it has failed for good.

    `event` is the `action_error` that would be its outcome, not folded yet; `tries` counts the failures with this one.
    Raises: `MissingFacts`, `ImpossibleEvent`.
    """
    place = place_of(playbook, event)
    retry = _retry_of(playbook.steps[place.step], event.node_id)
    if retry is None or tries >= retry.max_attempts:
        return None
    if (retry.retry_when or retry.stop_when) and not _wanted(playbook, state, facts, event, tries, retry):
        return None
    return max(delay_seconds(retry, event.node_id, tries), asked_seconds(event.error))


def may_retry(playbook: Playbook) -> bool:
    """Whether anything of a playbook is ever tried again."""
    return any(step.retry is not None or any(save.retry for save in step.saves) for step in playbook.steps)


def _retry_of(step: Step, node_id: str) -> Retry | None:
    """The retry that is meant for the job at a node of a step."""
    node = parse_node_id(node_id)
    if node.undo:
        return None
    if not node.save:
        return step.retry if step.action is not None else None
    save = step.save if node.chunk is None else step.loop and step.loop.save
    return save.retry if save else None


def _wanted(playbook: Playbook, state: State, facts: Facts, event: Event, tries: int, retry: Retry) -> bool:
    place = place_of(playbook, event)
    spot = Spot(place.key, place.step)
    sight = Sight(playbook, state, facts)
    live = state.frame(place.key).live.get(place.step)
    own = StepResult("error", event.result, event.error)
    values = {
        "status": "error",
        "error": event.error,
        "result": event.result,
        "attempt": tries,
        playbook.steps[place.step].name: own,
    }
    if place.item is not None and live is not None:
        values.update(sight.item_variables(spot, place.item))
    lookup = sight.lookup(spot, live.scope if live else {}, values)
    if retry.stop_when is not None and evaluate(retry.stop_when, lookup).truth:
        return False
    return retry.retry_when is None or evaluate(retry.retry_when, lookup).truth


def asked_seconds(error: Any) -> float:
    """The pause that a failure asks for (`retry_after_seconds`): the least there is, whatever `retry` says."""
    asked = error.get("retry_after_seconds") if isinstance(error, dict) else None
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not asked > 0:
        return 0.0
    return round(float(min(asked, MAX_ASKED_SECONDS)), 3)


def delay_seconds(retry: Retry, node_id: str, tries: int) -> float:
    """The pause after so many failures: it grows, has a bound, and varies by a hash of node and try."""
    grown = retry.initial_delay * retry.backoff_multiplier ** min(tries - 1, 64)
    delay = min(retry.max_delay, grown)
    digest = hashlib.sha256(f"{node_id}/{tries}".encode()).digest()
    share = int.from_bytes(digest[:4]) / 2**32
    return float(round(delay * (1 - retry.jitter * share), 3))
