"""The example on the page of every built-in kind of action runs as it stands, against real local services."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from django.conf import settings
from psycopg.conninfo import make_conninfo

from catalog.api import validate_text
from executors.contract import ActionKind, Credential
from executors.local import LocalRun
from executors.management.actions_page import page_of
from executors.registry import build_registry, find_kinds
from noetl_site import embedded
from tests.support.answering import Answer, Asked, answering
from tests.support.kinds import settings_with

# Of this worker alone: its tables are made anew.
DATABASE: Final = f"action_examples_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
BUILT_IN: Final = {name: found.kind for name, found in find_kinds().kinds.items() if found.origin == "built in"}
GIVES: Final[dict[str, Any]] = {
    "python": "south",
    "http": ["north", "south", "west"],
    "postgres": [{"id": 1, "total": 9.5}],
    "duckdb": [{"city": "Oslo", "units": 7}, {"city": "Rome", "units": 5}],
    "secrets": len("0pen-sesame"),
    "transfer": 2,
    "save": {"saved": "event", "data": 3},
    "notify": 1,
    "shell": "2\n$(id); two",
}
"""What each example gives, with the services below."""


def stores(asked: Asked) -> Answer:
    """Two pages of a shop's stores, of which the first links to the second; and somebody who is told."""
    if asked.path == "/told":
        return Answer({})
    if asked.path != "/stores" or asked.said.get("open") not in ("true", "True"):
        return Answer({"detail": "not found"}, 404)
    if asked.said.get("page") == "2":
        return Answer([{"id": "west"}])
    following = f"<http://{asked.headers['host']}/stores?open=true&page=2>; rel=next"
    return Answer([{"id": "north"}, {"id": "south"}], headers={"Link": following})


@pytest.fixture(scope="module")
def shop() -> dict[str, Credential]:
    """A shop's database with two orders of different days, and a place for them elsewhere."""
    words = embedded.ensure_database(Path(settings.NOETL_DATA_DIR), DATABASE, DATABASE)
    with psycopg.connect(make_conninfo(**words)) as connection:
        connection.execute("DROP TABLE IF EXISTS orders")
        connection.execute("CREATE TABLE orders (id int, total numeric, day date)")
        connection.execute("INSERT INTO orders VALUES (1, 9.5, '2024-05-01'), (2, 20, '2024-05-02')")
        connection.execute("DROP SCHEMA IF EXISTS raw CASCADE")
        connection.execute("CREATE SCHEMA raw CREATE TABLE orders (order_id int PRIMARY KEY, total numeric, day date)")
    return {name: Credential(name, "postgres", words) for name in ("shop", "lake")}


@pytest.fixture(scope="module")
def kinds() -> Iterator[dict[str, ActionKind]]:
    registry = build_registry(settings_with(NOETL_HTTP_ALLOWED_NETWORKS=("127.0.0.0/8",), NOETL_SHELL=True))
    yield registry
    for kind in registry.values():
        kind.close()


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_example_of_a_kind_runs(
    name: str, shop: dict[str, Credential], kinds: dict[str, ActionKind], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOETL_SECRET_SHOP_TOKEN", "0pen-sesame")
    playbook, problems = validate_text(BUILT_IN[name].example)
    assert playbook is not None
    assert [problem.code for problem in problems] == (["limited_kind"] if name == "shell" else [])
    with answering(stores) as api:
        payload = {"api": api.url} if "api" in playbook.workload else {}
        told = Credential("on_call", "notify", {"url": api.url.replace("http://", "json://") + "/told"})
        run = LocalRun(playbook, payload, kinds=kinds, credentials={**shop, "on_call": told})
        run.run()
    engine = run.root.engine
    assert (engine.status, engine.error) == ("completed", None)
    assert engine.result == GIVES[name]


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_page_of_a_kind_is_whole(name: str) -> None:
    kind = BUILT_IN[name]
    assert kind.result and kind.errors and kind.example
    rows = [line for line in page_of(kind, "built in").splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.endswith("|  |")] == []
