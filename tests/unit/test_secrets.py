"""Secrets in the worker: put where the job says they belong, and taken out of whatever came of it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

import pytest

from executions.domain.secrets import mark_of as mark_in_rendered_work
from executors.contract import ActionContext, ActionFailed, ActionKind, ActionRequest, Arguments, Credential, Outcome
from executors.errors import CredentialNotFound, PlatformAway
from executors.running import Lent, run_action
from executors.secrets import Revealer, mark_of
from noetl_site.environment import values_for_templates

STORED = {
    "api": Credential("api", "bearer", {"token": "t0p-s3cret"}),
    "pair": Credential("pair", "basic", {"password": "one", "api_key": "two"}),
    "plain": Credential("plain", "any", {"value": "v4lue", "user": "ada"}),
}


def resolve(name: str) -> Credential:
    if name not in STORED:
        raise CredentialNotFound(name)
    return STORED[name]


def lent() -> Lent:
    return Lent(Path(), Event(), resolve)


def reveal(arguments: Mapping[str, Any], inputs: Mapping[str, Any], places: Mapping[str, Any]) -> tuple[Any, Any]:
    return Revealer(lent()).reveal(arguments, inputs, {"secrets": places})


def test_a_secret_stands_only_where_the_job_says() -> None:
    mark = mark_of("api")
    arguments = {"headers": {"A/B": f"Bearer {mark}"}, "json": [mark, mark]}
    places = {"/arguments/headers/A~1B": ["api"], "/arguments/json/1": ["api"], "/arguments/gone/0": ["api"]}
    revealed, inputs = reveal(arguments, {"t": mark}, places)
    assert revealed == {"headers": {"A/B": "Bearer t0p-s3cret"}, "json": [mark, "t0p-s3cret"]}
    assert inputs == {"t": mark}


def test_another_secrets_mark_at_the_place_stays_a_text() -> None:
    text = mark_of("api") + mark_of("plain")
    assert reveal({}, {"t": text}, {"/inputs/t": ["plain"]})[1] == {"t": mark_of("api") + "v4lue"}


def test_what_comes_of_the_work_shows_no_secret() -> None:
    context = lent()
    Revealer(context).reveal({}, {"t": mark_of("api")}, {"secrets": {"/inputs/t": ["api"]}})
    told = {"a": ["x t0p-s3cret y", 1], "t0p-s3cret": None}
    assert context.hide(told) == {"a": ["x *** y", 1], "***": None}


def test_the_workers_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOETL_SECRET_API", "from here")
    assert reveal({}, {"t": mark_of("api")}, {"/inputs/t": ["api"]})[1] == {"t": "from here"}


@pytest.mark.parametrize("name", ["absent", "pair"])
def test_a_secret_that_cannot_be_told_fails_the_action(name: str) -> None:
    with pytest.raises(ActionFailed) as caught:
        reveal({}, {"t": mark_of(name)}, {"/inputs/t": [name]})
    assert caught.value.code == "secret_not_found"


class Vault:
    """A kind that fetches secrets, and tells what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def fetch(self, arguments: Mapping[str, Any], context: ActionContext, seconds: float) -> str:
        self.asked.append(arguments)
        return f"fetched-{arguments['secret_name']}"


def test_a_steps_secret_is_fetched_anew_with_what_its_step_was_asked() -> None:
    name = "@fetch/1f"
    context, vault = lent(), Vault()
    source = {"arguments": {"secret_name": "db", "auth": mark_of("api")}, "secrets": {"/arguments/auth": ["api"]}}
    action = {"secrets": {"/inputs/t": [name]}, "secret_sources": {name: source}}
    _, inputs = Revealer(context, vault).reveal({}, {"t": [mark_of(name), mark_of("@other/2")]}, action)
    assert inputs == {"t": ["fetched-db", mark_of("@other/2")]}
    assert vault.asked == [{"secret_name": "db", "auth": "t0p-s3cret"}]
    assert context.hide("it is fetched-db") == "it is ***"


@pytest.mark.parametrize("provider", [None, Vault()])
def test_a_steps_secret_that_nobody_tells_the_source_of_is_none(provider: object) -> None:
    action = {"secrets": {"/inputs/t": ["@fetch/1f"]}}
    with pytest.raises(ActionFailed, match="'fetch/1f'"):
        Revealer(lent(), provider).reveal({}, {"t": mark_of("@fetch/1f")}, action)


class Asks(ActionKind):
    """A kind that needs a credential, and fetches secrets in its own way."""

    name = "secrets"
    Arguments = Arguments

    def run(self, request: ActionRequest, context: ActionContext) -> object:
        context.credential("api")
        return "well"

    def fetch(self, arguments: Mapping[str, Any], context: ActionContext, seconds: float) -> str:
        assert 0 < seconds <= 5
        raise OverflowError("timestamp too large")


def ran(action: Mapping[str, Any], resolve_: Callable[[str], Credential] = resolve) -> Outcome:
    request = ActionRequest("secrets", {}, {"t": mark_of("@s/1")}, "1", "1:s", "s", 1, "1:s", 5)
    return run_action({"secrets": Asks()}, request, Lent(Path(), Event(), resolve_), action)


def test_a_defect_of_whoever_fetches_a_secret_is_the_jobs_failure() -> None:
    outcome = ran({"secrets": {"/inputs/t": ["@s/1"]}, "secret_sources": {"@s/1": {"arguments": {}}}})
    assert (outcome.status, outcome.code) == ("error", "action_crashed")


@pytest.mark.parametrize("action", [{}, {"secrets": {"/inputs/t": ["api"]}}])
def test_a_platform_that_is_away_fails_no_job(action: Mapping[str, Any]) -> None:
    def away(name: str) -> Credential:
        raise PlatformAway("the database restarts")

    assert ran({}).data == "well"
    with pytest.raises(PlatformAway):
        ran(action, away)


def test_what_is_late_is_not_fetched() -> None:
    action = {"secrets": {"/inputs/t": ["@s/1"]}, "secret_sources": {"@s/1": {"arguments": {"secret_name": "db"}}}}
    with pytest.raises(ActionFailed) as caught:
        Revealer(lent(), Vault(), deadline=0.0).reveal({}, {"t": mark_of("@s/1")}, action)
    assert caught.value.code == "timeout"


def test_a_credential_that_an_action_asks_for_never_comes_out() -> None:
    stored = Credential("shop", "basic", {"username": "ada", "password": "p4ss w", "url": "shop.example"})

    class Tells(ActionKind):
        name = "tells"
        Arguments = Arguments

        def run(self, request: ActionRequest, context: ActionContext) -> object:
            password = context.credential("shop").data["password"]
            pair = b64encode(f"ada:{password}".encode()).decode()
            if request.inputs:
                raise ActionFailed("boom", f"no {password}", data=[password])
            return {"sent": [f"Basic {pair}", quote(password), "shop.example", "ada"]}

    def run(inputs: dict[str, int]) -> Outcome:
        request = ActionRequest("tells", {}, inputs, "1", "1:s", "s", 1, "1:s", 5)
        return run_action({"tells": Tells()}, request, Lent(Path(), Event(), lambda name: stored))

    assert run({}).data == {"sent": ["Basic ***", "***", "shop.example", "ada"]}
    failed = run({"n": 1})
    assert (failed.code, failed.message, failed.data) == ("boom", "no ***", ["***"])


def test_all_who_write_marks_write_the_same() -> None:
    values = values_for_templates(["DB_PASSWORD"], {"DB_PASSWORD": "x"})
    assert values == {"DB_PASSWORD": mark_of("DB_PASSWORD")} == {"DB_PASSWORD": mark_in_rendered_work("DB_PASSWORD")}


@pytest.mark.parametrize("name", ["DB_PASSWORD", "api_token", "S3_KEY", "BASIC_AUTH", "MY_SECRETS", "SENTRY_DSN"])
def test_a_name_that_sounds_secret_is_given_as_a_reference(name: str) -> None:
    assert values_for_templates([name, "ABSENT_KEY"], {name: "x"}) == {name: mark_of(name)}


@pytest.mark.parametrize("name", ["HOME", "MONKEY", "AUTHOR", "REGION", "KEYBOARD"])
def test_any_other_name_is_given_with_its_value(name: str) -> None:
    assert values_for_templates([name], {name: "x"}) == {name: "x"}
