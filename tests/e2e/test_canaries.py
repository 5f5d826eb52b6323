"""Twelve canaries go through every kind of action, on success and on failure, and are found nowhere afterwards."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import boto3
import pytest
from moto.server import ThreadedMotoServer

from noetl_site import embedded
from tests.support import canaries
from tests.support.inspection import call, wait_for
from tests.support.platform import Platform, running_platform, temporary_data_dir
from tests.support.vaults import Vaults, serving
from tests.support.webserver import running_webserver

CANARIES: Final = {
    "environment": "canary-0f-the-environment-1",
    "generic": "canary with spaces & ampers%nds 2",
    "postgres": "canary'qu0te\"d\\back pässwörd 3",
    "bearer": "canary.bearer_t0ken~4",
    "basic": "canary:basic:passw0rd:5",
    "api_key": "canary-api-k3y-6",
    "header": "canary-header-v4lue-7",
    "client": "canary-client-s3cret-8",
    "aws": "canary/aws+secret/9",
    "vault": "canary-hvs.vaultt0ken-10",
    "kept": "canary kept in the vault: ключ 11",
    "file": "canary-line-one-of-the-file\ncanary-line-two-of-the-file-12",
}
GIVEN: Final = {"NOETL_SECRET_CANARY_ENVIRONMENT": CANARIES["environment"]}
"""The only one that is in an environment: the test puts it there, as this is how such a secret is given to a worker."""

HEAD: Final = "apiVersion: noetl.io/v1\nkind: Playbook\nname: canaries\npath: tests/canaries"


@dataclass
class Flight:
    """What has happened: the executions by playbook, and what was seen on the way."""

    platform: Platform
    vaults: Vaults
    api: str
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)


def stored(vaults: Vaults, database: Mapping[str, str]) -> list[dict[str, Any]]:
    wrong = {"db_host": database["host"], "db_port": database["port"], "db_user": "nobody", "db_name": "nowhere"}
    right = {f"db_{key}": database[key] for key in ("host", "port", "user")} | {"db_name": database["dbname"]}
    return [
        {"name": "generic", "type": "generic", "data": {"value": CANARIES["generic"]}},
        {"name": "postgres", "type": "postgres", "data": {**right, "db_password": CANARIES["postgres"]}},
        {"name": "stranger", "type": "postgres", "data": {**wrong, "db_password": CANARIES["postgres"]}},
        {"name": "bearer", "type": "bearer", "data": {"token": CANARIES["bearer"]}},
        {"name": "basic", "type": "basic", "data": {"username": "ada", "password": CANARIES["basic"]}},
        {"name": "api_key", "type": "api_key", "data": {"value": CANARIES["api_key"]}},
        {"name": "header", "type": "header", "data": {"name": "X-Canary", "value": CANARIES["header"]}},
        {
            "name": "client",
            "type": "oauth",
            "data": {"client_id": "c", "client_secret": CANARIES["client"], "token_url": f"{vaults.url}/azure/token"},
        },
        {"name": "aws", "type": "s3", "data": {"access_key_id": "AKIA", "secret_access_key": CANARIES["aws"]}},
        {
            "name": "vault",
            "type": "vault",
            "data": {"token": CANARIES["vault"], "address": f"{vaults.url}/vault"},
        },
    ]


FETCH: Final = """
  - {step: start, next: kept}
  - {step: kept, type: secrets, provider: vault, secret_name: kv/kept, auth: vault, next: azure}
  - step: azure
    type: secrets
    provider: azure
    api_endpoint: "{{ workload.vaults }}/azure"
    secret_name: kept
    auth: client
    next: aws
  - {step: aws, type: secrets, provider: aws, secret_name: canary, auth: aws, next: file}
  - {step: file, type: secrets, provider: file, secret_name: canary, next: own}
  - step: own
    type: secrets
    provider: custom
    api_endpoint: "{{ workload.vaults }}/own"
    secret_name: kept
    auth: {headers: {X-Own-Token: "{{ secret.vault }}"}}
    next: aws_key
  - {step: aws_key, type: secrets, provider: credential, secret_name: aws, field: secret_access_key, next: client}
  - {step: client, type: secrets, provider: credential, secret_name: client, next: used}"""
ALL: Final = """
      environment: "{{ secret.canary_environment }}"
      generic: "{{ secret.generic }}"
      postgres: "{{ secret.postgres }}"
      bearer: "{{ secret.bearer }}"
      basic: "{{ secret.basic }}"
      api_key: "{{ secret.api_key }}"
      header: "{{ secret.header }}"
      client: "{{ client.secret_value }}"
      aws: "{{ aws_key.secret_value }}"
      vault: "{{ secret.vault }}"
      kept: "{{ kept.secret_value }}"
      file: "{{ file.secret_value }}\""""
TELL: Final = """
      import base64, json, logging, sys
      from urllib.parse import quote
      def forms(given):
          for name, value in given.items():
              raw = value.encode()
              pair = base64.b64encode(f"ada:{value}".encode()).decode()
              yield from (value, raw.hex(), quote(value, safe=""), json.dumps(value), pair, f"<{value}>")
              yield from (base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), repr(value))
      def main(**given):
          for text in forms(given):
              print(text)
              print(text, file=sys.stderr)
              logging.warning("told: %s", text)"""
GOES_ON: Final = "on_error: continue"

BOOKS: Final = {
    "python": f"""{HEAD}/python
workload: {{vaults: ""}}
workflow:{FETCH}
  - step: used
    type: python
    with:{ALL}
    code: |{TELL}
          told = list(forms(given))
          lengths = {{name: len(value) for name, value in given.items()}}
          return {{"lengths": lengths, "told": told, "under": dict.fromkeys(told, 1)}}
    next: raises
  - step: raises
    type: python
    {GOES_ON}
    with:{ALL}
    code: |{TELL}
          raise ValueError(" ".join(forms(given)))
    next: dies
  - step: dies
    type: python
    {GOES_ON}
    with:{ALL}
    code: |{TELL}
          sys.stdout.flush()
          import os
          os._exit(3)
    next: late
  - step: late
    type: python
    {GOES_ON}
    timeout: 1
    with:{ALL}
    code: |{TELL}
          while True: pass
    next: end
  - {{step: end, result: {{lengths: "{{{{ used.lengths }}}}", all: "{{{{ used.told }}}}"}}}}
""",
    "http": f"""{HEAD}/http
workload: {{api: "", vaults: ""}}
workflow:{FETCH}
  - step: used
    type: http
    method: POST
    url: "{{{{ workload.api }}}}/echo/{{{{ secret.generic }}}}"
    headers: {{X-Own: "{{{{ secret.vault }}}} {{{{ secret.canary_environment }}}}"}}
    params: {{kept: "{{{{ secret.api_key }}}}", aws: "{{{{ aws_key.secret_value }}}}"}}
    payload:{ALL}
    next: [bearer, basic, api_key, header, one, two]
  - {{step: bearer, type: http, url: "{{{{ workload.api }}}}/echo", auth: bearer, next: end}}
  - {{step: basic, type: http, url: "{{{{ workload.api }}}}/echo", auth: basic, next: end}}
  - {{step: api_key, type: http, url: "{{{{ workload.api }}}}/echo", auth: api_key, next: end}}
  - {{step: header, type: http, url: "{{{{ workload.api }}}}/echo", auth: header, next: end}}
  - step: one
    type: http
    url: "{{{{ workload.api }}}}/status/500"
    auth: basic
    params: {{t: "{{{{ secret.generic }}}}"}}
    {GOES_ON}
    next: end
  - step: two
    type: http
    url: "http://127.0.0.1:9/{{{{ secret.generic }}}}?t={{{{ kept.secret_value }}}}"
    auth: {{one: bearer, two: {{type: basic, inline: {{username: ada, password: "{{{{ secret.generic }}}}"}}}}}}
    use_auth: two
    {GOES_ON}
    next: three
  - {{step: three, type: http, url: "{{{{ secret.generic }}}}", {GOES_ON}, next: end}}
  - {{step: end, result: "{{{{ used }}}}"}}
""",
    "postgres": f"""{HEAD}/postgres
workload: {{vaults: ""}}
workflow:{FETCH}
  - step: used
    type: postgres
    auth: postgres
    query: "SELECT %(kept)s AS kept, %(file)s AS file, %(generic)s AS generic, to_jsonb(%(postgres)s::text) AS postgres"
    params:{ALL}
    next: fails
  - step: fails
    type: postgres
    auth: {{pg: {{key: postgres, type: postgres}}}}
    {GOES_ON}
    query: "SELECT cast(%(kept)s AS int)"
    params:{ALL}
    next: stranger
  - {{step: stranger, type: postgres, auth: stranger, query: SELECT 1, {GOES_ON}, next: end}}
  - {{step: end, result: "{{{{ used }}}}"}}
""",
    "duckdb": f"""{HEAD}/duckdb
workload: {{vaults: ""}}
workflow:{FETCH}
  - step: used
    type: duckdb
    database: ":memory:"
    query: "SELECT $kept AS kept, $file AS file, to_json($generic) AS generic, base64($bearer::BLOB) AS bearer"
    params:
      kept: "{{{{ kept.secret_value }}}}"
      file: "{{{{ file.secret_value }}}}"
      generic: "{{{{ secret.generic }}}}"
      bearer: "{{{{ secret.bearer }}}}"
    next: fails
  - step: fails
    type: duckdb
    database: ":memory:"
    {GOES_ON}
    query: "SELECT CAST($kept AS INTEGER)"
    params: {{kept: "{{{{ kept.secret_value }}}}"}}
    next: end
  - {{step: end, result: "{{{{ used }}}}"}}
""",
    "secrets": f"""{HEAD}/secrets
workload: {{vaults: ""}}
workflow:{FETCH}
  - {{step: used, type: secrets, provider: vault, secret_name: kv/absent, auth: vault, {GOES_ON}, next: forbidden}}
  - step: forbidden
    type: secrets
    provider: custom
    api_endpoint: "{{{{ workload.vaults }}}}/own"
    secret_name: "{{{{ secret.generic }}}}"
    auth: bearer
    {GOES_ON}
    next: nowhere
  - step: nowhere
    type: secrets
    provider: custom
    api_endpoint: "http://127.0.0.1:9/{{{{ secret.generic }}}}"
    secret_name: x
    auth: {{headers: {{X-T: "{{{{ kept.secret_value }}}}"}}}}
    {GOES_ON}
    next: end
  - {{step: end, result: ["{{{{ kept }}}}", "{{{{ azure.data }}}}", "{{{{ aws.secret_value }}}}"]}}
""",
    "save": f"""{HEAD}/save
workload: {{api: "", vaults: ""}}
workflow:{FETCH}
  - step: used
    type: save
    save:
      storage: http
      auth: bearer
      spec:
        url: "{{{{ workload.api }}}}/echo/{{{{ secret.generic }}}}"
        headers: {{X-Own: "{{{{ secret.vault }}}} {{{{ secret.canary_environment }}}}"}}
        params: {{kept: "{{{{ kept.secret_value }}}}"}}
      data:{ALL.replace("      ", "        ")}
    next: told
  - step: told
    type: save
    save:
      storage: python
      data: "{{{{ secret.api_key }}}}"
      spec: {{with: {{kept: "{{{{ kept.secret_value }}}}", generic: "{{{{ secret.generic }}}}"}}}}
      code: |
        def main(data, kept, generic):
            print(data, kept, generic.encode().hex())
            return [data, kept, generic]
    next: refused
  - step: refused
    type: python
    code: "def main(): return 1"
    save:
      storage: http
      auth: basic
      spec: {{url: "{{{{ workload.api }}}}/status/500", params: {{t: "{{{{ secret.generic }}}}"}}}}
    next: raises
  - step: raises
    type: save
    {GOES_ON}
    save:
      storage: python
      data: "{{{{ kept.secret_value }}}}"
      code: "def main(data): raise ValueError(data)"
    next: end
  - {{step: end, result: ["{{{{ told }}}}", "{{{{ steps.refused.meta.save_error }}}}"]}}
""",
}


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flight]:
    with ExitStack() as stack:
        vaults = stack.enter_context(serving({"kept": CANARIES["kept"]}))
        vaults.token, vaults.client_secret = CANARIES["vault"], CANARIES["client"]
        api = stack.enter_context(running_webserver())
        moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        moto.start()
        stack.callback(moto.stop)
        at_aws = "http://{}:{}".format(*moto.get_host_and_port())
        keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": CANARIES["aws"]}
        client = boto3.client("secretsmanager", region_name="us-east-1", endpoint_url=at_aws, **keys)
        client.create_secret(Name="canary", SecretString=CANARIES["kept"])
        files = tmp_path_factory.mktemp("secrets")
        (files / "canary").write_text(f"{CANARIES['file']}\n")
        data_dir = stack.enter_context(temporary_data_dir())
        env = {
            "NOETL_HTTP_ALLOWED_NETWORKS": "127.0.0.0/8",
            "NOETL_SECRETS_DIR": str(files),
            "AWS_ENDPOINT_URL": at_aws,
            "AWS_EC2_METADATA_DISABLED": "true",
            "LOG_LEVEL": "DEBUG",
            **GIVEN,
        }
        platform = stack.enter_context(running_platform(data_dir, "--workers", "2", **env))
        yield fly(Flight(platform, vaults, api), tmp_path_factory.mktemp("carried"))


def fly(flight: Flight, folder: Path) -> Flight:
    """Store the canaries, run every playbook, and look at what passes by meanwhile."""
    platform = flight.platform
    database = embedded.ensure_database(platform.data_dir, "shop", "shop_steps")
    with embedded.connect(embedded.open_folder(platform.data_dir)) as connection:
        connection.execute("ALTER ROLE shop_steps PASSWORD " + quoted(CANARIES["postgres"]))
    # The servers are the platform's: to hold on to them would keep them running after it.
    embedded.release(platform.data_dir)
    carried = folder / "credentials.json"
    carried.write_text(json.dumps(stored(flight.vaults, database)))
    platform.manage("credentials", "import", str(carried))
    carried.unlink()
    parameters = {"api": flight.api, "vaults": flight.vaults.url}
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


def test_every_playbook_has_run_to_its_end(flight: Flight) -> None:
    for name, state in flight.executions.items():
        assert state["status"] == "completed", (name, state["error"])
    lengths = flight.executions["python"]["result"]["lengths"]
    assert lengths == {name: len(canary) for name, canary in CANARIES.items()}, "every canary was there"


def test_what_failed_failed_for_its_own_reason(flight: Flight) -> None:
    wanted = {
        "python": {"raises": "python_error", "dies": "", "late": "timeout"},
        "http": {"one": "http_status", "two": "http_connection", "three": "arguments_invalid"},
        "postgres": {"fails": "sql_error", "stranger": "postgres_connection"},
        "duckdb": {"fails": "sql_error"},
        "secrets": {
            "used": "secret_not_found",
            "forbidden": "secret_forbidden",
            "nowhere": "secret_provider_failed",
        },
        "save": {"refused": "http_status", "raises": "python_error"},
    }
    for name, steps in wanted.items():
        place = f"events/by-execution/{flight.executions[name]['id']}"
        events = call(flight.platform, "GET", place)["events"]
        failed = {event["node_name"]: event["error"] for event in events if event["event_type"] == "action_error"}
        assert failed.keys() == steps.keys(), (name, failed)
        for step, code in steps.items():
            assert code in str(failed[step]), (name, step, failed[step])


def test_no_canary_passed_by_in_redis_or_in_a_process(flight: Flight) -> None:
    assert flight.seen == []


@pytest.mark.parametrize("sink", ["tables", "logs", "replies", "pages", "messages", "processes"])
def test_no_canary_is_left_behind(flight: Flight, sink: str) -> None:
    platform = flight.platform
    ids = [state["id"] for state in flight.executions.values()]
    places = ("credentials", "credentials/aws", "credentials/vault", "catalog/list", "worker/pools", "runtime")
    left = {
        "tables": lambda: canaries.tables(platform),
        "logs": lambda: canaries.logs(platform),
        "replies": lambda: canaries.replies(platform, ids, places),
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


def test_what_was_printed_is_in_the_log_without_them(flight: Flight) -> None:
    told = "".join(text for _, text in canaries.logs(flight.platform))
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
