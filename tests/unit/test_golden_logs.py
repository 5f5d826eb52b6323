"""The logs that each release has written still mean what they did (rule R13): `tests/golden` tells of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from executions.domain import events as ev
from executions.domain import fold
from executions.errors import EventsTooNew
from tests.golden.logs import FOLDER, meaning_of, read, version

LOGS = sorted(FOLDER.glob("*/*.jsonl"))


@pytest.mark.parametrize("file", LOGS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_log_means_what_it_did_when_it_was_written(file: Path) -> None:
    golden = read(file)
    assert meaning_of(golden.playbook, golden.events) == golden.meaning


def test_the_logs_of_this_version_have_every_type_of_event() -> None:
    logs = [read(file).events for file in LOGS if file.parent.name == version()]
    types = {event.type for log in logs for event in log}
    assert types == ev.ANNOTATIONS | fold._OF_EXECUTION.keys() | fold._OF_STEPS.keys()


def test_a_log_of_a_newer_form_is_refused(tmp_path: Path) -> None:
    newer = tmp_path / "newer.jsonl"
    text = LOGS[0].read_text()
    assert text.count(f'"format":{ev.FORMAT},') == len(text.splitlines()) - 1
    newer.write_text(text[::-1].replace(f'"format":{ev.FORMAT},'[::-1], f'"format":{ev.FORMAT + 1},'[::-1], 1)[::-1])
    with pytest.raises(EventsTooNew, match=f"format {ev.FORMAT + 1}"):
        read(newer)
