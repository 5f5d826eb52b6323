"""Who may do what: nobody without a token, and each role what its row says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from noetl_site.access.errors import AccessError, TokenNotFound, UserNotFound
from noetl_site.access.roles import NAMES
from noetl_site.access.tokens import create_token, delete_token, ensure_service_account, find_user
from noetl_site.models import ApiToken
from tests.support.api import Api, admin_api, api_as
from tests.support.books import CHAIN

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PUBLIC: Final = {"health", "health-root", "health-ready", "root", "admin:login"}
"""The views that answer those who are nobody; everything else is 401, 403, or a way to the login."""

SAMPLES: Final = {"IntConverter": "1", "StringConverter": "x", "SlugConverter": "x", "PathConverter": "a/b"}


def all_views(patterns: Any = None, prefix: str = "", namespace: str = "") -> Iterator[tuple[str, str]]:
    """Every address with samples for its parts, and its view's name."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from all_views(pattern.url_patterns, route, inner)
        else:
            yield filled(route, pattern), f"{namespace}{pattern.name}"


def filled(route: str, pattern: URLPattern) -> str:
    """The route with a sample in the place of each of its parts."""
    for name, converter in pattern.pattern.converters.items():
        kind = type(converter).__name__
        route = re.sub(rf"<(\w+:)?{name}>", SAMPLES[kind], route)
    # The console's last pattern is a regular expression.
    return "/" + route.removesuffix("$").replace("(?P<url>.*)", "x")


def test_nobody_gets_in_without_a_token(db: None) -> None:
    seen: set[str] = set()
    for path, name in all_views():
        for method in METHODS:
            answer = Client(raise_request_exception=False).generic(method, path)
            seen.add(name)
            if name in PUBLIC:
                continue
            if name.startswith("admin:"):
                assert answer.status_code in (302, 403, 404, 405), (name, method, answer.status_code)
                assert answer.status_code != 302 or answer["Location"].startswith("/admin/"), (name, method)
            else:
                assert answer.status_code in (401, 403), (name, method, answer.status_code)
                assert answer["Content-Type"] == "application/problem+json", (name, method)
    assert len(seen) > 60
    assert seen >= PUBLIC


def test_every_view_of_the_api_says_what_each_of_its_methods_needs() -> None:
    for name, view in api_views():
        methods = {method for method in METHODS if hasattr(view, method.lower())} - {"OPTIONS", "HEAD", "TRACE"}
        assert methods == set(view.needs), name


def api_views(patterns: Any = None) -> Iterator[tuple[str, Any]]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        if isinstance(pattern, URLResolver):
            if not pattern.namespace:
                yield from api_views(pattern.url_patterns)
        elif (view := getattr(pattern.callback, "cls", None)) is not None:
            yield str(pattern.name), view


BOOK: Final = {"content": CHAIN}
JOB: Final = {"execution_id": "1", "node_id": "n", "action": {"type": "x"}}
EVENT: Final = {"execution_id": "1", "event_type": "note"}
TEMPLATE: Final = {"execution_id": "1", "template": "{{ a }}"}
POOL: Final = {"name": "p", "runtime": "cpu", "base_url": "http://x"}

ACTIONS: Final[dict[str, tuple[str, str, Any]]] = {
    "register a playbook": ("POST", "catalog/register", BOOK),
    "list the catalog": ("GET", "catalog/list", None),
    "list playbooks": ("GET", "playbooks", None),
    "list playbooks, longer address": ("GET", "catalog/playbooks", None),
    "see a playbook": ("GET", "catalog/playbook", None),
    "see a playbook by path": ("GET", "catalog/playbooks/a/b", None),
    "read a playbook": ("GET", "catalog/playbooks/content", None),
    "read a playbook by path": ("GET", "catalog/playbooks/a/b/content", None),
    "see a version": ("GET", "catalog/a/b/0.1.0", None),
    "validate a text": ("POST", "catalog/playbooks/validate", BOOK),
    "start an execution": ("POST", "executions/run", {"path": "a/b"}),
    "list executions": ("GET", "executions", None),
    "see an execution": ("GET", "executions/1", None),
    "list an execution's children": ("GET", "executions/1/children", None),
    "read an execution's log": ("GET", "executions/1/logs", None),
    "cancel an execution": ("POST", "executions/1/cancel", {}),
    "pause an execution": ("POST", "executions/1/pause", {}),
    "resume an execution": ("POST", "executions/1/resume", {}),
    "signal an execution": ("POST", "executions/1/signals/x", {}),
    "answer an approval": ("POST", "executions/1/approvals/x", {"approved": True}),
    "run an execution again": ("POST", "executions/1/rerun", {}),
    "read events": ("GET", "events/by-execution/1", None),
    "read an event": ("GET", "events/by-id/1", None),
    "read by either id": ("GET", "events/1", None),
    "annotate an execution": ("POST", "events", EVENT),
    "render a template": ("POST", "context/render", TEMPLATE),
    "list jobs": ("GET", "queue", None),
    "count jobs": ("GET", "queue/size", None),
    "enqueue a job": ("POST", "queue/enqueue", JOB),
    "reap leases": ("POST", "queue/reap-expired", {}),
    "lease a job": ("POST", "queue/lease", {"worker_id": "w"}),
    "complete a job": ("POST", "queue/1/complete", {}),
    "fail a job": ("POST", "queue/1/fail", {}),
    "extend a lease": ("POST", "queue/1/heartbeat", {}),
    "log for a job": ("POST", "queue/1/log", {"log": []}),
    "release a lease": ("POST", "queue/1/release", {}),
    "get a job's secrets": ("POST", "queue/1/secrets", {"lease_token": "00000000-0000-0000-0000-000000000000"}),
    "list credentials": ("GET", "credentials", None),
    "store a credential": ("POST", "credentials", {"name": "x", "data": {"value": "y"}}),
    "see a credential": ("GET", "credentials/x", None),
    "change a credential": ("PATCH", "credentials/x", {"description": "z"}),
    "try a credential": ("POST", "credentials/x/test", {}),
    "delete a credential": ("DELETE", "credentials/x", None),
    "register a pool": ("POST", "worker/pool/register", POOL),
    "beat for a pool": ("POST", "worker/pool/heartbeat", {"name": "p"}),
    "deregister a pool": ("POST", "worker/pool/deregister", {"name": "p"}),
    "delete a pool": ("DELETE", "worker/pool/deregister", {"name": "p"}),
    "list pools": ("GET", "worker/pools", None),
    "register a component": ("POST", "runtime/register", {"name": "p", "base_url": "http://x"}),
    "beat for a component": ("POST", "runtime/heartbeat", {"name": "p"}),
    "deregister a component": ("POST", "runtime/deregister", {"name": "p"}),
    "delete a component": ("DELETE", "runtime/deregister", {"name": "p"}),
    "list components": ("GET", "runtime", None),
    "read the OpenAPI document": ("GET", "schema", None),
    "see the API's pages": ("GET", "docs", None),
}

# v: viewer, o: operator, a: author, w: worker, A: admin.
MATRIX: Final = {
    "register a playbook": "a A",
    "list the catalog": "v o a A",
    "list playbooks": "v o a A",
    "list playbooks, longer address": "v o a A",
    "see a playbook": "v o a A",
    "see a playbook by path": "v o a A",
    "read a playbook": "v o a A",
    "read a playbook by path": "v o a A",
    "see a version": "v o a A",
    "validate a text": "v o a A",
    "start an execution": "o a A",
    "list executions": "v o a A",
    "see an execution": "v o a A",
    "list an execution's children": "v o a A",
    "read an execution's log": "v o a A",
    "cancel an execution": "o a A",
    "pause an execution": "o a A",
    "resume an execution": "o a A",
    "signal an execution": "o a A",
    "answer an approval": "o a A",
    "run an execution again": "o a A",
    "read events": "v o a A",
    "read an event": "v o a A",
    "read by either id": "v o a A",
    "annotate an execution": "o A",
    "render a template": "o A",
    "list jobs": "v o a A",
    "count jobs": "v o a A",
    "enqueue a job": "a A",
    "reap leases": "o A",
    "lease a job": "w A",
    "complete a job": "w A",
    "fail a job": "w A",
    "extend a lease": "w A",
    "log for a job": "w A",
    "release a lease": "w A",
    "get a job's secrets": "w A",
    "list credentials": "v o a A",
    "store a credential": "A",
    "see a credential": "v o a A",
    "change a credential": "A",
    "try a credential": "A",
    "delete a credential": "A",
    "register a pool": "w A",
    "beat for a pool": "w A",
    "deregister a pool": "w A",
    "delete a pool": "w A",
    "list pools": "v o a A",
    "register a component": "A",
    "beat for a component": "A",
    "deregister a component": "A",
    "delete a component": "A",
    "list components": "v o a A",
    "read the OpenAPI document": "v o a w A",
    "see the API's pages": "v o a w A",
}
LETTERS: Final = {"viewer": "v", "operator": "o", "author": "a", "worker": "w", "admin": "A"}


@pytest.mark.parametrize("role", NAMES)
def test_each_role_may_do_what_its_column_says(db: None, role: str) -> None:
    api = api_as(role)
    for action, (method, path, body) in ACTIONS.items():
        answer = api.send(method, path, b"" if body is None else json_of(body))
        allowed = answer.status_code not in (401, 403)
        assert allowed is (LETTERS[role] in MATRIX[action].split()), (action, answer.status_code, answer.content)
        assert answer.status_code < 500, (action, answer.content)


def test_the_matrix_knows_every_operation() -> None:
    listed = {(method, path.replace("a/b/0.1.0", "a/b/x").replace("/1", "/N")) for method, path, _ in ACTIONS.values()}
    there = set()
    for path, name in all_views():
        view = dict(api_views()).get(name)
        if view is not None:
            there |= {(method, path.removeprefix("/api/")) for method in view.needs}
    there = {(method, path.replace("/1", "/N").replace("executions/x", "executions/N")
              .replace("by-execution/x", "by-execution/N").replace("by-id/x", "by-id/N")
              .replace("events/x", "events/N")) for method, path in there}  # fmt: skip
    assert there == listed


def json_of(body: Any) -> bytes:
    return json.dumps(body).encode()


def test_a_token_is_needed_and_must_be_right(db: None) -> None:
    answer = Api().get("executions")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer["WWW-Authenticate"] == "Bearer"
    good = create_token(User.objects.create_user("u"), "t")
    for wrong in (good[:-1], good[:-1] + ("0" if good[-1] != "0" else "1"), "x", "noetl_" + "é" * 64, good + "\x00"):
        answer = Api().client.get("/api/executions", HTTP_AUTHORIZATION=f"Bearer {wrong}")
        assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed"), wrong
    for header in ("Bearer", f"Bearer {good} x", f"Token {good}", f"Basic {good}"):
        assert Api().client.get("/api/executions", HTTP_AUTHORIZATION=header).status_code == 401


def test_only_a_digest_of_a_token_is_kept(db: None) -> None:
    token = create_token(User.objects.create_user("u"), "t")
    row = ApiToken.objects.get()
    assert len(token) == len("noetl_") + 64
    assert all(token not in str(value) for value in vars(row).values())
    assert token.startswith(row.token_key) and len(row.token_key) == 15
    assert Api(token).get("schema").status_code == 200
    row.refresh_from_db()
    assert row.last_used_at is not None


def test_a_token_ends_by_its_time_by_its_user_and_by_hand(db: None) -> None:
    user = User.objects.create_user("u")
    token = create_token(user, "t", days=1)
    assert Api(token).get("schema").status_code == 200
    user.is_active = False
    user.save()
    assert Api(token).get("schema").status_code == 401
    user.is_active = True
    user.save()
    ApiToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    assert Api(token).get("schema").status_code == 401
    other = create_token(user, "t")
    delete_token(str(ApiToken.objects.get(name="t").id))
    assert Api(other).get("schema").status_code == 401
    with pytest.raises(TokenNotFound):
        delete_token("nonsense")


def test_a_token_is_narrowed_to_its_scopes(db: None) -> None:
    admin_api()
    narrow = Api(create_token(User.objects.get(username="boss"), "t", ["viewer"]))
    assert narrow.get("executions").status_code == 200
    assert narrow.post("catalog/register", BOOK).status_code == 403
    assert narrow.get("schema").status_code == 200
    # A scope gives nothing that the user has not.
    poor = Api(create_token(User.objects.create_user("poor"), "t", ["admin"]))
    assert poor.get("executions").status_code == 403


def test_programs_have_accounts_of_their_own(db: None) -> None:
    account = ensure_service_account("etl", ["worker"])
    assert not account.has_usable_password()
    assert ensure_service_account("etl", ["viewer"]).pk == account.pk
    assert [group.name for group in account.groups.all()] == ["viewer"]
    User.objects.create_user("ada", password="x")
    with pytest.raises(AccessError, match="person's account"):
        ensure_service_account("ada", ["worker"])
    with pytest.raises(AccessError, match="is no role"):
        ensure_service_account("x", ["king"])
    with pytest.raises(AccessError, match="1 to"):
        create_token(account, "t", days=0)
    with pytest.raises(UserNotFound):
        find_user("nobody")


def test_a_session_of_the_console_works_too_and_needs_the_csrf_token(db: None) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("boss", password="x"))
    assert client.get("/api/executions").status_code == 200
    refused = client.post("/api/catalog/register", json_of(BOOK), content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")


def test_a_closed_network_may_do_without_tokens(db: None, settings: Any) -> None:
    settings.NOETL_API_ANONYMOUS = True
    assert Api().get("executions").status_code == 200
    assert Api().post("catalog/register", BOOK).status_code == 201
    assert Api().post("queue/lease", {"worker_id": "w"}).json() == {"status": "empty"}
    assert Api().post("queue/1/secrets", {"lease_token": "00000000-0000-0000-0000-000000000000"}).status_code == 401
    assert Api().post("runtime/register", {"name": "s", "base_url": "http://x"}).status_code == 401
    assert Client().get("/admin/").status_code == 302
