"""Transfers from and to addresses and buckets: a local HTTP server, and moto's S3."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from executors.actions.transfer import TransferAction
from executors.contract import Credential
from executors.stores.http_store import MAX_PAGE_BYTES
from tests.support.answering import Answer, Asked, answering
from tests.support.clouds import GoogleCloud
from tests.support.database_steps import step_socket
from tests.support.transfers import Transfers

COPIED = {"type": "postgres", "table": "far"}
KEYS = {"access_key_id": "an-id", "secret_access_key": "s3cr3t-k3y-of-the-bucket"}


@pytest.fixture
def transfers(tmp_path: Path) -> Iterator[Transfers]:
    found = Transfers(step_socket(), tmp_path)
    with found.postgres() as connection:
        connection.execute(b"DROP TABLE IF EXISTS far, noetl_progress")
        connection.execute(b"CREATE TABLE far (id int PRIMARY KEY, name text)")
    yield found
    with found.postgres() as connection:
        connection.execute(b"DROP TABLE IF EXISTS far, noetl_progress")


def pages(asked: Asked) -> Answer:
    """Five rows, two on a page."""
    page = int(asked.said.get("page", "0"))
    rows = [{"id": n, "name": f"n{n}"} for n in range(5)][2 * page : 2 * page + 2]
    link = {"Link": f'</linked?page={page + 1}>; rel="next"'} if page < 2 else {}
    if asked.path == "/linked":
        return Answer(rows, headers=link)
    return Answer({"data": {"rows": rows}, "more": f"/inside?page={page + 1}" if page < 2 else None})


@pytest.mark.parametrize("place", [{"url": "linked"}, {"url": "inside", "path": "data.rows", "next_path": "more"}])
def test_pages_are_read_to_the_last(transfers: Transfers, place: dict[str, str]) -> None:
    transfers.credentials["shop"] = Credential("shop", "bearer", {"token": "t0ken-of-the-shop"})
    with answering(pages) as server:
        source = {**place, "type": "http", "url": f"{server.url}/{place['url']}"}
        told = transfers.run(source, COPIED, auth={"reading": "shop", "writing": "pg"}, key="id")
    assert told["rows"] == 5
    assert transfers.rows("SELECT * FROM far ORDER BY id") == [(n, f"n{n}") for n in range(5)]
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer t0ken-of-the-shop"] * 3


def test_the_next_page_is_on_the_same_host(transfers: Transfers) -> None:
    with answering(lambda asked: Answer([{"id": 1}], headers={"Link": "<http://127.0.0.2:1/>; rel=next"})) as server:
        failure = transfers.fails({"type": "http", "url": server.url}, COPIED)
    assert failure.code == "source_failed" and "another host" in str(failure)
    assert transfers.rows("SELECT count(*) FROM far") == [(0,)]


def test_pages_that_go_round_are_refused(transfers: Transfers) -> None:
    with answering(lambda asked: Answer([{"id": 1}], headers={"Link": "</>; rel=next"})) as server:
        failure = transfers.fails({"type": "http", "url": f"{server.url}/"}, COPIED)
    assert failure.code == "source_failed" and "there before" in str(failure)


@pytest.mark.parametrize("answer", [Answer({"a": 1}), Answer([1]), Answer(b"{"), Answer([], status=500)])
def test_a_page_without_rows_is_refused(transfers: Transfers, answer: Answer) -> None:
    with answering(lambda asked: answer) as server:
        assert transfers.fails({"type": "http", "url": server.url}, COPIED).code == "source_failed"


def test_an_address_that_steps_may_not_reach_is_refused(transfers: Transfers) -> None:
    transfers.action = TransferAction()
    with answering(pages) as server:
        source = {"type": "http", "url": f"{server.url}/linked"}
        assert transfers.fails(source, {"type": "file", "path": "a.json"}).code == "http_connection"
        (transfers.files / "a.json").write_text('[{"id": 1}]')
        target = {"type": "http", "url": server.url}
        assert transfers.fails({"type": "file", "path": "a.json"}, target).code == "http_connection"
    assert server.asked == []


def test_batches_are_sent_each_with_its_own_key(transfers: Transfers) -> None:
    (transfers.files / "a.json").write_text(json.dumps([{"id": n} for n in range(5)]))
    transfers.credentials["shop"] = Credential("shop", "basic", {"username": "u", "password": "pass-of-the-shop"})
    source = {"type": "file", "path": "a.json"}
    with answering(lambda asked: Answer({})) as server:
        target = {"type": "http", "url": f"{server.url}/in", "method": "PUT"}
        for _ in range(2):
            told = transfers.run(source, target, auth={"writing": "shop"}, mapping={"n": "id"}, chunk_size=2)
            assert (told["rows"], told["chunks"]) == (5, 3)
    bodies = [[{"n": 0}, {"n": 1}], [{"n": 2}, {"n": 3}], [{"n": 4}]]
    assert [json.loads(asked.body) for asked in server.asked] == bodies * 2
    keys = [f"e1:s/batch-{n}" for n in (1, 2, 3)]
    assert [asked.headers["idempotency-key"] for asked in server.asked] == keys * 2
    basic = "Basic " + base64.b64encode(b"u:pass-of-the-shop").decode()
    assert {(asked.method, asked.headers["authorization"]) for asked in server.asked} == {("PUT", basic)}


def test_a_refused_batch_ends_it_and_tells_when_to_come_again(transfers: Transfers) -> None:
    (transfers.files / "a.json").write_text('[{"id": 1}]')
    with answering(lambda asked: Answer({}, status=503, headers={"Retry-After": "7"})) as server:
        failure = transfers.fails({"type": "file", "path": "a.json"}, {"type": "http", "url": server.url})
    assert (failure.code, failure.retry_after_seconds) == ("target_failed", 7)


def test_a_batch_is_refused_until_a_date(transfers: Transfers) -> None:
    (transfers.files / "a.json").write_text('[{"id": 1}]')
    told = {"Retry-After": "Fri, 01 Mar 2024 12:00:30 GMT", "Date": "Fri, 01 Mar 2024 12:00:00 GMT"}
    with answering(lambda asked: Answer({}, status=503, headers=told)) as server:
        failure = transfers.fails({"type": "file", "path": "a.json"}, {"type": "http", "url": server.url})
    assert failure.retry_after_seconds == 30


def test_a_step_of_any_name_has_a_key(transfers: Transfers) -> None:
    (transfers.files / "a.json").write_text('[{"id": 1}]')
    with answering(lambda asked: Answer({})) as server:
        transfers.run({"type": "file", "path": "a.json"}, {"type": "http", "url": server.url}, node="шаг")
    assert server.asked[0].headers["idempotency-key"] == "e1:%D1%88%D0%B0%D0%B3/batch-1"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A client of moto's S3 with the bucket `lake`."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        client.create_bucket(Bucket="lake")
        yield client
    finally:
        server.stop()


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
def test_an_object_there_and_back_again(transfers: Transfers, bucket: Any, ending: str) -> None:
    transfers.credentials["lake"] = Credential("lake", "s3", {**KEYS, "endpoint": bucket.meta.endpoint_url})
    with transfers.postgres() as connection:
        connection.execute(b"INSERT INTO far SELECT n, 'n' || n FROM generate_series(1, 5) n")
    place = {"type": "s3", "url": f"s3://lake/out/rows.{ending}"}
    told = transfers.run(COPIED, place, auth={"reading": "pg", "writing": "lake"}, key="id", node="there")
    assert told["rows"] == 5
    with transfers.postgres() as connection:
        connection.execute(b"DELETE FROM far")
    both = {"reading": "lake", "writing": "pg"}
    told = transfers.run(place, COPIED, auth=both, key="id", chunk_size=2, node="back")
    assert (told["rows"], told["chunks"]) == (5, 3)
    assert transfers.rows("SELECT * FROM far ORDER BY id") == [(n, f"n{n}") for n in range(1, 6)]
    assert list((transfers.data_dir / "tmp").iterdir()) == []


def test_a_failed_transfer_leaves_no_object(transfers: Transfers, bucket: Any) -> None:
    transfers.credentials["lake"] = Credential("lake", "s3", {**KEYS, "endpoint": bucket.meta.endpoint_url})
    (transfers.files / "a.jsonl").write_text('{"id": 1}\n{"id":')
    target = {"type": "s3", "url": "s3://lake/half.csv"}
    source = {"type": "file", "path": "a.jsonl"}
    assert transfers.fails(source, target, auth={"writing": "lake"}, chunk_size=1).code == "file_error"
    assert "half.csv" not in str(bucket.list_objects_v2(Bucket="lake"))


def test_what_s3_refuses_is_told_without_a_key(transfers: Transfers, bucket: Any) -> None:
    transfers.credentials["lake"] = Credential("lake", "s3", {**KEYS, "endpoint": bucket.meta.endpoint_url})
    source = {"type": "s3", "url": "s3://lake/nothing.csv"}
    file = {"type": "file", "path": "a.json"}
    failure = transfers.fails(source, file, auth={"reading": "lake"})
    assert failure.code == "source_failed" and KEYS["secret_access_key"] not in str(failure)
    assert transfers.fails(source, file).code == "arguments_invalid"
    wrong = {"type": "s3", "url": "https://lake/nothing.csv"}
    assert transfers.fails(wrong, file, auth={"reading": "lake"}).code == "arguments_invalid"
    laid = {"reading": {"key": "lake", "endpoint": "http://127.0.0.1:1"}}
    assert transfers.fails(source, file, auth=laid).code == "auth_invalid"


class Dripping(BaseHTTPRequestHandler):
    """An object whose bytes come one by one, and never all of them."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.send_header("ETag", '"one"')
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        gone = threading.Event()
        with suppress(OSError):
            while not gone.wait(0.1):
                self.wfile.write(b"x")


@pytest.mark.parametrize("code", ["timeout", "cancelled"])
def test_an_object_that_drips_ends_with_the_job(transfers: Transfers, code: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    transfers.credentials["lake"] = Credential("lake", "s3", {**KEYS, "endpoint": endpoint})
    cancelling = threading.Timer(1, transfers.cancelled.set if code == "cancelled" else lambda: None)
    cancelling.start()
    try:
        source, target = {"type": "s3", "url": "s3://lake/drips.csv"}, {"type": "file", "path": "a.json"}
        begun = time.monotonic()
        timeout = 2 if code == "timeout" else 60
        assert transfers.fails(source, target, auth={"reading": "lake"}, timeout=timeout).code == code
        assert time.monotonic() - begun < 20
    finally:
        cancelling.join()
        server.shutdown()
        server.server_close()


def test_a_bucket_at_an_address_that_steps_may_not_reach_is_refused(transfers: Transfers, bucket: Any) -> None:
    transfers.credentials["lake"] = Credential("lake", "s3", {**KEYS, "endpoint": bucket.meta.endpoint_url})
    bucket.put_object(Bucket="lake", Key="there.json", Body=b'[{"id": 1}]')
    transfers.action = TransferAction()
    file, place = {"type": "file", "path": "a.json"}, {"type": "s3", "url": "s3://lake/there.json"}
    failure = transfers.fails(place, file, auth={"reading": "lake"})
    assert failure.code == "http_connection" and "NOETL_HTTP_ALLOWED_NETWORKS" in str(failure)
    (transfers.files / "a.json").write_text('[{"id": 2}]')
    assert transfers.fails(file, place, auth={"writing": "lake"}).code == "http_connection"
    assert bucket.get_object(Bucket="lake", Key="there.json")["Body"].read() == b'[{"id": 1}]'


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
def test_an_object_of_google_there_and_back_again(transfers: Transfers, ending: str) -> None:
    cloud = GoogleCloud()
    with transfers.postgres() as connection:
        connection.execute(b"INSERT INTO far SELECT n, 'n' || n FROM generate_series(1, 5) n")
    place = {"type": "gcs", "url": f"gs://lake/out/all rows.{ending}"}
    with answering(cloud.answer) as server:
        transfers.credentials["lake"] = cloud.account(server.url)
        told = transfers.run(COPIED, place, auth={"reading": "pg", "writing": "lake"}, key="id", node="there")
        assert (told["rows"], list(cloud.objects)) == (5, [f"lake/out/all rows.{ending}"])
        with transfers.postgres() as connection:
            connection.execute(b"DELETE FROM far")
        both = {"reading": "lake", "writing": "pg"}
        told = transfers.run(place, COPIED, auth=both, key="id", chunk_size=2, node="back")
    assert (told["rows"], told["chunks"]) == (5, 3)
    assert transfers.rows("SELECT * FROM far ORDER BY id") == [(n, f"n{n}") for n in range(1, 6)]
    assert list((transfers.data_dir / "tmp").iterdir()) == []


def test_an_object_of_google_larger_than_a_reply_is_read(transfers: Transfers) -> None:
    cloud = GoogleCloud()
    # More than a page of JSON may be.
    lines = "".join(json.dumps({"id": n, "name": f"{n:07} " * 40}) + "\n" for n in range(40_000))
    cloud.objects["lake/large.jsonl"] = lines.encode()
    assert len(lines) > MAX_PAGE_BYTES
    with answering(cloud.answer) as server:
        transfers.credentials["lake"] = cloud.account(server.url)
        place = {"type": "gcs", "url": "gs://lake/large.jsonl"}
        told = transfers.run(place, {"type": "file", "path": "large.jsonl"}, auth={"reading": "lake"})
        assert told["rows"] == 40_000
        missing = {"type": "gcs", "url": "gs://lake/none.jsonl"}
        failure = transfers.fails(missing, {"type": "file", "path": "none.jsonl"}, auth={"reading": "lake"})
    assert failure.code == "source_failed" and "there is no such object" in str(failure)
