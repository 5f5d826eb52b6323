"""Canaries: secrets that stand nowhere else, and the search for them in everything that a platform leaves behind."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psutil
import redis
import requests
from psycopg import sql

from noetl_site import embedded
from tests.support.platform import Platform

PIECE = 12
"""So many characters of a canary's base64 in a row give it away, whatever stood before and after it."""


@cache
def forms_of(canary: str) -> frozenset[str]:
    """How a canary may be written: as it is, in base64, for URLs, in hexadecimal, inside of JSON and HTML."""
    raw = canary.encode()
    forms = {canary, raw.hex(), raw.hex().upper(), html.escape(canary), repr(canary)[1:-1]}
    for text in (json.dumps(canary)[1:-1], json.dumps(canary, ensure_ascii=False)[1:-1]):
        forms |= {text, json.dumps(text)[1:-1]}
    for text in (quote(canary), quote(canary, safe=""), quote_plus(canary)):
        forms |= {text, re.sub("%..", lambda found: found.group().lower(), text)}
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw).decode()
        piece = whole[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]
        forms |= {piece, piece.replace("+", "-").replace("/", "_")}
        forms |= {piece[at : at + PIECE] for at in range(0, len(piece) - PIECE + 1, PIECE)}
    return frozenset(form for form in forms if len(form) >= 8)


def found_in(text: str, canaries: Mapping[str, str]) -> list[str]:
    """Which canaries a text shows, and how."""
    return [f"{name} as {form}" for name, canary in canaries.items() for form in forms_of(canary) if form in text]


# -- what a platform leaves behind: pairs of a place and its text -------------------------------------------


def tables(platform: Platform) -> Iterator[tuple[str, str]]:
    """Every row of every table of the platform's database, as text; binary columns also decoded."""
    with embedded.connect(embedded.open_folder(platform.data_dir), "noetl") as connection:
        names = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(names) > 15
        for schema, table in names:
            place = sql.Identifier(schema, table)
            for (row,) in connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(place)):
                yield f"table {table}", row


def logs(platform: Platform) -> Iterator[tuple[str, str]]:
    """What the platform's processes and its servers have written."""
    root = platform.data_dir
    servers = [*(root / "postgres" / "log").glob("*.log"), *(root / "redis").glob("*.log")]
    assert len(servers) > 1
    programs = [*(root / "logs").glob("*"), *root.glob("*.err")]
    assert len(programs) > 3
    for file in (*programs, *servers):
        yield f"log {file.name}", file.read_text(errors="replace")


def files(platform: Platform, *more: Path) -> Iterator[tuple[str, str]]:
    """Every file of the data folder and of `more` folders, but for those of the database cluster.

    What the platform keeps there is `tables`; a database of the user's beside it may hold what a step wrote.
    """
    cluster = platform.data_dir / "postgres"
    found = [path for folder in (platform.data_dir, *more) for path in folder.rglob("*")]
    for path in found:
        yield "name of a file", str(path)
        if path.is_file() and not path.is_relative_to(cluster):
            yield f"file {path}", path.read_text(errors="replace")


def messages(platform: Platform) -> Iterator[tuple[str, str]]:
    """Every key of Redis and what it holds."""
    client = redis.Redis(unix_socket_path=str(embedded.open_folder(platform.data_dir).redis_socket))
    try:
        for key in client.scan_iter():
            yield f"redis {key!r}", f"{key!r} {_held(client, key)!r}"
        yield "redis clients", str(client.client_list())
    finally:
        client.close()


def _held(client: Any, key: bytes) -> Any:
    match client.type(key):
        case b"list":
            return client.lrange(key, 0, -1)
        case b"hash":
            return client.hgetall(key)
        case b"set":
            return client.smembers(key)
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"none":
            return None
    return client.get(key)


def processes(platform: Platform, given: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """Arguments and environments of the platform's processes, but for the variables that it was `given`."""
    without = set(given)
    for process in [psutil.Process(platform.process.pid), *platform.children()]:
        folder = Path("/proc") / str(process.pid)
        # One that has ended meanwhile leaves nothing.
        with suppress(OSError):
            yield f"cmdline of {process.pid}", (folder / "cmdline").read_text(errors="replace")
        with suppress(OSError):
            variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            told = [one for one in variables if one.partition("=")[0] not in without]
            yield f"environ of {process.pid}", "\n".join(told)


def replies(platform: Platform, executions: Iterable[str], places: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
    """What the API tells of executions, and at other places."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {platform.ready['token']}"
    own = [
        place
        for id_ in executions
        for place in (
            f"executions/{id_}",
            f"executions/{id_}/logs",
            f"events/by-execution/{id_}",
            f"queue?execution_id={id_}&limit=1000",
        )
    ]
    for place in (*own, *places):
        reply = session.get(f"{platform.ready['url']}/api/{place}", timeout=20)
        assert reply.ok, (place, reply.text[:200])
        yield f"api {place}", reply.text


def pages(platform: Platform, executions: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The console's lists, and the pages of what is in them."""
    url, admin = platform.ready["url"], platform.ready["admin"]
    session = requests.Session()
    session.get(f"{url}/admin/login/", timeout=20)
    login = {"csrfmiddlewaretoken": session.cookies["csrftoken"], "next": "/admin/"}
    login |= {"username": admin["username"], "password": admin["password"]}
    assert session.post(f"{url}/admin/login/", login, headers={"Referer": url}, timeout=20).url.endswith("/admin/")
    lists = {
        "executions/execution": [f"executions/execution/{id_}/change" for id_ in executions],
        "executions/eventlog": [],
        "queueing/job": [],
        "queueing/leasehistory": [],
        "executors/credential": [],
        "executors/runtime": [],
        "catalog/playbookversion": [],
    }
    for place, more in lists.items():
        reply = session.get(f"{url}/admin/{place}/", timeout=30)
        assert reply.ok, place
        yield f"page {place}", reply.text
        linked = dict.fromkeys(re.findall(rf"/admin/({place}/\d+/change)/", reply.text))
        for page in (*more, *linked):
            shown = session.get(f"{url}/admin/{page}/", timeout=30)
            assert shown.ok, page
            yield f"page {page}", shown.text
