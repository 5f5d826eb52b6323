"""The `secrets` kind against servers that speak the providers' protocols. Source: reference 7.6."""

from __future__ import annotations

import builtins
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from executors.actions.secrets import SecretsAction
from executors.contract import ActionFailed, ActionRequest, Credential, Outcome
from executors.errors import CredentialNotFound
from executors.running import Lent, run_action
from executors.stores.http_calls import CheckedCalls
from tests.support.vaults import Vaults, serving

VALUE = "th3-kept-s3cret"
SECRETS = {"db": VALUE, "pair": "p4ir-s3cret", "deep/er": "d33p-s3cret"}


@pytest.fixture(scope="module")
def vaults() -> Iterator[Vaults]:
    with serving(SECRETS) as found:
        yield found


@pytest.fixture
def stored(vaults: Vaults) -> dict[str, Credential]:
    key_file = {
        "client_email": "shop@example",
        "private_key": vaults.private_key,
        "project_id": "shop",
        "token_uri": f"{vaults.url}/google/token",
    }
    client = {"client_id": "c", "client_secret": vaults.client_secret}
    made = [
        Credential("vault", "vault", {"token": vaults.token, "address": f"{vaults.url}/vault"}),
        Credential("role", "vault", {"role_id": "the-role", "secret_id": vaults.client_secret}),
        Credential("wrong", "bearer", {"token": "wr0ng-t0ken"}),
        Credential("bearer", "bearer", {"access_token": vaults.token}),
        Credential("key", "googleServiceAccount", {"json": json.dumps(key_file)}),
        Credential("client", "oauth", {**client, "token_url": f"{vaults.url}/azure/token"}),
        Credential("untold", "oauth", client),
        Credential("basic", "basic", {"username": "u", "password": "b4sic-p4ss"}),
        Credential("aws", "s3", {"key_id": "AKIA", "secret_key": "4ws-s3cret", "region": "eu-west-1"}),
        Credential("one", "generic", {"value": VALUE, "other": "0ther-s3cret"}),
    ]
    return {credential.name: credential for credential in made}


@pytest.fixture
def action(tmp_path: Path) -> SecretsAction:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "db").write_text(f"{VALUE}\n")
    (tmp_path / "outside").write_text("0utside")
    (tmp_path / "secrets" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "secrets" / "large").write_text("x" * 300_000)
    return SecretsAction(CheckedCalls(["127.0.0.0/8"]), tmp_path / "secrets")


def lend(stored: dict[str, Credential]) -> Lent:
    def resolve(name: str) -> Credential:
        if name not in stored:
            raise CredentialNotFound(name)
        return stored[name]

    return Lent(Path(), Event(), resolve)


def run(action: SecretsAction, stored: dict[str, Credential], arguments: dict[str, Any]) -> Outcome:
    request = ActionRequest("secrets", arguments, {}, "1", "1:s", "s", 1, "1:s", 20)
    return run_action({"secrets": action}, request, lend(stored))


def asks(provider: str, vaults: Vaults, **more: Any) -> dict[str, Any]:
    return {"provider": provider, "secret_name": "db", **more}


CASES: list[tuple[dict[str, Any], str]] = [
    ({"provider": "vault", "secret_name": "kv/db", "auth": "vault"}, "7"),
    ({"provider": "vault", "secret_name": "kv/db", "auth": "vault", "version": 3}, "3"),
    ({"provider": "vault", "secret_name": "kv/db", "auth": "role", "api_endpoint": "URL/vault"}, "7"),
    ({"provider": "vault", "secret_name": "kv/db", "auth": "bearer", "api_endpoint": "URL/vault/v1"}, "7"),
    ({"provider": "google", "secret_name": "db", "auth": "key", "api_endpoint": "URL/google"}, "12"),
    (
        {
            "provider": "google",
            "secret_name": "projects/shop/secrets/db/versions/4",
            "auth": "bearer",
            "api_endpoint": "URL/google",
        },
        "4",
    ),
    (
        {
            "provider": "google",
            "secret_name": "db",
            "project_id": "shop",
            "auth": "bearer",
            "api_endpoint": "URL/google",
        },
        "12",
    ),
    ({"provider": "azure", "secret_name": "db", "auth": "client", "api_endpoint": "URL/azure"}, "abc123"),
    ({"provider": "azure", "secret_name": "db", "auth": "bearer", "version": "9f", "api_endpoint": "URL/azure"}, "9f"),
    ({"provider": "env", "secret_name": "shop_db"}, ""),
    ({"provider": "file", "secret_name": "db"}, ""),
    ({"provider": "credential", "secret_name": "one"}, ""),
    ({"provider": "custom", "secret_name": "db", "auth": "bearer", "api_endpoint": "URL/own"}, "v-latest"),
    (
        {
            "provider": "custom",
            "secret_name": "db",
            "version": "5",
            "auth": {"method": "POST", "headers": {"X-Own-Token": "TOKEN"}, "payload": {"more": 1}},
            "api_endpoint": "URL/own",
        },
        "v-5",
    ),
    (
        {
            "provider": "custom",
            "secret_name": "db",
            "auth": {"headers": {"X-Own-Token": "TOKEN"}, "params": {"as": "text"}},
            "api_endpoint": "URL/own",
        },
        "",
    ),
]


def filled(value: Any, vaults: Vaults) -> Any:
    return json.loads(json.dumps(value).replace("URL", vaults.url).replace("TOKEN", vaults.token))


@pytest.mark.parametrize(("arguments", "version"), CASES)
def test_a_secret_is_fetched_and_never_given(
    action: SecretsAction,
    vaults: Vaults,
    stored: dict[str, Credential],
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    version: str,
) -> None:
    monkeypatch.setenv("NOETL_SECRET_SHOP_DB", VALUE)
    asked = filled(arguments, vaults)
    outcome = run(action, stored, asked)
    assert (outcome.code, outcome.message, outcome.data) == (
        "",
        "",
        {"provider": arguments["provider"], "version": version},
    )
    context = lend(stored)
    assert action.fetch(asked, context, 20) == VALUE
    assert context.hide(f"<{VALUE}>") == "<***>"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"provider": "vault", "secret_name": "kv/absent", "auth": "vault"}, "secret_not_found"),
        (
            {"provider": "vault", "secret_name": "kv/db", "auth": "wrong", "api_endpoint": "URL/vault"},
            "secret_forbidden",
        ),
        ({"provider": "vault", "secret_name": "kv/pair", "auth": "vault"}, "arguments_invalid"),
        ({"provider": "vault", "secret_name": "kv/pair", "auth": "vault", "field": "no"}, "secret_not_found"),
        ({"provider": "vault", "secret_name": "kv/../x", "auth": "vault"}, "arguments_invalid"),
        ({"provider": "vault", "secret_name": "../kv/x", "auth": "vault"}, "arguments_invalid"),
        ({"provider": "vault", "secret_name": "kv/db", "auth": "absent"}, "credential_not_found"),
        ({"provider": "vault", "secret_name": "kv/db", "api_endpoint": "URL/vault"}, "secret_forbidden"),
        ({"provider": "vault", "secret_name": "kv/db", "auth": "basic", "api_endpoint": "URL"}, "credential_invalid"),
        (
            {"provider": "google", "secret_name": "absent", "auth": "key", "api_endpoint": "URL/google"},
            "secret_not_found",
        ),
        ({"provider": "google", "secret_name": "a/b", "auth": "key"}, "arguments_invalid"),
        (
            {
                "provider": "google",
                "secret_name": "db",
                "project_id": "shop",
                "auth": "wrong",
                "api_endpoint": "URL/google",
            },
            "secret_forbidden",
        ),
        (
            {"provider": "google", "secret_name": "db", "auth": "bearer", "api_endpoint": "URL/google"},
            "arguments_invalid",
        ),
        (
            {"provider": "azure", "secret_name": "absent", "auth": "client", "api_endpoint": "URL/azure"},
            "secret_not_found",
        ),
        ({"provider": "azure", "secret_name": "db", "auth": "untold", "api_endpoint": "URL/azure"}, "secret_forbidden"),
        ({"provider": "azure", "secret_name": "db", "auth": "client"}, "arguments_invalid"),
        ({"provider": "azure", "secret_name": "db", "vault_name": "a.evil/x"}, "arguments_invalid"),
        ({"provider": "env", "secret_name": "PATH"}, "secret_not_found"),
        ({"provider": "file", "secret_name": "absent"}, "secret_not_found"),
        ({"provider": "file", "secret_name": "../outside"}, "secret_not_found"),
        ({"provider": "file", "secret_name": "link"}, "secret_not_found"),
        ({"provider": "file", "secret_name": "/etc/passwd"}, "secret_not_found"),
        ({"provider": "file", "secret_name": "large"}, "secret_not_found"),
        ({"provider": "file", "secret_name": "a\u0000b"}, "secret_not_found"),
        ({"provider": "credential", "secret_name": "absent"}, "secret_not_found"),
        (
            {"provider": "custom", "secret_name": "absent", "auth": "bearer", "api_endpoint": "URL/own"},
            "secret_not_found",
        ),
        ({"provider": "custom", "secret_name": "db", "auth": "wrong", "api_endpoint": "URL/own"}, "secret_forbidden"),
        ({"provider": "custom", "secret_name": "db"}, "arguments_invalid"),
        ({"provider": "custom", "secret_name": "db", "api_endpoint": "file:///etc/passwd"}, "arguments_invalid"),
        (
            {"provider": "custom", "secret_name": "db", "api_endpoint": "http://169.254.169.254/"},
            "secret_provider_failed",
        ),
        ({"provider": "aws", "secret_name": "db", "api_endpoint": "http://127.0.0.1/"}, "arguments_invalid"),
        ({"provider": "lastpass", "secret_name": "db"}, "arguments_invalid"),
        ({"provider": "env", "secret_name": ""}, "arguments_invalid"),
    ],
)
def test_a_secret_that_cannot_be_had_is_an_error(
    action: SecretsAction, vaults: Vaults, stored: dict[str, Credential], arguments: dict[str, Any], code: str
) -> None:
    outcome = run(action, stored, filled(arguments, vaults))
    assert (outcome.status, outcome.code, outcome.data) == ("error", code, None)
    for secret in (VALUE, vaults.token, vaults.client_secret, "wr0ng-t0ken", "p4ir-s3cret", "b4sic-p4ss"):
        assert secret not in outcome.message


def test_without_a_folder_no_file_is_read(stored: dict[str, Credential]) -> None:
    outcome = run(SecretsAction(CheckedCalls()), stored, {"provider": "file", "secret_name": "db"})
    assert outcome.code == "secret_forbidden"


def test_a_private_address_must_be_allowed(vaults: Vaults, stored: dict[str, Credential]) -> None:
    asked = {"provider": "custom", "secret_name": "db", "auth": "bearer", "api_endpoint": f"{vaults.url}/own"}
    outcome = run(SecretsAction(CheckedCalls()), stored, asked)
    assert outcome.code == "secret_provider_failed"
    assert "NOETL_HTTP_ALLOWED_NETWORKS" in outcome.message


@pytest.mark.parametrize(
    ("provider", "field", "value"), [("vault", "password", "p4ir-s3cret"), ("credential", "other", "0ther-s3cret")]
)
def test_one_of_several_fields_can_be_named(
    action: SecretsAction, stored: dict[str, Credential], provider: str, field: str, value: str
) -> None:
    name = {"vault": "kv/pair", "credential": "one"}[provider]
    asked = {"provider": provider, "secret_name": name, "field": field, "auth": "vault"}
    assert action.fetch(asked, lend(stored), 20) == value


def test_what_a_custom_provider_answers(action: SecretsAction, vaults: Vaults, stored: dict[str, Credential]) -> None:
    def asked(form: str) -> dict[str, Any]:
        auth = {"headers": {"X-Own-Token": vaults.token}, "params": {"as": form}}
        return {"provider": "custom", "secret_name": "db", "api_endpoint": f"{vaults.url}/own", "auth": auth}

    assert json.loads(action.fetch(asked("map"), lend(stored), 20)) == {"user": "ada", "password": VALUE}
    assert action.fetch(asked("text"), lend(stored), 20) == VALUE
    outcome = run(action, stored, asked("null"))
    assert outcome.code == "secret_not_found", "nothing is no secret, and neither is the reply around it"


def test_googles_project_may_be_the_workers(
    action: SecretsAction, vaults: Vaults, stored: dict[str, Credential], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop")
    asked = {"provider": "google", "secret_name": "db", "auth": "bearer", "api_endpoint": f"{vaults.url}/google"}
    assert action.fetch(asked, lend(stored), 20) == VALUE
    assert vaults.asked[-1].startswith("GET /google/v1/projects/shop/secrets/db/")


def test_a_secret_comes_within_the_time_of_the_step_that_uses_it(
    action: SecretsAction, vaults: Vaults, stored: dict[str, Credential]
) -> None:
    asked = {"provider": "custom", "secret_name": "db", "auth": "bearer", "timeout": 1e300}
    assert action.fetch({**asked, "api_endpoint": f"{vaults.url}/own"}, lend(stored), 20) == VALUE
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ActionFailed) as caught:
        action.fetch({**asked, "api_endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}"}, lend(stored), 0.3)
    assert caught.value.code == "secret_provider_failed" and "no complete reply" in str(caught.value)


def test_an_azure_challenge_sends_the_clients_secret_nowhere_else(
    action: SecretsAction, vaults: Vaults, stored: dict[str, Credential]
) -> None:
    vaults.asked.clear()
    run(
        action,
        stored,
        {"provider": "azure", "secret_name": "db", "auth": "untold", "api_endpoint": f"{vaults.url}/azure"},
    )
    assert vaults.asked == ["GET /azure/secrets/db"]


# -- aws ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def at_aws(aws: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    client = boto3.client("secretsmanager", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    name = f"db-{len(client.list_secrets()['SecretList'])}"
    client.create_secret(Name=name, SecretString="0ld-s3cret")
    client.put_secret_value(SecretId=name, SecretString=VALUE)
    client.create_secret(Name=f"{name}-json", SecretString=json.dumps({"user": "ada", "password": VALUE}))
    client.create_secret(Name=f"{name}-raw", SecretBinary=VALUE.encode())
    return name


@pytest.mark.parametrize("suffix", ["", "-raw"])
def test_aws_gives_its_newest_version(
    action: SecretsAction, stored: dict[str, Credential], at_aws: str, suffix: str
) -> None:
    asked = {"provider": "aws", "secret_name": at_aws + suffix, "auth": "aws"}
    outcome = run(action, stored, asked)
    assert outcome.status == "success", outcome.message
    assert len(outcome.data["version"]) >= 32
    assert action.fetch(asked, lend(stored), 20) == VALUE
    assert action.fetch({**asked, "version": outcome.data["version"]}, lend(stored), 20) == VALUE


def test_aws_gives_a_stage_and_a_field(action: SecretsAction, stored: dict[str, Credential], at_aws: str) -> None:
    old = {"provider": "aws", "secret_name": at_aws, "version": "AWSPREVIOUS", "auth": "aws", "region": "eu-west-1"}
    assert action.fetch(old, lend(stored), 20) == "0ld-s3cret"
    field = {"provider": "aws", "secret_name": f"{at_aws}-json", "field": "password", "auth": "aws"}
    assert action.fetch(field, lend(stored), 20) == VALUE


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"secret_name": "absent", "auth": "aws"}, "secret_not_found"),
        ({"secret_name": "absent", "auth": "basic"}, "credential_invalid"),
        ({"secret_name": "absent"}, "secret_provider_failed"),
    ],
)
def test_aws_refuses(
    action: SecretsAction, stored: dict[str, Credential], at_aws: str, more: dict[str, Any], code: str
) -> None:
    assert run(action, stored, {"provider": "aws", **more}).code == code


# -- extras ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "package", "module"),
    [
        ("aws", "boto3", "boto3"),
        ("google", "google-auth", "google.auth"),
        ("azure", "azure-identity", "azure.identity"),
    ],
)
def test_the_message_names_the_extra_to_install(
    action: SecretsAction,
    vaults: Vaults,
    stored: dict[str, Credential],
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    package: str,
    module: str,
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == module or name.startswith(f"{module}."):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    more = {"api_endpoint": f"{vaults.url}/azure"} if provider == "azure" else {}
    outcome = run(action, stored, {"provider": provider, "secret_name": "db", "project_id": "shop", **more})
    assert outcome.code == "extra_missing"
    assert f"pip install {package}" in outcome.message


def test_no_extra_is_imported_before_it_is_used(tmp_path: Path) -> None:
    code = (
        "import django, os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'noetl_site.settings'; django.setup();"
        "import executors.registry; print([m for m in ('boto3', 'google.auth', 'azure.identity') if m in sys.modules])"
    )
    env = {**os.environ, "NOETL_DATA_DIR": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert told.stdout.strip() == "[]"


def test_nothing_is_logged(
    action: SecretsAction, vaults: Vaults, stored: dict[str, Credential], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for arguments, _ in CASES:
        run(action, stored, filled(arguments, vaults))
    for secret in (VALUE, vaults.token, vaults.client_secret):
        assert secret not in caplog.text


def test_arguments_that_are_no_credential_are_refused_elsewhere(
    action: SecretsAction, stored: dict[str, Credential]
) -> None:
    with pytest.raises(ActionFailed, match="takes a credential"):
        action.fetch({"provider": "google", "secret_name": "db", "auth": {"headers": {"a": "b"}}}, lend(stored), 20)
