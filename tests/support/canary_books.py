"""Playbooks that carry canaries through every kind of action, on success and on failure; what is stored for them.

| place | has |
|---|---|
| `CANARIES` | the secrets, by a name that stands for where each comes from |
| `stored` | the credentials that hold some of them |
| `BOOKS` | a playbook for each kind; all begin with the steps that fetch the others |
| `SAVES` | what the playbook of saves does with each storage |
| `FAILURES` | of each playbook the steps that must fail, and with what |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from tests.support.vaults import Vaults

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
    "azure": "canary of azure: schlüssel 13",
    "own": "canary/of/ones/own/14",
    "amazon": "canary+of+amazon=15",
    "google": "canary.google_t0ken-19",
    "hook": "canary-hook-passw0rd-16",
    "path": "canary-in-a-path-17",
    "mail": "canary mail passw0rd 18",
}
IN_URLS: Final = {"hook", "path", "mail"}
"""Those that stand in URLs of services alone, and go through `notify`; the others go through every kind."""
BUCKET: Final = "canaries"

HEAD: Final = "apiVersion: noetl.io/v1\nkind: Playbook\nname: canaries\npath: tests/canaries"


def stored(
    vaults: Vaults, api: str, amazon: str, google: str, mail_port: int, database: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The credentials; `database` are libpq's words for one whose password is a canary."""
    wrong = {"db_host": database["host"], "db_port": database["port"], "db_user": "nobody", "db_name": "nowhere"}
    right = {f"db_{key}": database[key] for key in ("host", "port", "user")} | {"db_name": database["dbname"]}
    keys = {"access_key_id": "AKIA", "endpoint": amazon}
    hook = f"json://ada:{CANARIES['hook']}@{api.removeprefix('http://')}/echo/{CANARIES['path']}"
    mail = (
        f"mailto://ada:{quote(CANARIES['mail'], safe='')}@127.0.0.1:{mail_port}?from=a@shop.example&mode=insecure&to="
    )
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
        {"name": "lake", "type": "bearer", "data": {"token": CANARIES["google"], "endpoint": google}},
        {"name": "aws", "type": "s3", "data": {**keys, "secret_access_key": CANARIES["aws"]}},
        {
            "name": "vault",
            "type": "vault",
            "data": {"token": CANARIES["vault"], "address": f"{vaults.url}/vault"},
        },
        {"name": "hook", "type": "notify", "data": {"url": hook}},
        {"name": "mail", "type": "notify", "data": {"urls": f"{mail}b@shop.example"}},
        {"name": "lost_mail", "type": "notify", "data": {"urls": f"{mail}c@nowhere.example"}},
    ]


FETCH: Final = """
  - {step: start, next: kept}
  - {step: kept, type: secrets, provider: vault, secret_name: kv/kept, auth: vault, next: azure}
  - step: azure
    type: secrets
    provider: azure
    api_endpoint: "{{ workload.vaults }}/azure"
    secret_name: azure
    auth: client
    next: aws
  - {step: aws, type: secrets, provider: aws, secret_name: canary, auth: aws, next: file}
  - {step: file, type: secrets, provider: file, secret_name: canary, next: own}
  - step: own
    type: secrets
    provider: custom
    api_endpoint: "{{ workload.vaults }}/own"
    secret_name: own
    auth: {headers: {X-Own-Token: "{{ secret.vault }}"}}
    next: aws_key
  - {step: aws_key, type: secrets, provider: credential, secret_name: aws, field: secret_access_key, next: client}
  - {step: client, type: secrets, provider: credential, secret_name: client, next: used}"""
ALL: Final = {
    "environment": "{{ secret.canary_environment }}",
    "generic": "{{ secret.generic }}",
    "postgres": "{{ secret.postgres }}",
    "bearer": "{{ secret.bearer }}",
    "basic": "{{ secret.basic }}",
    "api_key": "{{ secret.api_key }}",
    "header": "{{ secret.header }}",
    "client": "{{ client.secret_value }}",
    "aws": "{{ aws_key.secret_value }}",
    "vault": "{{ secret.vault }}",
    "kept": "{{ kept.secret_value }}",
    "file": "{{ file.secret_value }}",
    "azure": "{{ azure.secret_value }}",
    "own": "{{ own.secret_value }}",
    "amazon": "{{ aws.secret_value }}",
    "google": "{{ secret.lake }}",
}
EVERY: Final = json.dumps(ALL)
"""The same, to be written into a playbook."""
MESSAGE: Final = json.dumps(" ".join(ALL.values()))
ONE: Final = {"kept": ALL["kept"]}
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
GOING_ON: Final = {"on_error": "continue"}
COLUMNS: Final = "SELECT CAST(:kept AS text) AS kept, CAST(:file AS text) AS file, CAST(:generic AS text) AS generic"

BOOKS: Final[dict[str, str]] = {
    "python": f"""{HEAD}/python
workload: {{vaults: ""}}
workflow:{FETCH}
  - step: used
    type: python
    with: {EVERY}
    code: |{TELL}
          told = list(forms(given))
          lengths = {{name: len(value) for name, value in given.items()}}
          return {{"lengths": lengths, "told": told, "under": dict.fromkeys(told, 1)}}
    next: raises
  - step: raises
    type: python
    {GOES_ON}
    with: {EVERY}
    code: |{TELL}
          raise ValueError(" ".join(forms(given)))
    next: dies
  - step: dies
    type: python
    {GOES_ON}
    with: {EVERY}
    code: |{TELL}
          sys.stdout.flush()
          import os
          os._exit(3)
    next: late
  - step: late
    type: python
    {GOES_ON}
    timeout: 1
    with: {EVERY}
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
    payload: {EVERY}
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
    params: {EVERY}
    next: fails
  - step: fails
    type: postgres
    auth: {{pg: {{key: postgres, type: postgres}}}}
    {GOES_ON}
    query: "SELECT cast(%(kept)s AS int)"
    params: {EVERY}
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
    "notify": f"""{HEAD}/notify
workload: {{api: "", host: "", vaults: ""}}
notify: {{on: success, auth: hook, title: "{{{{ secret.generic }}}}", body: "told {{{{ secret.basic }}}}"}}
workflow:{FETCH}
  - step: used
    type: notify
    auth: hook
    to: ["json://{{{{ workload.host }}}}/echo/{{{{ secret.vault }}}}"]
    title: "{{{{ secret.basic }}}}"
    body: {MESSAGE}
    next: mailed
  - {{step: mailed, type: notify, auth: mail, title: "{{{{ secret.header }}}}", body: {MESSAGE}, next: refused}}
  - step: refused
    type: notify
    to: "json://ada:{{{{ secret.api_key }}}}@{{{{ workload.host }}}}/status/500"
    body: {MESSAGE}
    {GOES_ON}
    next: lost
  - {{step: lost, type: notify, auth: lost_mail, body: {MESSAGE}, {GOES_ON}, next: nowhere}}
  - step: nowhere
    type: notify
    to: "json://127.0.0.1:9/{{{{ own.secret_value }}}}"
    body: x
    {GOES_ON}
    next: no_url
  - {{step: no_url, type: notify, to: "{{{{ kept.secret_value }}}}", body: x, {GOES_ON}, next: late}}
  - step: late
    type: notify
    to: "json://ada:{{{{ secret.bearer }}}}@{{{{ workload.host }}}}/silent"
    body: {MESSAGE}
    timeout: 0.5
    {GOES_ON}
    next: end
  - {{step: end, result: ["{{{{ used }}}}", "{{{{ mailed }}}}"]}}
""",
    "shell": f"""{HEAD}/shell
workload: {{vaults: ""}}
workflow:{FETCH}
  - step: used
    type: shell
    stdin: {EVERY}
    command: |
      cat > given
      cat given
      base64 -w0 given
      od -An -v -tx1 given | tr -d ' \\n'
      cat given >&2
    next: fails
  - {{step: fails, type: shell, stdin: {EVERY}, command: "tee given; cat given >&2; exit 3", {GOES_ON}, next: refused}}
  - step: refused
    type: shell
    env: {{TOKEN: "{{{{ secret.generic }}}}"}}
    args: ["{{{{ kept.secret_value }}}}"]
    command: "true"
    {GOES_ON}
    next: late
  - {{step: late, type: shell, stdin: {EVERY}, command: "tee given; sleep 60", timeout: 1, {GOES_ON}, next: end}}
  - {{step: end, result: "{{{{ used }}}}"}}
""",
    "transfer": f"""{HEAD}/transfer
workload: {{api: "", vaults: ""}}
workflow:{FETCH}
  - step: used
    type: transfer
    source: {{type: postgres, auth: postgres, query: "{COLUMNS}"}}
    params: {EVERY}
    target: {{type: http, url: "{{{{ workload.api }}}}/echo/{{{{ secret.generic }}}}", auth: bearer}}
    next: tables
  - step: tables
    type: postgres
    auth: postgres
    command: CREATE TABLE arrived (kept text, file text, generic text); CREATE TABLE counted (n int)
    next: arrived
  - step: arrived
    type: transfer
    source: {{type: postgres, auth: postgres, query: "{COLUMNS}"}}
    params: {EVERY}
    target: {{type: postgres, auth: postgres, table: arrived}}
    key: kept
    next: bucket
  - step: bucket
    type: transfer
    source: {{type: postgres, auth: postgres, table: arrived}}
    target: {{type: s3, auth: aws, url: "s3://{BUCKET}/rows.csv"}}
    next: made
  - {{step: made, type: duckdb, command: CREATE TABLE made AS SELECT 1 AS n, next: sent}}
  - step: sent
    type: transfer
    source: {{type: duckdb, query: "SELECT n, $kept AS kept, $file AS file FROM made"}}
    params: {{kept: "{{{{ kept.secret_value }}}}", file: "{{{{ file.secret_value }}}}"}}
    target: {{type: http, url: "{{{{ workload.api }}}}/echo", auth: basic}}
    next: back
  - step: back
    type: transfer
    source: {{type: s3, auth: aws, url: "s3://{BUCKET}/rows.csv"}}
    target: {{type: http, url: "{{{{ workload.api }}}}/echo", auth: header}}
    next: no_number
  - step: no_number
    type: transfer
    source: {{type: postgres, auth: postgres, query: "SELECT CAST(:kept AS int) AS n"}}
    params: {EVERY}
    target: {{type: http, url: "{{{{ workload.api }}}}/echo"}}
    {GOES_ON}
    next: no_row
  - step: no_row
    type: transfer
    source: {{type: postgres, auth: postgres, query: "SELECT CAST(:kept AS text) AS n"}}
    params: {EVERY}
    target: {{type: postgres, auth: postgres, table: counted}}
    {GOES_ON}
    next: no_cast
  - step: no_cast
    type: transfer
    source: {{type: duckdb, query: "SELECT CAST($kept AS INTEGER) AS n FROM made"}}
    params: {{kept: "{{{{ kept.secret_value }}}}"}}
    target: {{type: http, url: "{{{{ workload.api }}}}/echo"}}
    {GOES_ON}
    next: no_page
  - step: no_page
    type: transfer
    source: {{type: http, url: "{{{{ workload.api }}}}/echo?t={{{{ secret.generic }}}}", auth: api_key}}
    target: {{type: postgres, auth: postgres, table: arrived}}
    {GOES_ON}
    next: refused
  - step: refused
    type: transfer
    source: {{type: postgres, auth: postgres, table: arrived}}
    target: {{type: http, url: "{{{{ workload.api }}}}/status/500?t={{{{ kept.secret_value }}}}", auth: bearer}}
    {GOES_ON}
    next: no_bucket
  - step: no_bucket
    type: transfer
    source: {{type: postgres, auth: postgres, table: arrived}}
    target: {{type: s3, auth: aws, url: "s3://no-such-bucket/{{{{ secret.generic }}}}.csv"}}
    {GOES_ON}
    next: stranger
  - step: stranger
    type: transfer
    source: {{type: postgres, auth: stranger, query: "{COLUMNS}"}}
    params: {EVERY}
    target: {{type: http, url: "{{{{ workload.api }}}}/echo"}}
    {GOES_ON}
    next: end
  - {{step: end, result: ["{{{{ used }}}}", "{{{{ arrived }}}}", "{{{{ bucket }}}}", "{{{{ sent }}}}"]}}
""",
}


@dataclass(frozen=True, slots=True)
class Saved:
    """One storage: the keys of a `save` that is done, and of one that fails, with what it fails."""

    good: Mapping[str, Any]
    bad: Mapping[str, Any]
    code: str


SAVES: Final = {
    "event_log": Saved({"data": ALL}, {"data": {**ALL, "more": "{{ secret.of_nobody }}"}}, "secret_not_found"),
    "postgres": Saved(
        {"auth": "postgres", "statement": "SELECT CAST(:kept AS text), CAST(:file AS text)", "params": ALL},
        {"auth": "postgres", "statement": "SELECT CAST(:kept AS int)", "params": ALL},
        "target_failed",
    ),
    "duckdb": Saved(
        {"statement": "DELETE FROM made WHERE CAST(n AS text) = :kept", "params": ONE},
        {"statement": "DELETE FROM made WHERE n = CAST(:kept AS int)", "params": ONE},
        "target_failed",
    ),
    "http": Saved(
        {
            "auth": "bearer",
            "data": ALL,
            "spec": {
                "url": "{{ workload.api }}/echo/{{ secret.generic }}",
                "headers": {"X-Own": "{{ secret.vault }} {{ secret.canary_environment }}"},
                "params": ONE,
            },
        },
        {"auth": "basic", "data": ALL, "spec": {"url": "{{ workload.api }}/status/500", "params": ONE}},
        "http_status",
    ),
    "python": Saved(
        {
            "data": ALL,
            "spec": {"with": ONE},
            "code": "def main(data, kept):\n    print(data, kept)\n    return [data, kept]",
        },
        {"data": ALL, "code": "def main(data): raise ValueError(data)"},
        "python_error",
    ),
    # What is saved into a file is meant to be in it, so none is.
    "file": Saved(
        {"data": {"n": 1}, "spec": {"path": "out/rows.json"}},
        {"data": {"n": 1}, "spec": {"path": "../{{ secret.generic }}/{{ secret.canary_environment }}.json"}},
        "path_not_allowed",
    ),
    "s3": Saved(
        {"auth": "aws", "data": ALL, "spec": {"url": f"s3://{BUCKET}/rows.json"}},
        {"auth": "aws", "data": ALL, "spec": {"url": "s3://nowhere/{{ secret.generic }}.json"}},
        "target_failed",
    ),
    "gcs": Saved(
        {"auth": "lake", "data": ALL, "spec": {"url": f"gs://{BUCKET}/rows.json"}},
        {"auth": "lake", "data": ALL, "spec": {"url": "gs://nowhere/{{ secret.generic }}.json"}},
        "target_failed",
    ),
}


def _saving() -> str:
    """For each storage one save beside a step, one that is the step, one beside a failed step, and one that fails."""
    steps: list[dict[str, Any]] = []
    for storage, saved in SAVES.items():
        good, bad = {"storage": storage, **saved.good}, {"storage": storage, **saved.bad}
        on_error = {**good, "on": "error"}
        steps += [
            {"step": f"{storage}_beside", "type": "python", "code": "def main(): return 1", "save": good},
            {"step": f"{storage}_alone", "type": "save", "save": good},
            {"step": f"{storage}_error", **GOING_ON, "type": "python", "code": "def main(): 1 / 0", "save": on_error},
            {"step": f"{storage}_fails", **GOING_ON, "type": "save", "save": bad},
        ]
    results = []
    for step, following in zip(steps, [*(step["step"] for step in steps[1:]), "end"], strict=True):
        step["next"] = following
        results.append(f"{{{{ steps.{step['step']} }}}}")
    # The database that saves write to.
    made = "CREATE TABLE made AS SELECT 1 AS n"
    first = {"step": "used", "type": "duckdb", "command": made, "next": steps[0]["step"]}
    lines = [json.dumps(step) for step in (first, *steps, {"step": "end", "result": results})]
    return "\n".join(
        [f'{HEAD}/save\nworkload: {{api: "", vaults: ""}}\nworkflow:{FETCH}', *(f"  - {line}" for line in lines)]
    )


BOOKS["save"] = _saving()

FAILURES: Final[dict[str, dict[str, str]]] = {
    "python": {"raises": "python_error", "dies": "", "late": "timeout"},
    "http": {"one": "http_status", "two": "http_connection", "three": "arguments_invalid"},
    "postgres": {"fails": "sql_error", "stranger": "postgres_connection"},
    "duckdb": {"fails": "sql_error"},
    "secrets": {"used": "secret_not_found", "forbidden": "secret_forbidden", "nowhere": "secret_provider_failed"},
    "notify": {
        **dict.fromkeys(("refused", "lost", "nowhere", "no_url"), "notify_failed"),
        "late": "timeout",
    },
    "shell": {"fails": "exit_code", "refused": "secret_refused", "late": "timeout"},
    "transfer": {
        **dict.fromkeys(("no_number", "no_cast", "no_page"), "source_failed"),
        **dict.fromkeys(("no_row", "refused", "no_bucket"), "target_failed"),
        "stranger": "postgres_connection",
    },
    "save": {
        **{f"{storage}_error": "python_error" for storage in SAVES},
        **{f"{storage}_fails": saved.code for storage, saved in SAVES.items()},
    },
}
