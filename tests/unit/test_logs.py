"""A job's log on its way: lines, bounds, secrets, and who sends it when."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from executions.api import LogLine, told_line
from executors.contract import ActionContext, ActionRequest, Credential
from executors.logs import JobLog
from executors.running import Lent, run_action
from executors.sandbox.printing import MARK
from executors.worker.gateway import GatewayUnavailable
from executors.worker.lines import LogSender
from queueing.api import Fence
from tests.support.kinds import kinds

FENCE = Fence(1, 1, "token")
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END KEY-----"


def finished(log: JobLog) -> list[LogLine]:
    log.finish()
    return log.take()


def texts(lines: Sequence[LogLine]) -> list[str]:
    return [line.text for line in lines]


def test_lines_are_put_together_over_chunks() -> None:
    log = JobLog()
    for chunk in (b"on", b"e\ntwo\r\nth", b"ree"):
        log.take_printed(chunk)
    assert texts(log.take()) == ["one", "two"]
    assert texts(finished(log)) == ["three"]
    assert finished(log) == []


def test_what_no_database_holds_is_replaced() -> None:
    log = JobLog()
    log.take_printed(b"a\x00b \xff\xfe \xed\xa0\x80 \xc3\xa4\n")
    log.add("half \ud800")
    told = texts(log.take())
    assert "\x00" not in "".join(told) and told[0].endswith("\u00e4")
    assert "".join(told).encode()


def test_a_message_of_several_lines_is_several_lines_of_one_level() -> None:
    log = JobLog()
    log.add("one\ntwo", "error")
    log.take_printed(f"{MARK}warning{MARK}careful\n{MARK}nonsense{MARK}x\n{MARK}\n".encode())
    assert [(line.level, line.stream, line.text) for line in log.take()] == [
        ("error", "logged", "one"),
        ("error", "logged", "two"),
        ("warning", "logged", "careful"),
        ("info", "printed", f"{MARK}nonsense{MARK}x"),
        ("info", "printed", MARK),
    ]


@pytest.mark.parametrize(
    "flood",
    [b"x" * 10_000, b"\n" * 10_000, b"line\n" * 10_000, "\u00e4".encode() * 10_000, b"\xff" * 10_000],
    ids=["one line", "empty lines", "lines", "wide", "no text"],
)
def test_a_flood_is_bounded_and_the_drop_is_told(flood: bytes) -> None:
    log = JobLog(1000)
    for start in range(0, len(flood), 700):
        log.take_printed(flood[start : start + 700])
    log.add("too late")
    *lines, last = finished(log)
    assert 0 < sum(len(text) for text in texts(lines)) + 50 * len(lines) <= 1000 + 50
    assert (last.stream, last.level) == ("platform", "warning")
    assert "more characters were dropped: a job keeps 1000 bytes of its log" in last.text
    assert finished(log)[:-1] == [], "nothing but another word about what was dropped"


def test_a_log_of_exactly_its_bound_drops_nothing() -> None:
    log = JobLog(110)
    log.take_printed(b"12345\n67890\n")
    assert texts(finished(log)) == ["12345", "67890"]


@pytest.mark.parametrize("room", range(60, 200, 7))
def test_half_a_secret_is_in_no_line_that_was_cut(room: int) -> None:
    secret = "s3cret-" + "0123456789" * 4
    log = JobLog(room)
    log.hide_with(lambda text: text.replace(secret, "***"))
    for _ in range(10):
        log.take_printed(b"x" * 17 + secret.encode())
    log.take_printed(b"y" * 100_000)
    line, dropped = finished(log)
    assert dropped.stream == "platform" and set(line.text) <= set("xy*") and len(line.text) <= room


def test_what_comes_after_the_end_is_dropped() -> None:
    log = JobLog()
    log.add("early")
    log.finish()
    log.add("late")
    log.take_printed(b"late\n")
    assert texts(log.take()) == ["early"]


def test_secrets_of_a_job_are_hidden_in_what_its_kind_logs_also_line_by_line() -> None:
    def work(request: ActionRequest, context: ActionContext) -> Any:
        told = context.credential("db").data["password"]
        context.log(f"connected with {told}")
        context.take_printed(f"and asked for {request.inputs['key']}\n{KEY}\nno end: {told}".encode())

    request = ActionRequest(
        "python", {}, {"key": "⟦secret:vault⟧", "pem": "⟦secret:pem⟧"}, "e1", "e1:s", "s", 1, "e1:s", 5
    )
    data = {"db": {"password": "hunter22"}, "vault": {"value": "v4ult-s3cret"}, "pem": {"value": KEY}}
    lent = Lent(Path(), threading.Event(), lambda name: Credential(name, "generic", data[name]))
    places = {"/inputs/key": ["vault"], "/inputs/pem": ["pem"]}
    assert run_action(kinds(work), request, lent, {"secrets": places}).status == "success"
    assert texts(lent.lines.take()) == [
        "connected with ***", "and asked for ***", "***", "***", "***", "***", "no end: ***",
    ]  # fmt: skip


def test_a_line_for_a_terminal_has_no_control_characters() -> None:
    assert (
        told_line("7:each:2", "warning", "\x1b[31mred\x07\tok \x9b") == "each:2 | WARNING \\x1b[31mred\\x07\tok \\x9b"
    )
    assert told_line("7:one", "info", "well") == "one | well"


class Kept:
    """A gateway that keeps lines, or is away."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.away = False
        self.asked = threading.Event()

    def append_log(self, fence: Fence, lines: Sequence[LogLine]) -> None:
        self.asked.set()
        if self.away:
            raise GatewayUnavailable("away")
        self.lines += texts(lines)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def sender_of(kept: Kept) -> LogSender:
    return LogSender(kept)  # type: ignore[arg-type]  # it has what is needed of a gateway


def test_a_job_that_logs_nothing_starts_no_thread(kept: Kept) -> None:
    before = threading.active_count()
    sender = sender_of(kept)
    assert sender.close(sender.open(FENCE)) == []
    assert threading.active_count() == before and not kept.asked.is_set()


def test_a_short_job_leaves_its_lines_to_its_report(kept: Kept) -> None:
    sender = sender_of(kept)
    log = sender.open(FENCE)
    log.add("hello")
    log.finish()
    assert texts(sender.close(log)) == ["hello"]
    assert kept.lines == []


def test_a_long_job_is_heard_while_it_runs(kept: Kept) -> None:
    sender = sender_of(kept)
    log = sender.open(FENCE)
    begun_at = time.monotonic()
    log.add("first")
    assert kept.asked.wait(5) and time.monotonic() - begun_at < 2.0
    with log.sending:
        assert kept.lines == ["first"]
    log.add("last")
    assert texts(sender.close(log)) == ["last"]


def test_lines_that_cannot_be_sent_come_with_the_report_in_their_order(kept: Kept) -> None:
    sender = sender_of(kept)
    kept.away = True
    log = sender.open(FENCE)
    log.add("first")
    assert kept.asked.wait(5)
    log.add("second")
    assert texts(sender.close(log)) == ["first", "second"]
