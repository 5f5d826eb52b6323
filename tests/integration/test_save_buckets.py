"""The storages `s3` and `gcs`: moto's S3, and a local server that speaks Google's JSON interface."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import boto3
import pytest

from executors.contract import Credential
from executors.stores import http_transport
from tests.support.answering import Answer, Server, answering
from tests.support.certificates import self_signed
from tests.support.clouds import GoogleCloud, bucket_of_s3
from tests.support.file_saves import Saves, parquet_rows

KEYS: Final = {"access_key_id": "an-id", "secret_access_key": "s3cr3t-k3y-of-the-bucket"}
ROWS: Final = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]
READ_WRITE: Final = "https://www.googleapis.com/auth/devstorage.read_write"


@dataclass
class Bucket:
    """The bucket `lake` of a store: where it is, what opens it, and all that is in it."""

    storage: str
    scheme: str
    credential: Credential
    objects: Callable[[], dict[str, bytes]]
    server: Server | None = None
    cloud: GoogleCloud = field(default_factory=GoogleCloud)

    def url(self, name: str, bucket: str = "lake") -> str:
        return f"{self.scheme}://{bucket}/{name}"

    def with_data(self, **fields: str) -> Credential:
        return replace(self.credential, data={**self.credential.data, **fields})


@pytest.fixture(scope="module")
def moto() -> Iterator[tuple[str, Any]]:
    """Its address, and the bucket."""
    with bucket_of_s3("lake", **KEYS) as endpoint:
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        store = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        yield endpoint, store.Bucket("lake")


@pytest.fixture
def s3(moto: tuple[str, Any]) -> Bucket:
    endpoint, lake = moto
    lake.objects.delete()

    def objects() -> dict[str, bytes]:
        return {one.key: one.get()["Body"].read() for one in lake.objects.all()}

    return Bucket("s3", "s3", Credential("lake", "s3", {**KEYS, "endpoint": endpoint}), objects)


@pytest.fixture
def gcs() -> Iterator[Bucket]:
    cloud = GoogleCloud()

    def objects() -> dict[str, bytes]:
        return {name.removeprefix("lake/"): content for name, content in cloud.objects.items()}

    with answering(cloud.answer) as server:
        yield Bucket("gcs", "gs", cloud.account(server.url), objects, server, cloud)


@pytest.fixture
def hmac(s3: Bucket) -> Bucket:
    """Google's buckets by an HMAC key: the interface that speaks as S3 does."""
    data = {"key_id": "GOOG-id", "secret_key": KEYS["secret_access_key"], "endpoint": s3.credential.data["endpoint"]}
    return Bucket("gcs", "gs", Credential("lake", "gcs", data), s3.objects)


@pytest.fixture(params=["s3", "gcs", "hmac"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    found: Bucket = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def saves(tmp_path: Path) -> Saves:
    return Saves(tmp_path)


def lent(saves: Saves, bucket: Bucket) -> Saves:
    saves.credentials["lake"] = bucket.credential
    return saves


def rows_of(name: str, content: bytes, folder: Path) -> Any:
    match Path(name).suffix:
        case ".csv":
            return [{**row, "id": int(row["id"])} for row in csv.DictReader(io.StringIO(content.decode()))]
        case ".json":
            return json.loads(content)
        case ".jsonl":
            return [json.loads(line) for line in content.splitlines()]
        case _:
            return parquet_rows(content, folder)


@pytest.mark.parametrize("format_", ["csv", "json", "jsonl", "parquet"])
def test_rows_become_an_object(saves: Saves, bucket: Bucket, tmp_path: Path, format_: str) -> None:
    place = bucket.url(f"out/rows of today.{format_}")
    told = lent(saves, bucket).run(bucket.storage, place, ROWS, auth="lake", mode="overwrite")
    assert told == {"saved": bucket.storage, "url": place, "rows": 2}
    [(name, content)] = bucket.objects().items()
    assert name == f"out/rows of today.{format_}"
    assert rows_of(name, content, tmp_path) == ROWS
    assert saves.names() == []


def test_what_is_appended_is_an_object_for_each_job_and_a_repeated_attempt_replaces_its_own(
    saves: Saves, bucket: Bucket
) -> None:
    lent(saves, bucket)
    urls = {
        saves.run(bucket.storage, bucket.url("rows.jsonl"), [{"n": n}], auth="lake", of_items=True, node=f"s#save:{n}")[
            "url"
        ]
        for n in (0, 1, 1, 0)
    }
    assert urls == {bucket.url(name) for name in bucket.objects()}
    assert sorted(bucket.objects().values()) == [b'{"n":0}\n', b'{"n":1}\n']
    assert all(name.startswith("rows/") for name in bucket.objects())


def test_nothing_is_asked_of_a_store_for_nothing(saves: Saves, bucket: Bucket) -> None:
    told = lent(saves, bucket).run(bucket.storage, bucket.url("rows.csv"), [], auth="lake")
    assert (told, bucket.objects()) == ({"saved": bucket.storage, "url": None, "rows": 0}, {})


def test_an_address_that_steps_may_not_reach_is_refused(tmp_path: Path, bucket: Bucket) -> None:
    saves = lent(Saves(tmp_path, networks=()), bucket)
    failure = saves.fails(bucket.storage, bucket.url("rows.json"), ROWS, auth="lake")
    assert failure.code == "http_connection" and "NOETL_HTTP_ALLOWED_NETWORKS" in str(failure)
    assert bucket.objects() == {}
    assert bucket.server is None or bucket.server.asked == []


def test_a_bucket_that_is_not_there_is_told(saves: Saves, bucket: Bucket) -> None:
    failure = lent(saves, bucket).fails(bucket.storage, bucket.url("rows.json", "nowhere"), ROWS, auth="lake")
    assert failure.code == "target_failed" and "there is no such bucket" in str(failure)
    assert saves.names() == []


def test_a_store_that_is_not_there_is_told(saves: Saves, bucket: Bucket) -> None:
    saves.credentials["lake"] = bucket.with_data(endpoint="http://127.0.0.1:9", token_uri="http://127.0.0.1:9")
    failure = saves.fails(bucket.storage, bucket.url("rows.json"), ROWS, auth="lake")
    assert failure.code in ("target_failed", "http_connection")
    assert KEYS["secret_access_key"] not in str(failure)


WRONG: Final[list[tuple[str, dict[str, Any], str]]] = [
    ("https://lake/rows.csv", {"auth": "lake"}, "arguments_invalid"),
    ("lake/rows.csv", {"auth": "lake"}, "arguments_invalid"),
    ("{scheme}://lake", {"auth": "lake"}, "arguments_invalid"),
    ("{scheme}://lake/rows", {"auth": "lake"}, "arguments_invalid"),
    ("{scheme}://lake/rows.csv", {}, "auth_invalid"),
    ("{scheme}://lake/rows.csv", {"auth": {"key": "lake", "endpoint": "http://127.0.0.1:1"}}, "auth_invalid"),
    ("{scheme}://lake/rows.csv", {"auth": "other"}, "credential_invalid"),
    ("{scheme}://lake/rows.csv", {"auth": "lake", "mode": "update", "key": "id"}, "arguments_invalid"),
    ("{scheme}://lake/rows.csv", {"auth": "lake", "data": [1]}, "arguments_invalid"),
    ("{scheme}://lake/rows.csv", {"auth": "lake", "spec": {"bucket": "lake"}}, "arguments_invalid"),
]


@pytest.mark.parametrize(("place", "more", "code"), WRONG)
def test_what_cannot_be_saved_is_refused(
    saves: Saves, bucket: Bucket, place: str, more: dict[str, Any], code: str
) -> None:
    lent(saves, bucket).credentials["other"] = Credential("other", "vault", {"token": "v4ult-t0ken"})
    failure = saves.fails(bucket.storage, place.format(scheme=bucket.scheme), **{"data": ROWS, **more})
    assert failure.code == code
    assert (bucket.objects(), saves.names()) == ({}, [])


def test_a_job_that_is_cancelled_writes_nothing(saves: Saves, bucket: Bucket) -> None:
    saves.cancelled.set()
    failure = lent(saves, bucket).fails(bucket.storage, bucket.url("rows.json"), ROWS, auth="lake")
    assert (failure.code, bucket.objects()) == ("cancelled", {})


# -- S3 ----------------------------------------------------------------------------------------------


def test_a_large_object_goes_in_parts(saves: Saves, s3: Bucket) -> None:
    rows = [{"n": n, "text": f"{n:07} " * 40} for n in range(30_000)]
    lent(saves, s3).run("s3", s3.url("large.jsonl"), rows, auth="lake", mode="overwrite")
    content = s3.objects()["large.jsonl"]
    assert len(content) > 8 * 1024 * 1024
    assert [json.loads(line)["n"] for line in content.splitlines()] == list(range(30_000))


def test_the_workers_own_settings_of_aws_count_for_nothing(
    saves: Saves, s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-workers-own")
    lent(saves, s3).run("s3", s3.url("rows.json"), ROWS, auth="lake", mode="overwrite")
    assert list(s3.objects()) == ["rows.json"]


def test_over_tls_a_certificate_counts_that_is_trusted(
    saves: Saves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = tmp_path / "trusted.pem"
    with answering(lambda asked: Answer(b""), self_signed(trusted)) as server:
        endpoint = server.url.replace("http://", "https://")
        saves.credentials["lake"] = Credential("lake", "s3", {**KEYS, "endpoint": endpoint})
        failure = saves.fails("s3", "s3://lake/rows.json", ROWS, auth="lake", mode="overwrite")
        assert (failure.code, server.asked) == ("target_failed", [])
        monkeypatch.setattr(http_transport, "DEFAULT_CA_BUNDLE_PATH", str(trusted))
        saves.run("s3", "s3://lake/rows.json", ROWS, auth="lake", mode="overwrite")
        [asked] = server.asked
    assert (asked.method, asked.path, json.loads(asked.body)) == ("PUT", "/lake/rows.json", ROWS)
    assert KEYS["access_key_id"] in asked.headers["authorization"]


# -- Google ------------------------------------------------------------------------------------------


def test_a_token_is_asked_for_with_the_accounts_key_and_hidden(saves: Saves, gcs: Bucket) -> None:
    lent(saves, gcs).run("gcs", gcs.url("rows.json"), ROWS, auth="lake")
    assert gcs.server is not None
    assert [asked.path for asked in gcs.server.asked] == ["/token", "/upload/storage/v1/b/lake/o"]
    assert gcs.cloud.scopes == [READ_WRITE]
    assert saves.lent.hide(f"Bearer {gcs.cloud.token}") == "Bearer ***"


@pytest.mark.parametrize("type_", ["token", "bearer", "oauth"])
def test_a_token_is_taken_as_it_is(saves: Saves, gcs: Bucket, type_: str) -> None:
    assert gcs.server is not None
    saves.credentials["lake"] = Credential("lake", type_, {"token": gcs.cloud.token, "endpoint": gcs.server.url})
    saves.run("gcs", gcs.url("rows.json"), ROWS, auth="lake", mode="overwrite")
    assert json.loads(gcs.objects()["rows.json"]) == ROWS
    assert [asked.path for asked in gcs.server.asked] == ["/upload/storage/v1/b/lake/o"]


def refusal(saves: Saves, gcs: Bucket, bucket: str = "lake") -> tuple[str, str]:
    failure = saves.fails("gcs", gcs.url("rows.json", bucket), ROWS, auth="lake")
    assert gcs.cloud.token not in str(failure) and "PRIVATE" not in str(failure)
    assert gcs.objects() == {}
    return failure.code, str(failure)


def test_what_google_refuses_is_told_without_a_secret(saves: Saves, gcs: Bucket) -> None:
    lent(saves, gcs)
    code, message = refusal(saves, gcs, "shut")
    assert code == "target_failed" and message.endswith("of 'shut': the credential may not do it")
    saves.credentials["lake"] = gcs.with_data(token_uri=gcs.credential.data["endpoint"] + "/elsewhere/token")
    assert refusal(saves, gcs)[0] == "token_refused"
    saves.credentials["lake"] = Credential(
        "lake", "token", {"token": "old", "endpoint": gcs.credential.data["endpoint"]}
    )
    assert "is not accepted" in refusal(saves, gcs)[1]
    saves.credentials["lake"] = gcs.with_data(
        private_key="-----BEGIN PRIVATE KEY-----\nnone\n-----END PRIVATE KEY-----"
    )
    assert refusal(saves, gcs)[0] == "credential_invalid"
    lent(saves, gcs)
    gcs.cloud.is_down = True
    assert refusal(saves, gcs)[0] == "token_refused"
