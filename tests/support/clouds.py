"""The buckets of two clouds: S3 by moto, and Google Cloud Storage as its JSON interface tells it.

Google's tells tokens for a service account, and takes objects whole. It checks what it is shown as the real one does.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import boto3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from moto.server import ThreadedMotoServer

from executors.contract import Credential
from tests.support.answering import Answer, Asked

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@cache
def _key() -> rsa.RSAPrivateKey:
    """One for all: to make it costs more than a test."""
    return rsa.generate_private_key(65537, 2048)


@dataclass
class GoogleCloud:
    """Its answers are for `answering`. `objects` are by `BUCKET/NAME`.

    There is `bucket`, and `shut`, which `token` does not open.
    """

    bucket: str = "lake"
    token: str = "ya29.the-token-of-the-lake"
    key: rsa.RSAPrivateKey = field(default_factory=_key)
    objects: dict[str, bytes] = field(default_factory=dict)
    scopes: list[str] = field(default_factory=list)
    is_down: bool = False

    def answer(self, asked: Asked) -> Answer:
        """The reply to a request."""
        if self.is_down:
            return Answer({"error": {"code": 503}}, 503)
        if asked.path == "/token":
            return self._grant(asked)
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return Answer({"error": {"code": 401}}, 401)
        match asked.path.split("/"):
            case ["", "upload", "storage", "v1", "b", bucket, "o"] if asked.method == "POST":
                return self._upload(unquote(bucket), asked)
            case ["", "storage", "v1", "b", bucket, "o", name] if asked.method == "GET":
                found = self.objects.get(f"{unquote(bucket)}/{unquote(name)}")
                return Answer({"error": {"code": 404}}, 404) if found is None else Answer(found)
        return Answer({"error": {"code": 400}}, 400)

    def account(self, url: str) -> Credential:
        """A service account, whose tokens and buckets are at this address."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        data = {
            "client_email": "saver@shop.iam.gserviceaccount.com",
            "private_key": pem.decode(),
            "private_key_id": "k1",
            "token_uri": f"{url}/token",
            "endpoint": url,
        }
        return Credential(self.bucket, "google_service_account", data)

    def _upload(self, bucket: str, asked: Asked) -> Answer:
        if bucket != self.bucket:
            return Answer({"error": {"message": self.token}}, 403 if bucket == "shut" else 404)
        if asked.said.get("uploadType") != "media" or not asked.said.get("name"):
            return Answer({"error": {"code": 400}}, 400)
        self.objects[f"{bucket}/{asked.said['name']}"] = asked.body
        return Answer({"bucket": bucket, "name": asked.said["name"], "size": str(len(asked.body))})

    def _grant(self, asked: Asked) -> Answer:
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        signed, _, signature = form["assertion"].rpartition(".")
        try:
            self.key.public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return Answer({"error": "invalid_grant"}, 400)
        claims: dict[str, Any] = json.loads(_decoded(signed.partition(".")[2]))
        if form["grant_type"] != GRANT or not claims["aud"].endswith("/token"):
            return Answer({"error": "invalid_grant"}, 400)
        self.scopes.append(claims["scope"])
        return Answer({"access_token": self.token, "token_type": "Bearer", "expires_in": 3599})


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextmanager
def bucket_of_s3(name: str, access_key_id: str, secret_access_key: str) -> Iterator[str]:
    """The address of moto's S3, with an empty bucket of this name."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key,
        )
        client.create_bucket(Bucket=name)
        yield endpoint
    finally:
        server.stop()
