"""The words of the language: which keys mean what, and which are not read yet, with the advice to give.

A feature moves out of the tables below when a function reads it; nothing of the language is silently ignored.
"""

from __future__ import annotations

from typing import Final

IDENTITY: Final = ("step", "name", "task")
"""Names a step; the first one present counts."""
DESCRIPTION: Final = ("description", "desc")
KIND: Final = ("tool", "type", "action")
"""Names the action kind, the winner first: `type` beats `action`, and the newest spelling beats both."""
INPUTS: Final = ("args", "data", "input", "payload", "params", "with")
"""Spellings of inputs, the newest first; not of a kind that takes the word as an argument."""
TASK_REFERENCE: Final = ("task", "name")

STEP_CONTROL: Final = frozenset(
    {*DESCRIPTION, *KIND, "step", "call", "pass", "when", "next", "next_mode", "loop", "timeout", "result"}
)
TASK_CONTROL: Final = frozenset({*DESCRIPTION, *KIND, *TASK_REFERENCE, "timeout"})
TASK_INFORMATIVE: Final = frozenset({"accepts", "returns", "assert"})
LOOP_KEYS: Final = frozenset({"in", "iterator", "filter", "where", "mode", "concurrency", "on_error"})
TRANSITION_KEYS: Final = frozenset({"when", "then", "else", *IDENTITY, *INPUTS})
TARGET_KEYS: Final = frozenset({*IDENTITY, *INPUTS})
METADATA_KEYS: Final = frozenset({"name", "path", "version", "description", "author", "tags", "labels"})
TOP_KEYS: Final = METADATA_KEYS | {
    *("apiVersion", "kind", "metadata", "workload", "workflow", "steps", "tasks", "workbook", "workbooks"),
    "max_visits",
}

ROUTING_KINDS: Final = frozenset({"start", "end"})
"""Old `type`s of steps without an action."""

_LATER: Final = "is not supported yet: remove it"

TOP_NOT_SUPPORTED: Final[dict[str, str]] = {
    "credentials": f"{_LATER} and name the credential on the step with `auth`",
    "environment": f"{_LATER} and use `workload` or {{{{ env.NAME }}}}",
    "context": f"{_LATER} and use `workload`",
    "start": "belongs to a grammar that is not read: write a step called start in `workflow`",
    "finally": _LATER,
    "on_error": f"{_LATER} and route errors with `when: \"{{{{ STEP.status == 'error' }}}}\"`",
    "retry": _LATER,
    "timeout": f"of a playbook {_LATER} and set `timeout` on steps",
    "coerce": _LATER,
    "join": _LATER,
    "undo": _LATER,
    "save": _LATER,
}

STEP_NOT_SUPPORTED: Final[dict[str, str]] = {
    "end_loop": f"(a loop over several steps) {_LATER} and put `loop` on the step with the action",
    "save": f"{_LATER} and write the result with a postgres or duckdb step",
    "retry": _LATER,
    "on_error": f"{_LATER} and route errors with `when: \"{{{{ STEP.status == 'error' }}}}\"` in `next`",
    "finally": _LATER,
    "return": f"{_LATER}; on the step end use `result`",
    "return_step": _LATER,
    "join": f"{_LATER}: a step reached by several branches waits for those that can still reach it",
    "undo": _LATER,
    "transform": f"{_LATER} and use a python step",
    "resources": _LATER,
    "steps_override": _LATER,
    "credential": f"{_LATER} and use `auth`",
    "credentials": f"{_LATER} and use `auth`",
    "credentialRef": f"{_LATER} and use `auth`",
    "auth": "is not taken by this action: remove it",
    "path": f"(a child playbook) {_LATER}",
    "version": f"(a child playbook) {_LATER}",
    "code_b64": "is not read: write `code` as text",
    "command_b64": "is not read: write `command` as text",
    "commands_b64": "is not read: write `commands` as text",
    "run": "belongs to a grammar that is not read: write one action per step",
    "rule": "belongs to a grammar that is not read: use `next`",
    "mode": "belongs inside `loop`, or is `next_mode`: move it",
    "until": "belongs to a grammar that is not read: route back to the step with `next`",
    "iterator": "belongs inside `loop`: move it",
    "in": "belongs inside `loop`: move it",
    "collection": f"(an iterator step) {_LATER} and use `loop`",
    "element": f"(an iterator step) {_LATER} and use `loop`",
    "where": "belongs inside `loop`: move it",
    "order_by": _LATER,
    "limit": _LATER,
    "chunk": _LATER,
    "enumerate": f"{_LATER} and use {{{{ _loop.index }}}}",
    "concurrency": "belongs inside `loop`: move it",
    "retry_delay": _LATER,
    "verify": _LATER,
    "for": f"(a wait) {_LATER}",
    "duration": f"(a wait) {_LATER}",
}

TASK_NOT_SUPPORTED: Final[dict[str, str]] = {
    **STEP_NOT_SUPPORTED,
    "pass": "belongs on the step: move it",
    "when": "belongs on the step: move it",
    "next": "belongs on the step: move it",
    "loop": "belongs on the step: move it",
}

LOOP_NOT_SUPPORTED: Final[dict[str, str]] = {
    "distribution": "is not read: every item is work of its own, spread over the workers; remove it",
    "save": f"{_LATER} and write the results with a later step",
    "collection": "is the spelling of iterator steps: use `in`",
    "element": "is the spelling of iterator steps: use `iterator`",
    "order_by": f"{_LATER} and sort in `in`: {{{{ items | sort }}}}",
    "limit": f"{_LATER} and cut in `in`: {{{{ items[:10] }}}}",
    "chunk": _LATER,
    "enumerate": f"{_LATER} and use {{{{ _loop.index }}}}",
    "join": _LATER,
    "until": _LATER,
}

KIND_NOT_SUPPORTED: Final[dict[str, str]] = {
    **dict.fromkeys(("playbook", "playbooks"), f"(a child playbook) {_LATER}"),
    "loop": "is not read: put `loop` on the step with the action",
    "iterator": f"{_LATER} and use `loop` on the step with the action",
    **dict.fromkeys(("secret", "secrets"), _LATER),
    "save": f"{_LATER} and write the result with a postgres or duckdb step",
    "wait": _LATER,
    "approval": _LATER,
    "transform": f"{_LATER} and use a python step",
    "task": "(a composite) is not supported yet: write one step per action",
    "result_aggregation": "is no type a playbook may use: remove it",
}

GLOBAL_NAMES: Final = frozenset(
    {
        *("workload", "work", "context", "env", "job", "steps", "results", "execution_id", "_loop"),
        *("result", "status", "error", "now", "range", "dict", "namespace", "tojson"),
    }
)
"""Names that every template may read, whatever the playbook says."""

ELEMENT_RESERVED: Final = frozenset({"workload", "steps", "env", "_loop"})
