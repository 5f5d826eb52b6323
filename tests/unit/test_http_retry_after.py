"""`Retry-After`: what a reply asks for, as the http kind tells it and as it reaches the log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from executors.actions.http import HttpAction
from executors.contract import ActionRequest
from executors.running import Lent, outcome_fields, run_action
from tests.support.answering import Answer, Server, answering
from tests.support.asking import Asking

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def dated(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    def answer(asked: object) -> Answer:
        raise AssertionError("each test says what is answered")

    with answering(answer) as found:
        yield found


@pytest.fixture(scope="module")
def asking() -> Iterator[Asking]:
    action = HttpAction(["127.0.0.0/8"])
    yield Asking(action)
    action.close()


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("3600", 3600.0),
        ("999999", 3600.0),
        ("9" * 5000, 3600.0),
        (dated(90), 90.0),
        (dated(-90), 0.0),
        (dated(10**6), 3600.0),
        ("Friday, 02-Jan-26 03:05:35 GMT", 90.0),
        ("-7", None),
        ("7.5", None),
        ("soon", None),
        ("", None),
        ("\u0667", None),
        ("Fri, 99 Jan 2026 03:04:05 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_what_a_reply_asks_for(asking: Asking, server: Server, told: str, seconds: float | None, status: int) -> None:
    headers = {"Retry-After": told.encode("utf-8").decode("latin-1"), "Date": dated(0)}
    server.answer = lambda asked: Answer({"busy": True}, status, headers)
    error = asking.failure(url=server.url)
    assert (error.code, error.retry_after_seconds) == ("http_status", seconds)


def test_a_date_without_the_servers_own_is_compared_with_the_clock(asking: Asking, server: Server) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    server.answer = lambda asked: Answer(None, 503, {"Retry-After": until, "Date": "nonsense"})
    told = asking.failure(url=server.url).retry_after_seconds
    assert told is not None and 50 < told <= 60


def test_a_good_reply_asks_for_nothing(asking: Asking, server: Server) -> None:
    server.answer = lambda asked: Answer(1, 200, {"Retry-After": "7"})
    assert asking.run(url=server.url)["data"] == 1


def test_it_travels_in_the_error(asking: Asking, server: Server) -> None:
    server.answer = lambda asked: Answer(None, 503, {"Retry-After": "7"})
    asking.failure(url=server.url)
    lent = asking.lent
    assert lent is not None
    request = ActionRequest("http", {"url": server.url}, {}, "e1", "e1:s", "s", 1, "e1:s", 10)
    outcome = run_action({"http": asking.action}, request, Lent(lent.data_dir, lent.cancelled, lent.resolve))
    told = outcome_fields(outcome, 0.1)["error"]
    assert told == {"code": "http_status", "message": "HTTP 503: Service Unavailable", "retry_after_seconds": 7.0}
