"""Secrets in the worker: put where the job says they belong, and taken out of whatever came of it."""

from __future__ import annotations

import pytest

from executors.contract import ActionFailed, Credential
from executors.secrets import Revealed, mark_of

STORED = {
    "api": Credential("api", "bearer", {"token": "t0p-s3cret"}),
    "pair": Credential("pair", "basic", {"password": "one", "api_key": "two"}),
    "plain": Credential("plain", "any", {"value": "v4lue", "user": "ada"}),
}


def resolve(name: str) -> Credential:
    if name not in STORED:
        raise ActionFailed("credential_not_found", f"no credential {name}")
    return STORED[name]


def test_a_secret_stands_only_where_the_job_says() -> None:
    mark = mark_of("api")
    arguments = {"headers": {"A/B": f"Bearer {mark}"}, "json": [mark, mark]}
    places = {"/arguments/headers/A~1B": ["api"], "/arguments/json/1": ["api"], "/arguments/gone/0": ["api"]}
    revealed = Revealed(arguments, {"t": mark}, places, resolve)
    assert revealed.arguments == {"headers": {"A/B": "Bearer t0p-s3cret"}, "json": [mark, "t0p-s3cret"]}
    assert revealed.inputs == {"t": mark}


def test_another_secrets_mark_at_the_place_stays_a_text() -> None:
    text = mark_of("api") + mark_of("plain")
    revealed = Revealed({}, {"t": text}, {"/inputs/t": ["plain"]}, resolve)
    assert revealed.inputs == {"t": mark_of("api") + "v4lue"}


def test_what_comes_of_the_work_shows_no_secret() -> None:
    revealed = Revealed({}, {"t": mark_of("api")}, {"/inputs/t": ["api"]}, resolve)
    told = {"a": ["x t0p-s3cret y", 1], "t0p-s3cret": None}
    assert revealed.hide(told) == {"a": ["x *** y", 1], "***": None}


def test_the_workers_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOETL_SECRET_API", "from here")
    revealed = Revealed({}, {"t": mark_of("api")}, {"/inputs/t": ["api"]}, resolve)
    assert revealed.inputs == {"t": "from here"}


@pytest.mark.parametrize("name", ["absent", "pair"])
def test_a_secret_that_cannot_be_told_fails_the_action(name: str) -> None:
    with pytest.raises(ActionFailed) as caught:
        Revealed({}, {"t": mark_of(name)}, {"/inputs/t": [name]}, resolve)
    assert caught.value.code == "secret_not_found"
