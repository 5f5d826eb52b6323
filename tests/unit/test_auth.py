"""What `auth` means: every form of reference, and the types with their fields."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from executors.auth import TYPES, bound_credential, bound_credentials, canonical, names_in, problems_of
from executors.contract import ActionFailed, Credential
from executors.errors import CredentialNotFound
from executors.running import Lent

STORED = {
    "pg_main": Credential(
        "pg_main", "postgres", {"host": "db", "user": "ada", "password": "p4ssw0rd", "database": "x"}
    ),
    "hmac1": Credential("hmac1", "hmac", {"key_id": "GOOG1", "secret_key": "hm4c-s3cret"}),
    "api1": Credential("api1", "generic", {"token": "api1-t0ken"}),
    "bare": Credential("bare", "generic", {"value": "b4re-v4lue"}),
    "as_json": Credential("as_json", "generic", {"value": '{"username": "ada", "password": "j50n-p4ss"}'}),
}


KEYS = {"key_id": "k", "secret_key": "inl1ne-s3cret"}


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Lent:
    monkeypatch.setenv("NOETL_SECRET_SHOP", "sh0p-s3cret")

    def resolve(name: str) -> Credential:
        if name not in STORED:
            raise CredentialNotFound(name)
        return STORED[name]

    return Lent(Path(), Event(), resolve)


@pytest.mark.parametrize(
    ("auth", "type_", "field", "value"),
    [
        ("pg_main", "postgres", "db_host", "db"),
        ({"type": "bearer", "credential": "api1"}, "bearer", "token", "api1-t0ken"),
        ({"source": "credential", "type": "bearer", "key": "api1"}, "bearer", "token", "api1-t0ken"),
        ({"name": "api1", "type": "bearer"}, "bearer", "token", "api1-t0ken"),
        ({"pg": {"type": "postgres", "key": "pg_main"}}, "postgres", "db_password", "p4ssw0rd"),
        ({"pg": "pg_main"}, "postgres", "db_name", "x"),
        ({"type": "bearer", "key": "bare"}, "bearer", "token", "b4re-v4lue"),
        ({"type": "basic", "key": "as_json"}, "basic", "password", "j50n-p4ss"),
        ({"type": "bearer", "secret": "shop"}, "bearer", "token", "sh0p-s3cret"),
        ({"type": "bearer", "secret": "bare"}, "bearer", "token", "b4re-v4lue"),
        ({"type": "basic", "secret": "as_json"}, "basic", "password", "j50n-p4ss"),
        ({"source": "secret", "type": "api_key", "name": "shop"}, "api_key", "value", "sh0p-s3cret"),
        ({"provider": "secret_manager", "type": "bearer", "secret_name": "shop"}, "bearer", "token", "sh0p-s3cret"),
        ({"type": "api_key", "env": "SHOP", "header": "X-Key"}, "api_key", "header", "X-Key"),
        ({"type": "api_key", "env": "NOETL_SECRET_SHOP"}, "api_key", "header", "X-API-Key"),
        ({"type": "basic", "inline": {"user": "ada", "password": "inl1ne-p4ss"}}, "basic", "username", "ada"),
        (
            {"source": "inline", "type": "bearer", "fields": {"token": "inl1ne-t0ken"}},
            "bearer",
            "token",
            "inl1ne-t0ken",
        ),
        ({"type": "header", "name": "X-Shop", "value": "inl1ne-v4lue"}, "header", "name", "X-Shop"),
        ({"type": "api_key", "value": "inl1ne-v4lue", "provider": "inline"}, "api_key", "value", "inl1ne-v4lue"),
    ],
)
def test_every_form_of_reference_leads_to_its_credential(
    context: Lent, auth: Any, type_: str, field: str, value: str
) -> None:
    bound = bound_credential(auth, None, context)
    assert bound is not None
    assert bound.credential.type == type_
    assert bound.credential.data[field] == value
    for secret in bound.credential.secret_texts():
        assert context.hide(f"<{secret}>") == "<***>"


def test_several_credentials_have_their_aliases_and_what_is_laid_over_them(context: Lent) -> None:
    auth = {
        "pg": {"type": "postgres", "key": "pg_main", "secret_name": "pg_secret"},
        "lake": {"type": "gcs", "key": "hmac1", "scope": "gs://b", "service": "gcs"},
    }
    found = bound_credentials(auth, context)
    assert list(found) == ["pg", "lake"]
    assert found["pg"].credential.data["secret_name"] == "pg_secret"
    assert found["lake"].credential.type == "gcs"
    assert found["lake"].credential.data["scope"] == "gs://b"


def test_use_auth_chooses_one_of_several(context: Lent) -> None:
    bound = bound_credential({"a": "api1", "b": "pg_main"}, "b", context)
    assert bound is not None
    assert (bound.alias, bound.credential.name) == ("b", "pg_main")


@pytest.mark.parametrize("auth", [None, "", {}])
def test_nothing_names_no_credential(context: Lent, auth: Any) -> None:
    assert bound_credential(auth, None, context) is None
    assert bound_credentials(auth, context) == {}


@pytest.mark.parametrize(
    ("auth", "use_auth", "code", "words"),
    [
        ({"a": "api1", "b": "pg_main"}, None, "auth_invalid", "choose one with use_auth"),
        ({"a": "api1"}, "b", "auth_invalid", "the aliases are: a"),
        (None, "b", "auth_invalid", "there is no auth"),
        ({"type": "bearer"}, None, "auth_invalid", "name the credential"),
        ({"type": "bearer", "inline": {}}, None, "auth_invalid", "needs its fields"),
        ({"type": "bearer", "key": 5}, None, "auth_invalid", "valid string"),
        ({"key": "api1", "sekret": "x"}, None, "auth_invalid", "sekret"),
        ({"source": "vault", "key": "x"}, None, "auth_invalid", "source"),
        ({"a": ["api1"]}, None, "auth_invalid", "its name or a map"),
        (["api1"], None, "auth_invalid", "the name of a credential or a map"),
        ({"key": "hmac1", "endpoint": "http://10.0.0.1"}, None, "auth_invalid", "a stored credential"),
        (
            {"type": "s3", "inline": {**KEYS, "endpoint": "http://10.0.0.1"}},
            None,
            "auth_invalid",
            "a stored credential",
        ),
        ({"inline": {**KEYS, "endpoint_url": "http://10.0.0.1"}}, None, "auth_invalid", "a stored credential"),
        ({"source": "inline", "fields": KEYS, "endpoint": "http://10.0.0.1"}, None, "auth_invalid", "a stored"),
        ("absent", None, "credential_not_found", "absent"),
        ({"secret": "absent"}, None, "secret_not_found", "absent"),
        ({"env": "PATH"}, None, "secret_not_found", "NOETL_SECRET_PATH"),
    ],
)
def test_what_names_no_one_credential_is_refused(
    context: Lent, auth: Any, use_auth: str | None, code: str, words: str
) -> None:
    with pytest.raises(ActionFailed, match=words) as caught:
        bound_credential(auth, use_auth, context)
    assert caught.value.code == code


def test_a_refusal_quotes_no_value(context: Lent) -> None:
    with pytest.raises(ActionFailed) as caught:
        bound_credential({"type": 5, "inline": {"token": "inl1ne-t0ken"}, "value": ["inl1ne-v4lue"]}, None, context)
    assert "inl1ne" not in str(caught.value)


def test_the_names_that_a_server_must_know() -> None:
    assert names_in("pg_main") == ({"pg_main"}, set())
    several = {"a": {"key": "one"}, "b": {"secret": "two"}, "c": {"env": "X"}, "d": "three"}
    assert names_in(several) == ({"one", "three"}, {"two"})
    assert names_in({"headers": {"X": "y"}, "sekret": []}) == (set(), set())
    assert names_in(7) == (set(), set())


SPELLED: dict[str, dict[str, Any]] = {
    "postgres": {"hostname": "h", "port": 5432, "username": "u", "password": "p", "dbname": "d"},
    "gcs_hmac": {"access_key_id": "k", "secret_access_key": "s"},
    "s3": {"key_id": "k", "secret_key": "s", "region_name": "r"},
    "httpBearerAuth": {"access_token": "t"},
    "basic": {"user": "u", "password": "p"},
    "api_key": {"key": "k"},
    "header": {"name": "n", "value": "v"},
    "token": {"api_key": "t"},
    "notify": {"url": "json://h"},
    "oauth2": {"client_id": "c", "client_secret": "s", "token_uri": "u"},
    "googleServiceAccount": {"json": '{"client_email": "e", "private_key": "k"}'},
    "vault": {"token": "t", "url": "https://v"},
    "generic": {"anything": "x"},
}
CANONICAL = {
    "postgres": {"db_host": "h", "db_port": "5432", "db_user": "u", "db_password": "p", "db_name": "d"},
    "gcs": {"key_id": "k", "secret_key": "s", "service": "gcs"},
    "s3": {"access_key_id": "k", "secret_access_key": "s", "region": "r"},
    "bearer": {"token": "t"},
    "basic": {"username": "u", "password": "p"},
    "api_key": {"value": "k", "header": "X-API-Key"},
    "header": {"name": "n", "value": "v"},
    "token": {"token": "t"},
    "notify": {"url": "json://h"},
    "oauth": {"client_id": "c", "client_secret": "s", "token_url": "u"},
    "google_service_account": {"client_email": "e", "private_key": "k"},
    "vault": {"token": "t", "address": "https://v"},
    "generic": {"anything": "x"},
}


@pytest.mark.parametrize(("spelled", "type_"), list(zip(SPELLED, CANONICAL, strict=True)))
def test_a_type_has_one_name_for_each_field(spelled: str, type_: str) -> None:
    data = {name: str(value) for name, value in SPELLED[spelled].items()}
    found = canonical(Credential("c", spelled, data))
    assert (found.type, dict(found.data)) == (type_, CANONICAL[type_])
    assert problems_of(spelled, SPELLED[spelled]) == []


def test_every_type_is_tried() -> None:
    assert set(CANONICAL) == set(TYPES)


@pytest.mark.parametrize("spelled", SPELLED)
def test_a_missing_field_is_told(spelled: str) -> None:
    [problem] = problems_of(spelled, {"port": ""})
    assert "lacks" in problem or "at least one field" in problem


def test_of_an_unknown_type_nothing_is_demanded_or_changed() -> None:
    assert problems_of("snowflake", {}) == []
    unknown = Credential("c", "snowflake", {"host": "h"})
    assert canonical(unknown) is unknown
