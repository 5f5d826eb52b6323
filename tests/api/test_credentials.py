"""The API of stored credentials: their data goes in, and never comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executors.models import Credential
from executors.services import save_credential
from queueing.models import Job
from tests.support.api import Api, admin_api, api_as
from tests.support.books import CHAIN

pytestmark = pytest.mark.usefixtures("fresh_db")

VALUE = "4pi-st0red-s3cret"
BODY = {"name": "shop", "type": "bearer", "data": {"token": VALUE}, "tags": "a, b", "description": "The shop's"}


@pytest.fixture
def admin() -> Api:
    return admin_api()


def test_a_credential_is_stored_and_shown_without_its_data(admin: Api) -> None:
    stored = admin.post("credentials", {**BODY, "scopes": ["shop/*"], "meta": {"m": 1}})
    assert stored.status_code == 200
    told = stored.json()
    assert set(told) == {
        *("id", "name", "type", "meta", "tags", "description", "scopes", "last_used_at", "last_used_by"),
        *("created_at", "updated_at", "warnings"),
    }
    assert (told["tags"], told["scopes"], told["warnings"]) == (["a", "b"], ["shop/*"], [])
    for place in ("credentials", "credentials/shop", f"credentials/{told['id']}"):
        answer = admin.get(place)
        assert answer.status_code == 200
        assert VALUE not in answer.content.decode() + stored.content.decode()
    assert VALUE not in str(Credential.objects.values())


def test_one_of_the_same_name_is_replaced(admin: Api) -> None:
    first = admin.post("credentials", BODY).json()
    second = admin.post("credentials", {"name": "shop", "data": {"value": "0ther-v4lue"}}).json()
    assert second["id"] == first["id"]
    assert (second["type"], second["tags"], second["description"], second["scopes"]) == ("generic", [], "", ["*"])


def test_they_are_found_by_type_and_by_words(admin: Api) -> None:
    for name, type_, description in (("one", "bearer", "Of the SHOP"), ("shop", "generic", ""), ("two", "bearer", "")):
        admin.post("credentials", {"name": name, "type": type_, "data": {"token": VALUE}, "description": description})

    def found(**query: str) -> list[str]:
        return [item["name"] for item in admin.get("credentials", **query).json()["items"]]

    assert found() == ["one", "shop", "two"]
    assert found(ctype="bearer") == ["one", "two"]
    assert found(q="shop") == ["one", "shop"]
    assert found(q="shop", ctype="bearer") == ["one"]
    assert admin.get("credentials", q="x").json() == {"items": [], "filter": {"type": None, "q": "x"}}


def test_data_is_never_given_back(admin: Api) -> None:
    admin.post("credentials", BODY)
    for api in (admin, api_as("worker"), api_as("viewer")):
        answer = api.get("credentials/shop", include_data="true")
        assert answer.status_code == 403
        assert VALUE not in answer.content.decode()
    assert admin.get("credentials/shop", include_data="true").json()["code"] == "credential_data_is_write_only"


def test_a_change_and_an_end(admin: Api) -> None:
    admin.post("credentials", BODY)
    changed = admin.send("PATCH", "credentials/shop", json.dumps({"scopes": ["a/*"]}).encode())
    assert (changed.status_code, changed.json()["scopes"], changed.json()["tags"]) == (200, ["a/*"], ["a", "b"])
    assert admin.send("DELETE", "credentials/shop").status_code == 204
    for method in ("GET", "PATCH", "DELETE"):
        answer = admin.send(method, "credentials/shop", b"{}" if method == "PATCH" else b"")
        assert (answer.status_code, answer.json()["code"]) == (404, "credential_not_found")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"data": None}, 400),
        ({"data": {}}, 400),
        ({"data": [VALUE]}, 400),
        ({"data": {"token": f"{VALUE}\u0000"}}, 400),
        ({"name": ""}, 400),
        ({"name": "a/b"}, 422),
        ({"type": "basic"}, 422),
        ({"scopes": [5, {}]}, 400),
        ({"meta": []}, 400),
    ],
)
def test_what_is_no_credential_is_refused_without_a_word_of_it(admin: Api, change: Any, status: int) -> None:
    answer = admin.post("credentials", {**BODY, **change})
    assert answer.status_code == status
    assert VALUE not in answer.content.decode()
    assert Credential.objects.count() == 0


def test_an_unknown_type_is_stored_with_a_warning(admin: Api) -> None:
    answer = admin.post("credentials", {**BODY, "type": "snowflake"})
    assert answer.json()["warnings"] == ["no type is called 'snowflake': the fields were not checked"]


def test_one_is_tried(admin: Api) -> None:
    admin.post("credentials", BODY)
    assert admin.post("credentials/shop/test").json()["status"] == "untested"
    tried = admin.post("credentials/shop/test", {"url": "http://127.0.0.1:1/"})
    assert (tried.status_code, tried.json()["status"]) == (200, "failed")
    assert VALUE not in tried.content.decode()


# -- what a worker elsewhere gets -------------------------------------------------------------------------

ACTION = 'type: python\n    with: {n: "{{ n }}"}\n    code: "def main(n): return {\'n\': n + 1}"'


def leased(admin: Api, worker: Api, action: str) -> dict[str, Any]:
    assert ACTION in CHAIN
    admin.run(CHAIN.replace(ACTION, action))
    return worker.lease()


def secrets_of(worker: Api, job: dict[str, Any]) -> Any:
    return worker.post(f"queue/{job['id']}/secrets", {"lease_token": job["lease_token"]})


def store(*names: str, **more: Any) -> None:
    for name in names:
        save_credential(name, "generic", {"value": f"{VALUE}-{name}"}, **more)


@pytest.mark.parametrize(
    ("auth", "names"),
    [
        ("one", {"one"}),
        ("{a: {key: one, type: bearer}, b: two}", {"one", "two"}),
        ("{type: bearer, secret: one}", {"one"}),
        ("{type: bearer, env: ONE}", set()),
        ('{type: bearer, inline: {token: "{{ secret.two }}"}}', {"two"}),
    ],
)
def test_every_form_of_auth_gives_what_it_names_and_nothing_else(admin: Api, auth: str, names: set[str]) -> None:
    store("one", "two", "three")
    worker = api_as("worker")
    use = "\n    use_auth: a" if auth.startswith("{a:") else ""
    job = leased(admin, worker, f"type: http\n    url: http://x\n    auth: {auth}{use}")
    given = secrets_of(worker, job).json()["credentials"]
    assert set(given) == names
    assert VALUE not in json.dumps(job)


def test_what_is_out_of_scope_is_given_to_nobody(admin: Api) -> None:
    store("one", scopes=["other/*"])
    worker = api_as("worker")
    job = leased(admin, worker, "type: http\n    url: http://x\n    auth: one")
    answer = secrets_of(worker, job)
    assert (answer.status_code, answer.json()["code"]) == (403, "credential_out_of_scope")
    assert VALUE not in answer.content.decode()
    as_secret = leased(admin, worker, 'type: http\n    url: "http://x/{{ secret.one }}"')
    assert secrets_of(worker, as_secret).json() == {"credentials": {}}


def test_a_steps_secret_gives_the_credentials_it_is_fetched_with(admin: Api) -> None:
    store("one", "two", "three")
    worker = api_as("worker")
    text = """apiVersion: noetl.io/v1
kind: Playbook
name: fetches
path: tests/fetches
workflow:
  - {step: start, next: fetch}
  - {step: fetch, type: secrets, provider: vault, secret_name: kv/db, auth: one, next: again}
  - {step: again, type: secrets, provider: credential, secret_name: two, next: use}
  - {step: use, type: http, url: http://x, headers: {A: "{{ fetch.secret_value }} {{ again.secret_value }}"}}
"""
    execution_id = admin.run(text)
    for expected in ({"one"}, {"two"}):
        job = worker.lease()
        assert set(secrets_of(worker, job).json()["credentials"]) == expected
        lie = {"secret_value": VALUE, "version": "1", "more": VALUE}
        done = worker.post(f"queue/{job['id']}/complete", {"lease_token": job["lease_token"], "result": lie})
        assert done.status_code == 200
    job = worker.lease()
    assert set(secrets_of(worker, job).json()["credentials"]) == {"one", "two"}
    told = [admin.get(f"executions/{execution_id}"), admin.get(f"events/by-execution/{execution_id}")]
    assert VALUE not in "".join(answer.content.decode() for answer in told), "a worker cannot make it be kept"
    assert VALUE not in str(list(Job.objects.values("action", "context")))
