"""The examples on the pages of action kinds: each is a playbook that registers, and those of this file are run."""

from __future__ import annotations

import pytest

from catalog.api import validate_text
from executors.actions.notify import NotifyAction
from executors.actions.shell import ShellAction
from executors.contract import ActionKind, Credential
from executors.local.run import LocalRun
from tests.support.webserver import running_webserver


def run(kind: ActionKind, credentials: dict[str, Credential] | None = None) -> LocalRun:
    playbook, problems = validate_text(kind.example)
    assert playbook is not None
    assert [problem.code for problem in problems] in ([], ["limited_kind"])
    local = LocalRun(playbook, kinds={kind.name: kind}, credentials=credentials)
    local.run()
    kind.close()
    return local


def test_the_shells() -> None:
    engine = run(ShellAction(allowed=True)).root.engine
    assert (engine.status, engine.result.split()) == ("completed", ["2", "$(id);", "two"])


def test_that_of_notify() -> None:
    with running_webserver() as address:
        url = address.replace("http://", "json://") + "/echo"
        credentials = {"on_call": Credential("on_call", "notify", {"url": url})}
        engine = run(NotifyAction(["127.0.0.0/8"]), credentials).root.engine
    assert (engine.status, engine.result) == ("completed", 1)


@pytest.mark.parametrize("kind", [NotifyAction, ShellAction])
def test_every_code_it_can_fail_with_is_told(kind: type[ActionKind]) -> None:
    assert kind.result and kind.errors and kind.example
