"""An object of Google Cloud Storage, over its JSON interface; with an HMAC key over the one that speaks as S3 does.

The token is the credential's, or is asked for with its service account's key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from executors.auth.google import token_in, token_request
from executors.contract import ActionFailed, Credential
from executors.stores.http_calls import CheckedCalls, Reply
from executors.stores.objects import StoredObject
from executors.stores.s3_store import S3Keys, S3Object
from executors.stores.watching import Watch

URL: Final = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<key>.+)")
ENDPOINT: Final = "https://storage.googleapis.com"
SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_write"
HMAC: Final = "gcs"
TOKENS: Final = frozenset({"google_service_account", "token", "bearer", "oauth"})
"""Types of credentials that have a token, or are given one."""
HMAC_REGION: Final = "auto"
TOLD: Final = {401: "the credential is not accepted", 403: "the credential may not do it"}

KeepSecret = Callable[[Iterable[str]], None]


def gcs_object(
    url: str, credential: Credential, calls: CheckedCalls, watch: Watch, keep_secret: KeepSecret
) -> StoredObject:
    """The object at `gs://BUCKET/NAME`. `keep_secret` is told of tokens.

    Raises: `ActionFailed` (`arguments_invalid`, `credential_invalid`).
    """
    found = URL.fullmatch(url)
    if found is None:
        raise ActionFailed("arguments_invalid", f"{url!r} is no place of Google Cloud Storage: write gs://BUCKET/NAME")
    bucket, key, fields = found["bucket"], found["key"], credential.data
    if credential.type == HMAC and fields.get("key_id") and fields.get("secret_key"):
        keys = S3Keys(
            fields["key_id"],
            fields["secret_key"],
            region=fields.get("region") or HMAC_REGION,
            endpoint=fields.get("endpoint") or ENDPOINT,
        )
        return S3Object("gcs", bucket, key, keys, calls.policy, watch)
    if credential.type not in TOKENS or not (fields.get("private_key") or fields.get("token")):
        message = f"{credential.name!r} is no credential of a service account, of a token, or of the type gcs"
        raise ActionFailed("credential_invalid", message)
    return GcsObject(bucket, key, credential, calls, watch, keep_secret)


class GcsObject:
    """One object and the credential for it, which has a token or a service account's key."""

    def __init__(
        self,
        bucket: str,
        key: str,
        credential: Credential,
        calls: CheckedCalls,
        watch: Watch,
        keep_secret: KeepSecret,
    ) -> None:
        self._bucket, self.key = bucket, key
        self._credential, self._calls = credential, calls
        self._watch, self._keep_secret = watch, keep_secret
        self._endpoint = (credential.data.get("endpoint") or ENDPOINT).rstrip("/")

    def download(self, path: Path) -> None:
        """As `objects.StoredObject` has it."""
        place = f"/storage/v1/b/{quote(self._bucket, safe='')}/o/{quote(self.key, safe='')}"
        with path.open("wb") as file:
            self._ask("source_failed", "GET", place, {"alt": "media"}, into=file)

    def upload(self, path: Path) -> None:
        """As `objects.StoredObject` has it."""
        place = f"/upload/storage/v1/b/{quote(self._bucket, safe='')}/o"
        asked = {"uploadType": "media", "name": self.key}
        headers = {"Content-Type": "application/octet-stream"}
        with path.open("rb") as file:
            # Of an empty file the length would not be told.
            body: Any = file if path.stat().st_size else b""
            self._ask("target_failed", "POST", place, asked, headers=headers, data=body)

    def _ask(self, code: str, method: str, place: str, asked: dict[str, str], **options: Any) -> None:
        headers = {**options.pop("headers", {}), "Authorization": f"Bearer {self._token()}"}
        reply = self._send(method, self._endpoint + place, params=asked, headers=headers, **options)
        if not 200 <= reply.status < 300:
            missing = "bucket" if code == "target_failed" else "object"
            told = {**TOLD, 404: f"there is no such {missing}"}.get(reply.status, f"HTTP {reply.status}")
            raise ActionFailed(code, f"gcs: {self.key!r} of {self._bucket!r}: {told}")

    def _token(self) -> str:
        data = self._credential.data
        if not data.get("private_key"):
            return data["token"]
        address, form = token_request(self._credential, SCOPE)
        self._keep_secret([form["assertion"]])
        reply = self._send("POST", address, data=form)
        token = token_in(reply.json()) if 200 <= reply.status < 300 else None
        if token is None:
            message = f"gcs: the service account of {self._credential.name!r} was given no token (HTTP {reply.status})"
            raise ActionFailed("token_refused", message)
        self._keep_secret([token])
        return token

    def _send(self, method: str, url: str, **options: Any) -> Reply:
        self._watch.check()
        try:
            return self._calls(
                method, url, seconds=self._watch.seconds_left, cancelled=self._watch.cancelled, **options
            )
        except ActionFailed as failure:
            self._watch.check()
            raise ActionFailed(failure.code, f"gcs: {failure}") from None
