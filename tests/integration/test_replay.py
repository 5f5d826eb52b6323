"""`replay` reads a stored log; what it computes of it is tested with the engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from catalog.api import load_playbook, register_playbook
from executions.api import ActionOutcome, begin, read_log
from executions.models import EventLog, Execution
from tests.support.books import CHAIN, FAN

pytestmark = pytest.mark.django_db

EXECUTION_ID = 4611686018427387905
CHANGED = CHAIN.replace('{n: "{{ two.n }}"}', '{n: "{{ two.n }}", more: true}').replace("one.n }}", "one.n + 1 }}")


@pytest.fixture
def stored() -> Callable[[str, Any], None]:
    """Stores what an engine wrote, as the server would have."""

    def store(text: str, result: Any) -> None:
        registered = register_playbook(text, "test").playbook
        engine = begin(load_playbook(registered.id), str(EXECUTION_ID))
        engine.start(registered.version)
        while engine.jobs:
            job = next(iter(engine.jobs.values()))
            engine.report(job, ActionOutcome("success", result), {"attempt": 1}, None)
        Execution.objects.create(
            id=EXECUTION_ID,
            playbook_version_id=registered.id,
            path=registered.path,
            version=registered.version,
            workload=engine.workload,
            last_seq=len(engine.log),
        )
        for event in engine.log:
            EventLog.objects.create(
                execution_id=EXECUTION_ID,
                seq=event.seq,
                event_type=event.type,
                node_id=event.node_id,
                node_name=event.node_name,
                node_type=event.node_type,
                status=event.status,
                context=event.context,
                result=event.result,
                meta=event.meta,
                error=event.error,
                loop_name=event.loop_name,
                current_index=event.index,
            )

    return store


def replay(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("replay", str(EXECUTION_ID), *arguments, stdout=out)
    except SystemExit as left:
        return int(str(left.code)), out.getvalue()
    return 0, out.getvalue()


@pytest.mark.parametrize("text", [CHAIN, FAN])
def test_the_playbook_as_it_was_differs_in_nothing(
    stored: Callable[[str, Any], None], tmp_path: Path, text: str
) -> None:
    stored(text, {"n": 2})
    file = tmp_path / "same.yaml"
    file.write_text(text)
    assert replay("--playbook", str(file)) == (0, "nothing would differ\n")


def test_a_changed_one_is_told_and_ends_with_1(stored: Callable[[str, Any], None], tmp_path: Path) -> None:
    stored(CHAIN, {"n": 2})
    file = tmp_path / "changed.yaml"
    file.write_text(CHANGED)
    code, told = replay("--playbook", str(file))
    assert (code, told.splitlines()) == (
        1,
        ["action two: inputs.n 2 becomes 3", 'result: {"n": 2} becomes {"n": 2, "more": true}'],
    )
    document = json.loads(replay("--playbook", str(file), "--json")[1])
    assert [one["what"] for one in document["differences"]] == ["action", "result"]
    assert (document["status"], document["would_run"]) == ("completed", [])


def test_a_log_is_read_with_its_times(stored: Callable[[str, Any], None]) -> None:
    stored(CHAIN, {"n": 2})
    log = read_log(EXECUTION_ID)
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert log.times == sorted(log.times)
    outcome = log.result(f"{EXECUTION_ID}:one")
    assert outcome is not None and outcome.data == {"n": 2}
