"""The words of the language: which keys mean what, and which are refused, with the advice to give.

Nothing of the language is silently ignored: what no function reads stands in a table below.
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
CREDENTIAL: Final = ("auth", "credential", "credentialRef", "credentials")
"""Names the stored credential, the newest first."""
GENERIC_AUTH: Final = ("authentication", "genericAuthType")
"""How http steps of old said what type the entry of `credentials` is that they use."""
CODE: Final = ("code", "code_b64", "code_base64")
"""A python step's code; the later spellings hold it in base64."""
SAVE: Final = ("sink", "save")
"""What is written somewhere when a work has ended, the newest first."""
SAVE_KEYS: Final = (
    *("storage", *CREDENTIAL, "use_auth", "spec", "table", "mode", "key", "data", "statement", "params", "format"),
    "code",
    *("batch", "chunk_size", "concurrency", "when", "on", "on_error", "retry", "timeout"),
)
CHILD_PATH: Final = ("path", "resource_path", "playbook_path")
CHILD_ANSWER: Final = ("return", "return_step")
ITEMS: Final = ("collection", "in")
ELEMENT: Final = ("element", "iterator")
FILTER: Final = ("where", "filter")
SIGNAL: Final = ("signal", "for")

STEP_CONTROL: Final = frozenset(
    {
        *(*DESCRIPTION, *KIND, "step", "call", "pass", "when", "next", "next_mode", "loop", "timeout", "result"),
        *("end_loop", "join", "retry", "retry_delay", "on_error", "undo", *SAVE, "resources", "transform"),
        *("priority", "pool"),
    }
)
"""Keys that belong to the step, whatever kind its action is of."""
TASK_CONTROL: Final = frozenset(
    {*DESCRIPTION, *KIND, *TASK_REFERENCE, "timeout", "retry", "retry_delay", "on_error", *SAVE}
)
TASK_INFORMATIVE: Final = ("accepts", "returns", "assert", "resources")
LOOP_KEYS: Final = frozenset(
    {
        *(*ITEMS, *ELEMENT, *FILTER, "mode", "concurrency", "order_by", "limit", "chunk", "enumerate"),
        *("on_error", "distribution", "save"),
    }
)
ITERATOR_KEYS: Final = (LOOP_KEYS - {"on_error", "save"}) | {"task", "run"}
"""Keys that a step of `type: iterator` takes beside the step's own."""
CHILD_KEYS: Final = frozenset({*CHILD_PATH, *CHILD_ANSWER, "version", "content"})
WAIT_KEYS: Final = frozenset({"duration", "until", *SIGNAL})
APPROVAL_KEYS: Final = frozenset({"message", "form", "approvers"})
TRANSFORM_KEYS: Final = ("template", "mapping", "script")
FORM_KEYS: Final = frozenset({"type", "label", "required", "default"})
RETRY_KEYS: Final = frozenset(
    {"max_attempts", "initial_delay", "backoff_multiplier", "max_delay", "jitter", "retry_when", "stop_when"}
)
TRANSITION_KEYS: Final = frozenset({"when", "then", "else", *IDENTITY, *INPUTS})
TARGET_KEYS: Final = frozenset({*IDENTITY, *INPUTS})
METADATA_KEYS: Final = frozenset({"name", "path", "version", "description", "author", "tags", "labels"})
TOP_KEYS: Final = METADATA_KEYS | {
    *("apiVersion", "kind", "metadata", "workload", "workflow", "steps", "tasks", "workbook", "workbooks"),
    *("max_visits", "timeout", "on_error", "finally", "notify", "coerce", "credentials"),
    *("priority", "pool", "max_running_jobs"),
}

WORKBOOK: Final = "workbook"
PLAYBOOK: Final = "playbook"
ITERATOR: Final = "iterator"
TRANSFORM: Final = "transform"
SECRETS: Final = "secrets"
"""The kind of action whose result is a reference to a secret."""
WAITS: Final = frozenset({"wait", "approval"})
ROUTING_KINDS: Final = frozenset({"start", "end", "loop"})
"""Old `type`s of steps without an action."""
LANGUAGE_KINDS: Final = ROUTING_KINDS | WAITS | {WORKBOOK, PLAYBOOK, ITERATOR, TRANSFORM}
"""What may stand for a kind beside the kinds of actions."""
KIND_ALIASES: Final = {"playbooks": PLAYBOOK, "secret": SECRETS}

_GRAMMAR: Final = "belongs to a grammar that is not read"
_WAIT: Final = "belongs on a step of `type: wait`: move it, or add the type"
_APPROVAL: Final = "belongs on a step of `type: approval`: move it, or add the type"
_CHILD: Final = "belongs on a step of `type: playbook`: move it, or add the type"
_LOOP: Final = "belongs inside `loop`, or on a step of `type: iterator`: move it"

_LIMIT: Final = (
    "of a step is a map, {key: ..., max: ...}; a number of items belongs inside `loop`, "
    "or on a step of `type: iterator`"
)

TOP_NOT_SUPPORTED: Final[dict[str, str]] = {
    "environment": f"{_GRAMMAR}: use `workload`, or {{{{ env.NAME }}}}",
    "context": f"{_GRAMMAR}: use `workload`",
    "start": f"{_GRAMMAR}: write a step called start in `workflow`",
    "retry": "is not read here: set `retry` on the steps that are to be tried again",
    "join": "is not read here: set `join` on the step where branches meet",
    "undo": "is not read here: set `undo` on the steps that can be undone",
    **dict.fromkeys(SAVE, "is not read here: set `save` on the steps whose results are to be saved"),
    "loop": "is not read here: set `loop` on a step",
    "next": "is not read here: set `next` on a step",
    "rule": f"{_GRAMMAR}: use `next`",
    "run": f"{_GRAMMAR}: write one step per action in `workflow`",
}

STEP_NOT_SUPPORTED: Final[dict[str, str]] = {
    "finally": "belongs to the playbook: move it beside `workflow`",
    "steps_override": "belongs in `workload`: move it",
    **dict.fromkeys((*CREDENTIAL, "use_auth", *GENERIC_AUTH), "is not taken by this action: remove it"),
    **dict.fromkeys((*CHILD_PATH, "version"), _CHILD),
    "content": "is not read: register the playbook and name it with `path`",
    "return": "belongs on the step end, or on a step of `type: playbook`: move it",
    "return_step": "belongs on a step of `type: playbook`: move it",
    **dict.fromkeys(CODE[1:], "belongs on a python step: move it"),
    "command_b64": "is not read: write `command` as text",
    "commands_b64": "is not read: write `commands` as text",
    "run": f"{_GRAMMAR}: write one action per step",
    "rule": f"{_GRAMMAR}: use `next`",
    "runner": f"{_GRAMMAR}: use `type`",
    "until": "belongs on a step of `type: wait`; to repeat, lead back to the step with `next`",
    "mode": "belongs inside `loop`, or is `next_mode`: move it",
    **dict.fromkeys((*ITEMS, *ELEMENT, *FILTER), _LOOP),
    **dict.fromkeys(("order_by", "chunk", "enumerate", "concurrency", "distribution"), _LOOP),
    "limit": _LIMIT,
    "max_running_jobs": "belongs to the playbook: move it beside `workflow`",
    "else": "belongs to an item of `next`: move it",
    "then": "belongs to an item of `next`: move it",
    "verify": "is an argument of the http action: it is not taken here",
    **dict.fromkeys(("duration", *SIGNAL), _WAIT),
    **dict.fromkeys(APPROVAL_KEYS, _APPROVAL),
}

TASK_NOT_SUPPORTED: Final[dict[str, str]] = {
    **STEP_NOT_SUPPORTED,
    **dict.fromkeys(("pass", "when", "next", "loop", "end_loop", "join", "undo"), "belongs on the step: move it"),
    **dict.fromkeys(("priority", "pool", "limit"), "belongs on the step: move it"),
    **dict.fromkeys((*ITEMS, *ELEMENT, *FILTER, "mode", "concurrency"), "belongs in the `loop` of a step: move it"),
}

LOOP_NOT_SUPPORTED: Final[dict[str, str]] = {
    "join": f"{_GRAMMAR}: name the loop with `end_loop` on the step that ends it",
    "until": f"{_GRAMMAR}: lead back to a step with `next`",
    "next": "belongs on the step: move it",
    "task": "belongs on a step of `type: iterator`: move it",
    "run": f"{_GRAMMAR}: lead to the loop's steps with `next`",
}

_OF_PLUGINS: Final = {
    "snowflake": "ask it over http",
    "bigquery": "ask it over http",
    "container": "run the program with shell, on a worker that has it",
    "gcs": "read and write it with duckdb and a credential of type gcs",
    "s3": "read and write it with duckdb and a credential of type s3",
    "ducklake": "attach it with duckdb",
    "nats": "use python",
    "mcp": "ask it over http",
    "agent": "ask it over http",
    "artifact": "keep a file with duckdb or python, and hand on its name",
    "graph": "use http or python",
    "ray": "use python with a loop",
    "dbt": "run it with shell, on a worker that has it",
    "ssh": "run it with shell, on a worker that has it",
    "kafka": "use python",
    "mongodb": "use python",
    "mysql": "use duckdb or python",
    "sqlite": "attach the file with duckdb",
    "vector": "use http or python",
    "kv": "use http or python",
}
"""Kinds that somebody may have a plugin for, and what serves without one."""
KIND_NOT_SUPPORTED: Final[dict[str, str]] = {
    **{
        kind: f"is not installed: install a plugin that has it (entry point {kind} of noetl.actions), or {instead}"
        for kind, instead in _OF_PLUGINS.items()
    },
    **dict.fromkeys(("email", "slack", "teams", "pagerduty"), "is no type here: use notify, with the service's URL"),
    "bash": "is no type here: use shell",
    "task": f"(a composite) {_GRAMMAR}: write one step per action",
    "runner": f"{_GRAMMAR}: use the type of the action itself",
    "file": "was never there: use http or python",
    "result_aggregation": "is no type a playbook may use: remove it",
}

GLOBAL_NAMES: Final = frozenset(
    {
        *("workload", "work", "context", "env", "job", "steps", "results", "execution_id", "_loop"),
        *("result", "status", "error", "now", "range", "dict", "namespace", "tojson"),
        *("execution", "secret", "index", "batch", "parent", "input", "loop_results"),
        *("path", "version", "step_name", "data", "this"),
    }
)
"""Names that every template may read, whatever the playbook says."""

ELEMENT_RESERVED: Final = frozenset({"workload", "steps", "env", "_loop"})
