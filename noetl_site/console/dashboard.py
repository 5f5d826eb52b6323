"""The console's first page: what runs, what waits, who works, and what was started last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from executions.api import count_recent_executions, list_executions
from executors.api import Runtime, find_live, find_unserved_pools
from noetl_site.console import values
from noetl_site.console.panels import EXECUTION, EXECUTION_HEADERS, JOB, Panel, execution_row
from noetl_site.console.values import Viewer
from queueing.api import count_recent_jobs

DAY_SECONDS: Final = 86_400.0
NEWEST: Final = 10
WORKER: Final = "executors.runtime"
EXECUTION_STATUSES: Final = ("running", "paused", "pending", "completed", "failed", "cancelled")
JOB_STATUSES: Final = ("queued", "leased", "done", "failed", "dead", "cancelled")


@dataclass(frozen=True, slots=True)
class Card:
    """A number that stands out, the pill of the status it counts, and where it leads."""

    pill: str
    count: int
    address: str


@dataclass(frozen=True, slots=True)
class Row:
    """Cards under one title."""

    title: str
    cards: list[Card]
    empty: str


def dashboard(user: Viewer) -> dict[str, Any]:
    """What the page shows to this user."""
    rows = []
    newest = None
    if values.may_view(user, EXECUTION):
        counts = count_recent_executions(DAY_SECONDS)
        cards = _cards(
            EXECUTION, ("running", "completed", "failed", "cancelled", "pending", "paused"), counts, when="day"
        )
        rows.append(Row("Executions of the last 24 hours", cards, "Nothing was started in the last 24 hours."))
        newest = _newest(user)
    if values.may_view(user, JOB):
        counts = count_recent_jobs(DAY_SECONDS)
        cards = _cards(JOB, JOB_STATUSES, counts)
        rows.append(Row("Jobs of the last 24 hours, and all that wait or run", cards, "No job waits and none has run."))
    if values.may_view(user, WORKER):
        live = len(find_live(Runtime.ComponentType.WORKER_POOL))
        address = values.list_of(WORKER, component_type__exact="worker_pool")
        cards = [Card(values.show_pill("ready"), live, address)] if live else []
        rows.append(Row("Live worker pools", cards, "No worker is live: jobs wait until one starts."))
        if live and (unserved := find_unserved_pools()):
            cards = [
                Card(values.show_pill(pool), count, values.list_of(JOB, status__exact="queued", pool=pool))
                for pool, count in unserved.items()
            ]
            rows.append(Row("Jobs in pools that no live worker serves", cards, ""))
    return {"rows": rows, "newest": newest, "has_run": newest is None or bool(newest.rows)}


def _cards(label: str, words: tuple[str, ...], counts: dict[str, int], **lookups: Any) -> list[Card]:
    return [
        Card(values.show_pill(word), counts[word], values.list_of(label, status__exact=word, **lookups))
        for word in words
        if word in counts
    ]


def _newest(user: Viewer) -> Panel:
    rows = []
    for execution in list_executions(limit=NEWEST):
        id_, *rest = execution_row(user, execution)
        rows.append([id_, f"{execution.path} {execution.version}", *rest])
    headers = (EXECUTION_HEADERS[0], "Playbook", *EXECUTION_HEADERS[1:])
    return Panel("Newest executions", headers, rows, empty="", more=("All executions", values.list_of(EXECUTION)))
