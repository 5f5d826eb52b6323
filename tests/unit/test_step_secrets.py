"""The reference that a step of the kind `secrets` gives: where it becomes the secret, and where it stays a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from catalog.api import Playbook
from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.normalise import read_playbook
from executions.domain.secrets import reference_in, secret_result
from executors.actions.secrets import SecretsAction
from executors.contract import ActionContext, ActionKind, ActionRequest, Credential
from executors.local import LocalCatalog, LocalRun
from executors.registry import argument_schemas
from executors.stores.http_calls import CheckedCalls
from tests.support.kinds import FakeKind

VALUE = "f3tched-s3cret"
HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: told\npath: tests/told\n"
FETCH = "{step: fetch, type: secrets, provider: credential, secret_name: shop"
TELL = 'type: python, code: "def main(): pass"'


def read(text: str) -> Playbook:
    playbook, problems = read_playbook(HEAD + text, ActionSchemas(argument_schemas()))
    assert playbook is not None, problems
    return playbook


def run(
    text: str, payload: Any = None, catalog: LocalCatalog | None = None
) -> tuple[LocalRun, list[Mapping[str, Any]]]:
    """Run a playbook whose python steps tell with which inputs they were run."""
    seen: list[Mapping[str, Any]] = []

    def work(request: ActionRequest, context: ActionContext) -> Any:
        seen.append(request.inputs)
        return {"told": request.inputs}

    kinds: dict[str, ActionKind] = {"python": FakeKind(work), "secrets": SecretsAction(CheckedCalls())}
    stored = {"shop": Credential("shop", "generic", {"value": VALUE})}
    local = LocalRun(read(text), payload, kinds=kinds, credentials=stored, catalog=catalog)
    local.run()
    for running in local.executions:
        log = json.dumps([str(event) for event in running.engine.log.events], ensure_ascii=False)
        assert VALUE not in log, "a value never enters the log"
    return local, seen


@pytest.mark.parametrize(
    ("use", "given"),
    [
        ("{{ fetch.secret_value }}", VALUE),
        ("{{ fetch.data.secret_value }}", VALUE),
        ("{{ steps.fetch.result.secret_value }}", VALUE),
        ("a {{ fetch.secret_value }} b {{ fetch.secret_value }}", f"a {VALUE} b {VALUE}"),
        ("{{ fetch.version }}", ""),
        ("{{ [fetch, 1] }}", None),
    ],
)
def test_the_step_that_uses_it_is_given_the_secret(use: str, given: str | None) -> None:
    local, seen = run(f"""workflow:
  - {{step: start, next: fetch}}
  - {FETCH}, next: use}}
  - {{step: use, {TELL}, with: {{t: {json.dumps(use)}}}, next: end}}
  - {{step: end, result: "{{{{ use.told }}}}"}}
""")
    assert local.root.engine.status == "completed", local.root.engine.error
    if given is None:
        assert seen[0]["t"][0]["secret_value"] == VALUE
    else:
        assert seen == [{"t": given}]
    assert local.root.engine.result == json.loads(json.dumps({"t": seen[0]["t"]}).replace(VALUE, "***"))


def test_it_travels_through_transitions_and_results_of_the_execution() -> None:
    _, seen = run(f"""workflow:
  - {{step: start, next: fetch}}
  - {FETCH}, next: [{{step: shape, with: {{token: "{{{{ fetch.secret_value }}}}"}}}}]}}
  - {{step: shape, type: transform, mapping: {{kept: "{{{{ token }}}}"}}, next: use}}
  - {{step: use, {TELL}, with: {{a: "{{{{ token }}}}", b: "{{{{ shape.kept }}}}"}}, next: end}}
  - {{step: end}}
""")
    assert seen == [{"a": VALUE, "b": VALUE}]


def test_items_of_a_loop_are_given_it_and_so_is_what_comes_after_a_loop_of_them() -> None:
    _, seen = run(f"""workflow:
  - {{step: start, next: fetch}}
  - {FETCH}, next: each}}
  - step: each
    type: python
    code: "def main(): pass"
    loop: {{in: [1, 2], iterator: n}}
    with: {{t: "{{{{ n }}}} {{{{ fetch.secret_value }}}}"}}
    next: many
  - {{step: many, type: secrets, provider: credential, secret_name: shop, loop: {{in: [1, 2], iterator: n}}, next: use}}
  - {{step: use, {TELL}, with: {{t: "{{{{ many.results[1].secret_value }}}}"}}, next: end}}
  - {{step: end}}
""")
    assert sorted(given["t"] for given in seen) == [f"1 {VALUE}", f"2 {VALUE}", VALUE]


FORGED = "⟦secret:@fetch/0123456789abcdef01234567⟧"


def test_a_text_that_somebody_made_up_is_never_taken_for_it() -> None:
    _, seen = run(
        f"""workload: {{made_up: ""}}
workflow:
  - {{step: start, next: fetch}}
  - {FETCH}, next: use}}
  - step: use
    type: python
    code: "def main(): pass"
    with: {{t: "{{{{ workload.made_up }}}}", fine: "{{{{ fetch.secret_value }}}}"}}
    next: end
  - {{step: end}}
""",
        {"made_up": FORGED + "⟦secret:shop⟧⟦secret:@other/00⟧"},
    )
    assert seen == [{"t": FORGED + "⟦secret:shop⟧⟦secret:@other/00⟧", "fine": VALUE}]


def test_a_child_is_given_the_text_and_no_secret() -> None:
    child = (
        HEAD.replace("told", "child")
        + f"""workload: {{t: ""}}
workflow:
  - {{step: start, {TELL}, with: {{t: "{{{{ t }}}}"}}, next: end}}
  - {{step: end}}
"""
    )
    catalog = LocalCatalog()
    catalog.add(read_child(child))
    _, seen = run(
        f"""workflow:
  - {{step: start, next: fetch}}
  - {FETCH}, next: call}}
  - {{step: call, type: playbook, path: tests/child, with: {{t: "{{{{ fetch.secret_value }}}}"}}, next: end}}
  - {{step: end}}
""",
        catalog=catalog,
    )
    [given] = seen
    assert given["t"].startswith("⟦secret:@fetch/")


def read_child(text: str) -> Playbook:
    playbook, problems = read_playbook(text, ActionSchemas(argument_schemas()))
    assert playbook is not None, problems
    return playbook


def test_sql_is_given_no_secret_however_it_is_hidden() -> None:
    local, _ = run(f"""workflow:
  - {{step: start, next: fetch}}
  - {FETCH}, next: use}}
  - {{step: use, type: duckdb, query: "SELECT '{{{{ fetch }}}}'", next: end}}
  - {{step: end}}
""")
    assert local.root.engine.status == "failed"
    assert "bind it with `params`" in json.dumps(local.root.engine.error)


def test_a_secret_may_be_fetched_with_a_secret() -> None:
    playbook = f"""workflow:
  - {{step: start, next: fetch}}
  - {FETCH}, next: again}}
  - step: again
    type: secrets
    provider: custom
    api_endpoint: http://127.0.0.1:9/
    secret_name: x
    auth: {{headers: {{X-Token: "{{{{ fetch.secret_value }}}}"}}}}
    next: end
  - {{step: end}}
"""
    local, _ = run(playbook)
    assert local.root.engine.error["code"] == "secret_provider_failed"


def test_what_a_worker_tells_is_never_kept() -> None:
    action = {"arguments": {"provider": "env", "secret_name": "x"}, "inputs": {}, "secrets": {"/arguments/a": ["b"]}}
    told = {"secret_value": VALUE, "version": 3, "provider": VALUE, "reference": {"arguments": {"provider": "vault"}}}
    kept = secret_result(told, "fetch", action, "0f")
    source = {"arguments": action["arguments"], "secrets": action["secrets"]}
    mark = "⟦secret:@fetch/0f⟧"
    assert kept == {"secret_value": mark, "version": "3", "provider": "env", "reference": source}
    assert secret_result(VALUE, "fetch", action, "0f")["version"] == ""
    assert reference_in(kept, "@fetch/0f") == source
    assert reference_in({"results": [None, kept]}, "@fetch/0f") == source
    assert reference_in(kept, "@fetch/0e") is None
    assert reference_in([kept], "@fetch/0f") is None
