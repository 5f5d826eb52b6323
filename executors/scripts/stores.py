"""Scripts from object stores, with a stored credential, at addresses that steps may reach."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, urlsplit

from executors.auth.google import token_in, token_request
from executors.contract import ActionFailed
from executors.scripts.places import MAX_BYTES, Asked
from executors.scripts.web import WebScripts
from executors.stores.http_calls import CheckedCalls
from executors.stores.s3_store import DEFAULT_REGION, S3Keys, s3_client
from executors.stores.watching import Watch

GOOGLE: Final = "https://storage.googleapis.com"
READ_ONLY: Final = "https://www.googleapis.com/auth/devstorage.read_only"
CHUNK_BYTES: Final = 65_536


class StoreScripts:
    """Fetches objects of S3 and of Google Cloud Storage."""

    def __init__(self, calls: CheckedCalls, web: WebScripts) -> None:
        self._calls = calls
        self._web = web

    def from_s3(self, asked: Asked) -> bytes:
        """An object at `s3://BUCKET/KEY`, of one more byte than a script may have at most. Raises: `ActionFailed`."""
        bucket, key = _parts(asked, "s3")
        given = asked.credential.data if asked.credential else {}
        keys = S3Keys(
            asked.field("access_key_id", "aws_access_key_id", "key_id"),
            asked.field("secret_access_key", "aws_secret_access_key", "secret_key"),
            given.get("session_token") or None,
            given.get("region") or DEFAULT_REGION,
            given.get("endpoint_url") or given.get("endpoint") or None,
        )
        until = time.monotonic() + asked.seconds
        watch = Watch(until, asked.cancelled)
        try:
            with s3_client("s3", keys, self._calls.policy, watch, asked.unavailable) as client:
                try:
                    reply = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{MAX_BYTES}")
                except client.exceptions.ClientError as error:
                    if error.response.get("Error", {}).get("Code") == "InvalidRange":
                        # An empty object has no first byte.
                        return b""
                    raise
                return _read(watch, reply["Body"].read)
        except ActionFailed as failure:
            raise _told(asked, failure) from None

    def from_google(self, asked: Asked) -> bytes:
        """An object at `gs://BUCKET/NAME`. Raises: `ActionFailed`."""
        bucket, name = _parts(asked, "gs", "gcs")
        given = asked.credential.data if asked.credential else {}
        token = given.get("token") or given.get("access_token") or self._token(asked)
        place = f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}?alt=media"
        headers = {"Authorization": f"Bearer {token}"}
        return self._web.get(asked, (given.get("endpoint") or GOOGLE).rstrip("/") + place, headers)

    def _token(self, asked: Asked) -> str:
        """A token for the service account whose key is the credential."""
        asked.field("client_email")
        asked.field("private_key")
        assert asked.credential is not None
        address, form = token_request(asked.credential, READ_ONLY)
        try:
            reply = self._calls("POST", address, seconds=asked.seconds, cancelled=asked.cancelled, data=form)
        except ActionFailed as failure:
            raise _told(asked, failure) from None
        token = token_in(reply.json()) if 200 <= reply.status < 300 else None
        if token is None:
            raise asked.unavailable(f"the service account was given no token (HTTP {reply.status})")
        return token


def _told(asked: Asked, failure: ActionFailed) -> ActionFailed:
    """A failure in a script's own words."""
    if failure.code == "timeout":
        return ActionFailed("timeout", f"the script {asked.address} did not come within {asked.seconds:g} s")
    return asked.unavailable(failure) if failure.code == "http_connection" else failure


def _parts(asked: Asked, *schemes: str) -> tuple[str, str]:
    parts = urlsplit(asked.address)
    bucket, key = parts.netloc, parts.path.removeprefix("/")
    if parts.scheme not in schemes or not bucket or not key or parts.query or parts.fragment:
        raise ActionFailed("arguments_invalid", f"write the script's place as {schemes[0]}://BUCKET/NAME")
    return bucket, key


def _read(watch: Watch, read: Callable[[int], bytes]) -> bytes:
    """All there is, up to one byte too many, as long as there is time and the job is wanted."""
    data = bytearray()
    while len(data) <= MAX_BYTES and (chunk := read(CHUNK_BYTES)):
        data += chunk
        watch.check()
    return bytes(data)
