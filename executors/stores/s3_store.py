"""An object of S3, and of what speaks its protocol; through boto3 (the extra `aws`).

Its keys are the credential's alone: what boto3 would find on the worker is the worker's, and no step's. Connections go
where steps may connect to: boto3 hands each request over, and it is sent by checked ones.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from urllib3 import Timeout
from urllib3.exceptions import HTTPError

from executors.contract import ActionFailed, Credential
from executors.stores.http_addresses import AddressPolicy
from executors.stores.http_transport import CONNECT_SECONDS, Exchange, checked_manager
from executors.stores.watching import Watch

URL: Final = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)")
DEFAULT_REGION: Final = "us-east-1"
MAX_SECONDS: Final = 60.0
THREADS: Final = 10
"""Of boto3, for one large object."""
TOLD: Final = {
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "there is no such object",
    "404": "there is no such object",
    "AccessDenied": "the credential may not do it",
    "403": "the credential may not do it",
}
"""What the codes of refusals mean; a reply without a body has a number for one."""


@dataclass(frozen=True, slots=True)
class S3Keys:
    """What opens buckets, and where they are: at Amazon's own address when none is told."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = DEFAULT_REGION
    endpoint: str | None = None


def s3_object(url: str, credential: Credential, policy: AddressPolicy, watch: Watch) -> S3Object:
    """The object at `s3://BUCKET/KEY`. Raises: `ActionFailed` (`arguments_invalid`, `credential_invalid`)."""
    found = URL.fullmatch(url)
    if found is None:
        raise ActionFailed("arguments_invalid", f"{url!r} is no place of S3: write s3://BUCKET/KEY")
    fields = credential.data
    if credential.type != "s3" or not (fields.get("access_key_id") and fields.get("secret_access_key")):
        raise ActionFailed("credential_invalid", f"{credential.name!r} is no credential of the type s3 with its keys")
    keys = S3Keys(
        fields["access_key_id"],
        fields["secret_access_key"],
        fields.get("session_token"),
        fields.get("region") or DEFAULT_REGION,
        fields.get("endpoint") or None,
    )
    return S3Object("s3", found["bucket"], found["key"], keys, policy, watch)


class S3Object:
    """One object and the keys to it. `name` is what failures call the store."""

    def __init__(self, name: str, bucket: str, key: str, keys: S3Keys, policy: AddressPolicy, watch: Watch) -> None:
        self._name, self._bucket, self.key = name, bucket, key
        self._keys, self._policy, self._watch = keys, policy, watch

    def download(self, path: Path) -> None:
        """As `objects.StoredObject` has it."""
        with self._client("source_failed") as client:
            client.download_file(self._bucket, self.key, str(path), Callback=self._look)
            # A connection that was shut may look like the end of the object.
            self._watch.check()

    def upload(self, path: Path) -> None:
        """As `objects.StoredObject` has it."""
        with self._client("target_failed") as client:
            client.upload_file(str(path), self._bucket, self.key, Callback=self._look)

    def _look(self, _: int) -> None:
        self._watch.check()

    def _client(self, code: str) -> contextlib.AbstractContextManager[Any]:
        def failed(told: str) -> ActionFailed:
            return ActionFailed(code, f"{self._name}: {self.key!r} of {self._bucket!r}: {told}")

        return s3_client(self._name, self._keys, self._policy, self._watch, failed)


@contextlib.contextmanager
def s3_client(
    name: str, keys: S3Keys, policy: AddressPolicy, watch: Watch, failed: Callable[[str], ActionFailed]
) -> Iterator[Any]:
    """A client of boto3's, as long as the context; `failed` makes the failure of what is told of an error in it.

    Raises: `ActionFailed`, also `extra_missing`, `http_connection` for a refused address, `timeout` and `cancelled`.
    """
    watch.check()
    try:
        import boto3
        from boto3.exceptions import Boto3Error
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise ActionFailed("extra_missing", f"{name} needs boto3, which this worker lacks: pip install boto3") from None
    # Others than Amazon may not know the checksums that are sent unasked.
    checksums = "when_required" if keys.endpoint else "when_supported"
    config = Config(
        retries={"total_max_attempts": 2},
        ignore_configured_endpoint_urls=True,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )
    try:
        client = boto3.session.Session().client(
            "s3",
            region_name=keys.region,
            endpoint_url=keys.endpoint,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
            aws_session_token=keys.session_token,
            config=config,
        )
        with contextlib.closing(_Sender(name, policy, watch)) as sender:
            client.meta.events.register("before-send.s3", sender)
            yield client
    except (ClientError, BotoCoreError, Boto3Error, OSError, ValueError) as error:
        watch.check()
        # boto3 wraps what was answered to an upload in an error of its own.
        cause = error.__context__ if isinstance(error.__context__, ClientError) else error
        told = str(getattr(cause, "response", {}).get("Error", {}).get("Code", "")) or type(error).__name__
        raise failed(TOLD.get(told, told)) from None


class _Sender:
    """Sends what boto3 has signed, over connections that are checked."""

    def __init__(self, name: str, policy: AddressPolicy, watch: Watch) -> None:
        from botocore.awsrequest import AWSHTTPConnection, AWSHTTPSConnection

        self._name, self._watch = name, watch
        # botocore's own classes wait for the word to go on before they send a large body.
        self._manager = checked_manager(policy, AWSHTTPConnection, AWSHTTPSConnection, THREADS)
        self._bodies: dict[int, Exchange] = {}
        """By thread what it reads from: each of boto3's reads one reply after another."""

    def __call__(self, request: Any, **_: Any) -> Any:
        """The reply, in botocore's form. Raises: `ActionFailed`, `BotoCoreError`."""
        from botocore.exceptions import EndpointConnectionError

        self._end_body(threading.get_ident())
        exchange = Exchange(self._watch.deadline, self._watch.cancelled)
        try:
            with exchange:
                reply = self._send(request)
                exchange.check()
                if request.stream_output:
                    self._bodies[threading.get_ident()] = exchange
                    exchange.go_on()
            return reply
        except (HTTPError, OSError) as error:
            self._watch.check()
            if exchange.refusal:
                raise ActionFailed("http_connection", f"{self._name}: {exchange.refusal}") from None
            raise EndpointConnectionError(endpoint_url=urlsplit(request.url).netloc, error=error) from None

    def close(self) -> None:
        """Close its connections."""
        for thread in list(self._bodies):
            self._end_body(thread)
        self._manager.clear()

    def _end_body(self, thread: int) -> None:
        if (exchange := self._bodies.pop(thread, None)) is not None:
            exchange.end()

    def _send(self, request: Any) -> Any:
        from botocore.awsrequest import AWSResponse

        parts = urlsplit(request.url)
        seconds = min(MAX_SECONDS, self._watch.seconds_left)
        reply = self._manager.connection_from_url(request.url).urlopen(
            request.method,
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            body=request.body,
            headers=request.headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds),
            preload_content=False,
            decode_content=False,
            chunked=request.headers.get("Transfer-Encoding") in ("chunked", b"chunked"),
        )
        answer = AWSResponse(request.url, reply.status, reply.headers, reply)
        if not request.stream_output:
            # Now, while its time is watched.
            _ = answer.content
        return answer
