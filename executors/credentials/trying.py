"""Trying whether a credential works: a real connection, by its type.

Knows how each type is shown to what it is for; nothing of rows. What is told of a failure shows no secret.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Final, Literal

import psycopg

from executors.actions.secrets import Asked, SecretsArguments, token_of_key, vault_token_of
from executors.auth import canonical
from executors.contract import ActionFailed, Credential
from executors.running import Lent
from executors.sandbox.rows import RowBudget
from executors.stores.http_calls import CheckedCalls, headers_of
from executors.stores.postgres_session import KeptRows, Session, StatementFailed
from executors.stores.postgres_target import target_of

SECONDS: Final = 15.0
BY_HEADER: Final = frozenset({"bearer", "basic", "api_key", "header", "token"})
GCS_ENDPOINT: Final = "https://storage.googleapis.com"


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it. `untested`: it could be read, and there is nothing to connect to."""

    status: Literal["ok", "failed", "untested"]
    message: str


def try_credential(credential: Credential, url: str | None, allowed_networks: tuple[str, ...] = ()) -> Trial:
    """Connect with the credential; `url` is where the types are shown that are headers of HTTP."""
    lent = Lent(Path("/nowhere"), Event(), lambda name: credential)
    shown = canonical(credential)
    lent.keep_secret(shown.secret_texts())
    try:
        try:
            told = _try(shown, url, lent, CheckedCalls(allowed_networks))
        except ActionFailed as failure:
            told = Trial("failed", str(failure))
        return Trial(told.status, str(lent.hide(told.message)))
    finally:
        lent.secrets.forget()


def _try(credential: Credential, url: str | None, lent: Lent, calls: CheckedCalls) -> Trial:
    match credential.type:
        case "postgres":
            return _try_postgres(credential)
        case "s3" | "gcs":
            return _try_buckets(credential)
        case "google_service_account":
            token_of_key(_asking("google", lent, calls), credential)
            return Trial("ok", "the service account was given a token")
        case "vault":
            return _try_vault(credential, lent, calls)
        case "oauth" if not credential.data.get("token"):
            return _try_oauth(credential, lent, calls)
        case "oauth":
            return _try_header(credential, url, lent, calls)
        case type_ if type_ in BY_HEADER:
            return _try_header(credential, url, lent, calls)
    return Trial("untested", f"it can be read; of the type {credential.type!r} there is nothing to connect to")


def _try_postgres(credential: Credential) -> Trial:
    rows = KeptRows(RowBudget())
    deadline = time.monotonic() + SECONDS
    try:
        session = Session(target_of(credential, {}).options, deadline)
        try:
            session.begin(deadline, Event())
            session.run("SHOW server_version", rows=rows)
        finally:
            session.close()
    except (psycopg.Error, UnicodeError, StatementFailed) as error:
        return Trial("failed", str(error).strip())
    return Trial("ok", f"PostgreSQL {rows.result()['rows'][0]['server_version']} answers")


def _try_buckets(credential: Credential) -> Trial:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return Trial("failed", "to try it boto3 is needed, which is not installed: pip install boto3")
    data = credential.data
    endpoint = data.get("endpoint") or (GCS_ENDPOINT if data.get("service") == "gcs" else None)
    config = Config(connect_timeout=SECONDS, read_timeout=SECONDS, retries={"total_max_attempts": 1})
    try:
        client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=data.get("region") or "us-east-1",
            aws_access_key_id=data.get("access_key_id") or data.get("key_id"),
            aws_secret_access_key=data.get("secret_access_key") or data.get("secret_key"),
            aws_session_token=data.get("session_token"),
            config=config,
        )
        count = len(client.list_buckets().get("Buckets", ()))
    except ClientError as error:
        return Trial("failed", f"refused: {error.response.get('Error', {}).get('Code', '')}")
    except (BotoCoreError, ValueError) as error:
        return Trial("failed", f"{type(error).__name__}: {error}")
    return Trial("ok", f"{count} buckets are seen")


def _try_vault(credential: Credential, lent: Lent, calls: CheckedCalls) -> Trial:
    address = credential.data.get("address")
    if not address:
        return Trial("untested", "it can be read; it names no address to connect to")
    asked = _asking("vault", lent, calls)
    base = f"{address.rstrip('/').removesuffix('/v1')}/v1"
    headers = {"X-Vault-Request": "true"}
    token = vault_token_of(asked, base, headers, credential)
    asked.answer("GET", f"{base}/auth/token/lookup-self", headers={**headers, "X-Vault-Token": token})
    return Trial("ok", "the vault knows the token")


def _try_oauth(credential: Credential, lent: Lent, calls: CheckedCalls) -> Trial:
    data = credential.data
    if not data.get("token_url"):
        return Trial("untested", "it can be read; it names no token_url to ask")
    grant = {name: data[name] for name in ("client_id", "client_secret", "refresh_token") if data.get(name)}
    grant["grant_type"] = "refresh_token" if data.get("refresh_token") else "client_credentials"
    told = _asking("custom", lent, calls).answer("POST", data["token_url"], data=grant).json()
    if not isinstance(told, Mapping) or not told.get("access_token"):
        return Trial("failed", "the reply holds no access_token")
    return Trial("ok", "a token was given")


def _try_header(credential: Credential, url: str | None, lent: Lent, calls: CheckedCalls) -> Trial:
    if not url:
        return Trial("untested", "it can be read; say with a url (or meta.test_url) where it is to be shown")
    reply = _asking("custom", lent, calls).call("GET", url, headers=headers_of(credential))
    if reply.status in (401, 403):
        return Trial("failed", f"refused: HTTP {reply.status}")
    if reply.status >= 400:
        return Trial("failed", f"not told whether it is right: HTTP {reply.status}")
    return Trial("ok", f"HTTP {reply.status}")


def _asking(provider: str, lent: Lent, calls: CheckedCalls) -> Asked:
    """What the protocols of the providers are spoken with."""
    endpoint = "https://nowhere.invalid" if provider == "custom" else None
    arguments = SecretsArguments.check({"provider": provider, "secret_name": "(test)", "api_endpoint": endpoint})
    return Asked(arguments, lent, calls, None, time.monotonic() + SECONDS)
