"""`notify` of a playbook: whom to tell of a failure, of lateness, of any end. It becomes steps beside the workflow.

Each entry gives one step for the ways to end that it names, and one for lateness; both are actions of the kind
`notify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from catalog.domain.actions import read_arguments
from catalog.domain.failing import read_retry
from catalog.domain.playbook import Notice, Occasion, Retry, Step
from catalog.domain.queueing_keys import read_pool, read_priority
from catalog.domain.reading import Field, Fields, Reading, Use, shown
from catalog.domain.steps import StepRead

KIND: Final = "notify"
OCCASIONS: Final[dict[str, Occasion]] = {
    "failure": "failure",
    "success": "success",
    "cancelled": "cancelled",
    "late": "late",
}
NOTIFY_KEYS: Final = frozenset({"on", "late_after", "retry", "timeout", "pool", "priority"})
RETRY: Final = Retry()
ENDED: Final = "notify of the end"
LATE: Final = "notify of lateness"

_ENDED_AS: Final = "{'failed': 'failure', 'completed': 'success'}.get(execution.status, 'cancelled')"
_DEFAULTS: Final[dict[str, dict[str, str]]] = {
    ENDED: {
        "level": "{{ {'cancelled': 'warning'}.get(occasion, occasion) }}",
        "title": "{{ path }} {{ 'was cancelled' if occasion == 'cancelled' else execution.status }}",
        "body": (
            "Execution {{ execution.id }} of {{ path }} "
            "{{ 'was cancelled' if occasion == 'cancelled' else execution.status }}."
            "{% if execution.error %} {{ execution.error.code }}"
            "{% if execution.error.step %} in the step {{ execution.error.step }}{% endif %}: "
            "{{ execution.error.message }}{% endif %}"
        ),
    },
    LATE: {
        "level": "warning",
        "title": "{{ path }} is late",
        "body": "Execution {{ execution.id }} of {{ path }} still runs, {{ late_after }} after its start.",
    },
}


def read_notices(reading: Reading, found: Field | None, taken: Mapping[str, str]) -> list[StepRead]:
    """The steps of `notify`. `taken` are the names of the workflow's own, each with its step's place."""
    reads: list[StepRead] = []
    for place, item in enumerate(reading.one_or_more(found)):
        if not isinstance(item.value, dict):
            reading.error("wrong_type", "make `notify` a map of `on` and whom to tell, or a list of such", item.pointer)
        elif KIND not in reading.schemas:
            reading.error("unknown_type", "remove `notify`: there is no action of the kind notify here", item.pointer)
        else:
            number = "" if not place else f" {place + 1}"
            reads += _read_one(reading, reading.fields(item.value, item.pointer, "`notify`"), item.pointer, number)
    for read in reads:
        if read.step.name in taken:
            advice = f"rename the step {shown(read.step.name)}: that of `notify` has this name"
            reading.error("duplicate_step", advice, taken[read.step.name])
    return [read for read in reads if read.step.name not in taken]


def _read_one(reading: Reading, fields: Fields, pointer: str, number: str) -> list[StepRead]:
    late_after = fields.pop("late_after", None)
    seconds = reading.duration(late_after, "`late_after` in `notify`")
    on = _occasions(reading, fields.pop("on", None), has_time=late_after is not None)
    if "late" in on and late_after is None:
        reading.error("missing_argument", "give `late_after` in `notify`, as 10m: when it is late", pointer)
    elif "late" not in on and late_after is not None:
        reading.error("invalid_argument", "add late to `on`, or remove `late_after` of `notify`", late_after.pointer)
    uses: list[Use] = []
    common: dict[str, Any] = {
        "retry": read_retry(reading, fields, "of `notify`", uses) or RETRY,
        "timeout_seconds": reading.duration(fields.pop("timeout", None), "`timeout` of `notify`"),
        "pool": read_pool(reading, fields.pop("pool", None), "of `notify`"),
        "priority": read_priority(reading, fields.pop("priority", None), "of `notify`"),
    }
    wanted = [(ENDED, Notice(on=ends), {"occasion": f"{{{{ {_ENDED_AS} }}}}"})] if (ends := _without_late(on)) else []
    if seconds is not None and "late" in on:
        inputs = {"occasion": "late", "late_after": str(late_after.value) if late_after else ""}
        wanted.append((LATE, Notice(on=("late",), late_after_seconds=seconds), inputs))
    reads = []
    for name, notice, inputs in wanted:
        # What is wrong with words that both steps have is told once: equal problems are one.
        own, read = {**{key: Field(text, pointer) for key, text in _DEFAULTS[name].items()}, **fields}, list(uses)
        action = read_arguments(reading, KIND, own, "of `notify`", pointer, read)
        reading.leftovers(own, "`notify`", NOTIFY_KEYS.union(reading.schemas[KIND].arguments), {}, severity="error")
        if common["timeout_seconds"] is not None:
            action = action.model_copy(update={"arguments": {**action.arguments, "timeout": common["timeout_seconds"]}})
        step = Step(name=name + number, action=action, inputs=inputs, on_error="continue", notice=notice, **common)
        reads.append(StepRead(step=step, pointer=pointer, uses=read, given=set(inputs)))
    return reads


def _without_late(on: tuple[Occasion, ...]) -> tuple[Occasion, ...]:
    return tuple(occasion for occasion in on if occasion != "late")


def _occasions(reading: Reading, found: Field | None, *, has_time: bool) -> tuple[Occasion, ...]:
    """What `on` names; without it failures, and lateness where there is a time for it."""
    if found is None:
        return ("failure", "late") if has_time else ("failure",)
    named: dict[Occasion, None] = {}
    items = reading.one_or_more(found)
    for item in items:
        occasion = reading.choice(item, "`on` of `notify`", OCCASIONS, "failure")
        named[occasion] = None
    if not items:
        reading.error("missing_argument", f"name in `on` one of: {', '.join(OCCASIONS)}", found.pointer)
    return tuple(named)
