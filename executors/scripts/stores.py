"""Scripts from object stores, with a stored credential. Their libraries are imported when they are used."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlsplit

import requests

from executors.contract import ActionFailed
from executors.scripts.places import MAX_BYTES, Asked, extra_missing

CONNECT_SECONDS: Final = 10.0
GOOGLE: Final = "https://storage.googleapis.com"
TOKENS: Final = "https://oauth2.googleapis.com/token"
READ_ONLY: Final = "https://www.googleapis.com/auth/devstorage.read_only"
CHUNK_BYTES: Final = 65_536


def from_s3(asked: Asked) -> bytes:
    """An object at `s3://BUCKET/KEY`, of one more byte than a script may have at most. Raises: `ActionFailed`."""
    bucket, key = _parts(asked, "s3")
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise extra_missing("s3", "aws", "boto3") from None
    given = asked.credential.data if asked.credential else {}
    until = time.monotonic() + asked.seconds
    patience = Config(
        connect_timeout=min(CONNECT_SECONDS, asked.seconds),
        read_timeout=min(CONNECT_SECONDS, asked.seconds),
        retries={"total_max_attempts": 2},
    )
    try:
        # With the credential's keys: boto3 would look for others in the worker's files and environment.
        client = boto3.Session(
            aws_access_key_id=asked.field("access_key_id", "aws_access_key_id", "key_id"),
            aws_secret_access_key=asked.field("secret_access_key", "aws_secret_access_key", "secret_key"),
            aws_session_token=given.get("session_token") or None,
            region_name=given.get("region") or "us-east-1",
        ).client("s3", endpoint_url=given.get("endpoint_url") or given.get("endpoint") or None, config=patience)
        reply = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{MAX_BYTES}")
        return _read(asked, until, reply["Body"].read)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "InvalidRange":
            # An empty object has no first byte.
            return b""
        raise asked.unavailable(error) from None
    except (BotoCoreError, OSError, ValueError) as error:
        raise asked.unavailable(error) from None


def from_google(asked: Asked) -> bytes:
    """An object at `gs://BUCKET/NAME`, of one more byte than a script may have at most. Raises: `ActionFailed`."""
    bucket, name = _parts(asked, "gs", "gcs")
    token = asked.field("token", "access_token") if _has_token(asked) else None
    headers = {"Authorization": f"Bearer {token or _google_token(asked)}"}
    given = asked.credential.data if asked.credential else {}
    address = f"{given.get('endpoint') or GOOGLE}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
    until = time.monotonic() + asked.seconds
    try:
        with requests.Session() as session:
            # Nothing of this machine's proxies and netrc.
            session.trust_env = False
            patience = min(CONNECT_SECONDS, asked.seconds)
            reply = session.get(
                address,
                params={"alt": "media"},
                headers=headers,
                timeout=(patience, patience),
                stream=True,
                allow_redirects=False,
            )
            with reply:
                if reply.status_code != 200:
                    raise asked.unavailable(f"the store answered {reply.status_code} {reply.reason}")
                return _read(asked, until, lambda size: reply.raw.read(size, decode_content=True))
    except (requests.RequestException, OSError, ValueError) as error:
        raise asked.unavailable(error) from None


def _has_token(asked: Asked) -> bool:
    return asked.credential is not None and any(asked.credential.data.get(name) for name in ("token", "access_token"))


def _google_token(asked: Asked) -> str:
    """A token for the service account whose key is the credential."""
    try:
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request
        from google.oauth2 import service_account
    except ImportError:
        raise extra_missing("gcs", "google", "google-auth") from None
    account: Any = service_account.Credentials
    info = {
        "client_email": asked.field("client_email"),
        "private_key": asked.field("private_key"),
        "token_uri": (asked.credential.data if asked.credential else {}).get("token_uri") or TOKENS,
    }
    try:
        credentials = account.from_service_account_info(info, scopes=[READ_ONLY])
        credentials.refresh(Request())
    except (GoogleAuthError, ValueError, KeyError, TypeError) as error:
        raise asked.unavailable(type(error).__name__) from None
    return str(credentials.token)


def _parts(asked: Asked, *schemes: str) -> tuple[str, str]:
    parts = urlsplit(asked.address)
    bucket, key = parts.netloc, parts.path.removeprefix("/")
    if parts.scheme not in schemes or not bucket or not key or parts.query or parts.fragment:
        raise ActionFailed("arguments_invalid", f"write the script's place as {schemes[0]}://BUCKET/NAME")
    return bucket, key


def _read(asked: Asked, until: float, read: Callable[[int], bytes]) -> bytes:
    """All there is, up to one byte too many, as long as there is time and the job is wanted."""
    data = bytearray()
    while len(data) <= MAX_BYTES and (chunk := read(CHUNK_BYTES)):
        data += chunk
        if asked.cancelled.is_set():
            raise ActionFailed("cancelled", "stopped because the job was cancelled")
        if time.monotonic() >= until:
            raise ActionFailed("timeout", f"the script {asked.address} did not come within {asked.seconds:g} s")
    return bytes(data)
