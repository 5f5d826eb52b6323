"""Why a step ran, did not run, or waits, in words."""

from __future__ import annotations

from catalog.domain.playbook import Wait
from executions.domain.explaining import explain
from tests.support.builders import default, end, playbook, start, step, to, when
from tests.support.driver import Driver


def test_each_step_says_why() -> None:
    book = playbook(
        start(to("one")),
        step("one", when("{{ one.n > 5 }}", "big"), default("small")),
        step("big"),
        step("small", to("off"), skip_if="{{ workload.skip }}"),
        step("off", to("wait")),
        step("wait", to("after"), action=False, wait=Wait(kind="signal", what="go")),
        step("after"),
        end(),
        workload={"skip": True},
    )
    driver = Driver(book, lambda job: {"n": 3}).run()
    told = {found.step: (found.status, found.reasons) for found in explain(book, driver.log)}
    assert told["big"] == ("not run", ["one did not lead to it: {{ one.n > 5 }} is false (one.n = 3)"])
    assert told["small"] == (
        "skipped",
        [
            "one led to it: no condition was true",
            "small was skipped: `pass` is {{ workload.skip }} is true (workload.skip = true)",
        ],
    )
    assert told["off"][0] == "success"
    assert told["wait"] == ("running", ["off led to it: it is always led to", 'wait waits for signal {"signal": "go"}'])
    assert told["after"] == ("not run", ["no branch has come to it yet"])


def test_a_condition_that_was_false_is_told_of_its_target() -> None:
    book = playbook(start(when("{{ workload.n > 5 }}", "big")), step("big"), workload={"n": 3})
    told = {found.step: found for found in explain(book, Driver(book).run().log)}
    assert told["big"].reasons == ["start did not lead to it: {{ workload.n > 5 }} is false (workload.n = 3)"]


def test_a_failure_is_told_with_its_code() -> None:
    def broken(job: object) -> None:
        raise RuntimeError("no such city")

    book = playbook(start(to("one")), step("one"))
    told = {found.step: found for found in explain(book, Driver(book, broken).run().log)}
    assert told["one"].status == "error"
    assert told["one"].reasons[-1] == "one failed: boom: no such city"
