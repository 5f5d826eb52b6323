"""Canaries go through every kind of action, on success and on failure, and are found nowhere afterwards."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import boto3
import pytest
from moto.server import ThreadedMotoServer

from executors.actions.save.storages import STORAGES
from executors.registry import BUILT_IN
from noetl_site import embedded
from tests.support import canaries
from tests.support.answering import answering
from tests.support.canary_books import ALL, BOOKS, BUCKET, CANARIES, FAILURES, IN_URLS, SAVES, stored
from tests.support.clouds import GoogleCloud
from tests.support.inspection import call, wait_for
from tests.support.mailserver import MailServer, serving_mail
from tests.support.platform import Platform, running_platform, temporary_data_dir
from tests.support.vaults import Vaults, serving
from tests.support.webserver import running_webserver

GIVEN: Final = {"NOETL_SECRET_CANARY_ENVIRONMENT": CANARIES["environment"]}
"""The only one that is in an environment: the test puts it there, as this is how such a secret is given to a worker."""
PLACES: Final = (
    *("catalog/list", "worker/pools", "runtime", "credentials"),
    *(f"credentials/{name}" for name in ("aws", "vault", "hook", "mail")),
)


@dataclass
class Flight:
    """What has happened: the executions by playbook, and what was seen on the way."""

    platform: Platform
    vaults: Vaults
    api: str
    amazon: str
    google: str
    mail: MailServer
    temporary: Path
    """The platform's folder for temporary files."""
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flight]:
    with ExitStack() as stack:
        vaults = stack.enter_context(serving({name: CANARIES[name] for name in ("kept", "azure", "own")}))
        vaults.token, vaults.client_secret = CANARIES["vault"], CANARIES["client"]
        api = stack.enter_context(running_webserver())
        mail = stack.enter_context(serving_mail(CANARIES["mail"]))
        at_aws = stack.enter_context(amazon())
        at_google = stack.enter_context(answering(GoogleCloud(BUCKET, CANARIES["google"]).answer))
        files = tmp_path_factory.mktemp("secrets")
        (files / "canary").write_text(f"{CANARIES['file']}\n")
        data_dir = stack.enter_context(temporary_data_dir())
        temporary = stack.enter_context(temporary_data_dir())
        # Jobs have a user of their own, who must pass through.
        temporary.chmod(0o711)
        env = {
            "NOETL_HTTP_ALLOWED_NETWORKS": "127.0.0.0/8",
            "NOETL_SECRETS_DIR": str(files),
            "NOETL_SHELL": "1",
            "AWS_ENDPOINT_URL": at_aws,
            "AWS_EC2_METADATA_DISABLED": "true",
            "LOG_LEVEL": "DEBUG",
            "TMPDIR": str(temporary),
            **GIVEN,
        }
        platform = stack.enter_context(running_platform(data_dir, "--workers", "2", **env))
        yield fly(
            Flight(platform, vaults, api, at_aws, at_google.url, mail, temporary), tmp_path_factory.mktemp("carried")
        )


@contextmanager
def amazon() -> Iterator[str]:
    """The address of an AWS with one secret and one bucket."""
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        address = "http://{}:{}".format(*moto.get_host_and_port())
        keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": CANARIES["aws"]}
        place = {"region_name": "us-east-1", "endpoint_url": address}
        boto3.client("secretsmanager", **place, **keys).create_secret(Name="canary", SecretString=CANARIES["amazon"])
        boto3.client("s3", **place, **keys).create_bucket(Bucket=BUCKET)
        yield address
    finally:
        moto.stop()


def fly(flight: Flight, folder: Path) -> Flight:
    """Store the canaries, run every playbook, and look at what passes by meanwhile."""
    platform = flight.platform
    database = embedded.ensure_database(platform.data_dir, "shop", "shop_steps")
    with embedded.connect(embedded.open_folder(platform.data_dir)) as connection:
        connection.execute("ALTER ROLE shop_steps PASSWORD " + quoted(CANARIES["postgres"]))
    # The servers are the platform's: to hold on to them would keep them running after it.
    embedded.release(platform.data_dir)
    carried = folder / "credentials.json"
    carried.write_text(
        json.dumps(stored(flight.vaults, flight.api, flight.amazon, flight.google, flight.mail.port, database))
    )
    platform.manage("credentials", "import", str(carried))
    carried.unlink()
    parameters = {"api": flight.api, "host": flight.api.removeprefix("http://"), "vaults": flight.vaults.url}
    for name, text in BOOKS.items():
        call(platform, "POST", "catalog/register", {"content": text})
        started = call(platform, "POST", "executions/run", {"path": f"tests/canaries/{name}", "parameters": parameters})
        flight.executions[name] = started

    def over() -> bool:
        look(flight, canaries.messages(platform))
        look(flight, canaries.processes(platform, GIVEN))
        states = [call(platform, "GET", f"executions/{started['id']}") for started in flight.executions.values()]
        flight.executions = dict(zip(BOOKS, states, strict=True))
        return all(state["status"] in ("completed", "failed") for state in states)

    wait_for(over, 120)
    return flight


def quoted(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def look(flight: Flight, places: Iterator[tuple[str, str]]) -> None:
    for place, text in places:
        flight.seen += [f"{place}: {found}" for found in canaries.found_in(text, CANARIES)]


def test_every_kind_and_storage_has_its_playbook() -> None:
    assert BOOKS.keys() == {kind.name for kind in BUILT_IN}
    assert SAVES.keys() == {storage.name for storage in STORAGES}
    assert ALL.keys() | IN_URLS == CANARIES.keys()


def test_every_playbook_has_run_to_its_end(flight: Flight) -> None:
    for name, state in flight.executions.items():
        assert state["status"] == "completed", (name, state["error"])
    lengths = flight.executions["python"]["result"]["lengths"]
    assert lengths == {name: len(canary) for name, canary in CANARIES.items() if name in ALL}, "every canary was there"


def test_what_failed_failed_for_its_own_reason(flight: Flight) -> None:
    for name, steps in FAILURES.items():
        place = f"events/by-execution/{flight.executions[name]['id']}"
        events = call(flight.platform, "GET", place)["events"]
        failed = {event["node_name"]: event["error"] for event in events if event["event_type"] == "action_error"}
        assert failed.keys() == steps.keys(), (name, failed)
        for step, code in steps.items():
            assert code in str(failed[step]), (name, step, failed[step])


def test_people_were_told_with_them(flight: Flight) -> None:
    """The canaries did go out: by mail, to whom they were for."""
    [mail] = flight.mail.mails
    assert mail.recipients == ["b@shop.example"] and mail.message["Subject"] == CANARIES["header"]


def test_no_canary_passed_by_in_redis_or_in_a_process(flight: Flight) -> None:
    assert flight.seen == []


@pytest.mark.parametrize("sink", ["tables", "logs", "files", "replies", "pages", "messages", "processes"])
def test_no_canary_is_left_behind(flight: Flight, sink: str) -> None:
    platform = flight.platform
    ids = [state["id"] for state in flight.executions.values()]
    left = {
        "tables": lambda: canaries.tables(platform),
        "logs": lambda: canaries.logs(platform),
        "files": lambda: canaries.files(platform, flight.temporary),
        "replies": lambda: canaries.replies(platform, ids, PLACES),
        "pages": lambda: canaries.pages(platform, ids),
        "messages": lambda: canaries.messages(platform),
        "processes": lambda: canaries.processes(platform, GIVEN),
    }
    looked_at = 0
    found = []
    for place, text in left[sink]():
        looked_at += len(text)
        found += [f"{place}: {one}" for one in canaries.found_in(text, CANARIES)]
    assert looked_at > 100
    assert found == []


def test_what_was_printed_is_in_the_executions_logs_without_them(flight: Flight) -> None:
    ids = [state["id"] for state in flight.executions.values()]
    told = "".join(text for place, text in canaries.replies(flight.platform, ids) if place.endswith("/logs"))
    assert told.count("***") > 50


def test_the_search_would_have_found_them() -> None:
    for name, canary in CANARIES.items():
        raw = canary.encode()
        pair = base64.b64encode(f"ada:{canary}".encode()).decode()
        for text in (canary, raw.hex(), quote(canary, safe=""), json.dumps(canary), pair, repr(canary)):
            assert canaries.found_in(f"before {text} after", {name: canary}), text


def test_a_process_that_was_given_one_is_seen(flight: Flight) -> None:
    """The look at environments does look: what it leaves out is there."""
    told = "".join(text for _, text in canaries.processes(flight.platform))
    assert CANARIES["environment"] in told
    assert os.environ.get("NOETL_SECRET_CANARY_ENVIRONMENT") is None
