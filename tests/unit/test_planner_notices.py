"""`notify` of a playbook in the planner: whom it tells of what, when, and that it changes nothing else."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from catalog.domain.normalise import read_playbook
from catalog.domain.playbook import Action, Notice, Playbook, Retry, Step
from executions.domain import events as ev
from executions.domain.facts import Facts
from executions.domain.jobs import EnqueueJob
from executions.domain.planner import plan_news
from executions.domain.state import State
from tests.support.catalog_kinds import SCHEMAS
from tests.support.driver import NOW, Driver
from tests.support.generating import ALL as ALL_FEATURES
from tests.support.generating import Case, case_from
from tests.support.laws import Seen, local

HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: n\npath: team/n\n"
STEPS = """
workflow:
  - {step: start, type: python, code: "def main(): pass", next: end}
  - {step: end, result: "{{ start }}"}
"""
ENDED, LATE = "notify of the end", "notify of lateness"


def read(text: str) -> tuple[Playbook | None, list[str]]:
    book, problems = read_playbook(HEAD + text, SCHEMAS)
    return book, [problem.code for problem in problems]


def book(notify: str, steps: str = STEPS) -> Playbook:
    found, codes = read(f"notify: {notify}\n{steps}")
    assert found is not None, codes
    assert codes == []
    return found


def answering(**answers: Any) -> Callable[[EnqueueJob], Any]:
    """Gives each step's answer by its name; an exception is raised."""

    def answer(job: EnqueueJob) -> Any:
        given = answers.get(job.step.replace(" ", "_"))
        if isinstance(given, Exception):
            raise given
        return given

    return answer


def told(driver: Driver) -> list[dict[str, Any]]:
    jobs = [job for job in driver.enqueued if job.kind == "notify"]
    return [{"occasion": job.action["inputs"]["occasion"], **job.action["arguments"]} for job in jobs]


def fire_late(driver: Driver, name: str = LATE) -> None:
    decision = driver.engine.fire(driver.engine.timers[f"1:{name}", "late"], NOW)
    assert decision is not None
    driver._asked(decision)


ALL = '{on: [failure, success, cancelled], to: "json://x.example"}'


def test_a_failure_is_told_before_the_last_event() -> None:
    driver = Driver(book('{to: "json://x.example"}'), answering(start=ValueError("no luck"))).run()
    assert told(driver) == [
        {
            "occasion": "failure",
            "to": "json://x.example",
            "level": "failure",
            "title": "team/n failed",
            "body": "Execution 1 of team/n failed. boom in the step start: no luck",
        }
    ]
    assert (driver.engine.status, driver.error["message"]) == ("failed", "no luck")
    types = [event.type for event in driver.log]
    assert types.index(ev.NOTIFYING_STARTED) < types.index(ev.ACTION_COMPLETED) < types.index(ev.EXECUTION_FAILED)
    assert driver.replayed() == driver.state


@pytest.mark.parametrize(
    ("notify", "count"), [("{on: success, to: x}", 1), ("{on: [cancelled], to: x}", 0), ("{to: x}", 0), (ALL, 1)]
)
def test_a_success_is_told_where_it_is_asked_for_and_the_result_stays(notify: str, count: int) -> None:
    driver = Driver(book(notify), answering(start=5)).run()
    assert [each["title"] for each in told(driver)] == ["team/n completed"] * count
    assert (driver.engine.status, driver.result) == ("completed", 5)
    assert driver.replayed() == driver.state


@pytest.mark.parametrize("fails", [False, True])
def test_what_comes_of_the_telling_changes_nothing(fails: bool) -> None:
    answer = answering(start=ValueError("no luck") if fails else 5, notify_of_the_end=OSError("gone"))
    driver = Driver(book(ALL), answer).run()
    assert driver.engine.status == ("failed" if fails else "completed")
    assert (driver.result, (driver.error or {}).get("message")) == ((None, "no luck") if fails else (5, None))
    failed = next(event for event in driver.log if event.type == ev.STEP_FAILED and event.node_name == ENDED)
    assert failed.error["message"] == "gone"


def test_a_template_that_fails_is_told_and_changes_nothing() -> None:
    driver = Driver(book('{on: success, to: x, body: "{{ 1 / 0 }}"}'), answering(start=5)).run()
    assert (driver.engine.status, driver.result, told(driver)) == ("completed", 5, [])
    [failed] = [event for event in driver.log if event.type == ev.STEP_FAILED]
    assert (failed.node_name, failed.error["code"]) == (ENDED, "template_error")


FINALLY = """
finally: tidy
workflow:
  - {step: start, type: python, code: "def main(): pass", next: end}
  - {step: tidy, type: python, code: "def main(): pass"}
  - {step: end, result: "{{ start }}"}
"""


def test_it_is_told_after_finally_and_of_its_failure() -> None:
    driver = Driver(book(ALL, FINALLY), answering(start=5, tidy=ValueError("no room"))).run()
    assert [each["title"] for each in told(driver)] == ["team/n failed"]
    assert "boom in the step tidy: no room" in told(driver)[0]["body"]
    assert driver.engine.status == "failed"


def test_it_sees_the_steps_and_the_workload_and_data_is_no_template() -> None:
    notify = '{on: success, to: x, title: "{{ who }}", body: "{{ start }} {{ execution.id }} {{ tidy.status }}"}'
    text = FINALLY.replace("workflow:", "workload: {who: Ada}\nworkflow:")
    driver = Driver(book(notify, text), answering(start="{{ 1 }}")).run()
    assert (told(driver)[0]["title"], told(driver)[0]["body"]) == ("Ada", "{{ 1 }} 1 success")


# -- cancel ---------------------------------------------------------------------------------------------


def test_a_cancellation_is_told_and_asked_for_again_ends_it_at_once() -> None:
    driver = Driver(book(ALL))
    driver.start()
    driver.engine.cancel("enough", "ada")
    [job] = driver.engine.take_news().jobs
    assert (job.step, job.action["arguments"]["title"]) == (ENDED, "team/n was cancelled")
    assert job.action["arguments"]["level"] == "warning"
    driver.engine.signal("anything")
    assert (driver.engine.status, driver.engine.jobs) == ("running", {job.node_id: job})
    driver.engine.cancel()
    assert driver.engine.status == "cancelled"
    assert driver.engine.end is not None and driver.engine.end.meta == {"reason": "enough", "by": "ada"}
    assert driver.replayed() == driver.state


def test_asked_again_during_finally_it_ends_at_once_and_tells_nobody() -> None:
    driver = Driver(book(ALL, FINALLY), answering())
    driver.start()
    driver.engine.cancel("enough", "ada")
    assert [job.step for job in driver.engine.take_news().jobs] == ["tidy"]
    driver.engine.cancel("now", "bob")
    assert (driver.engine.status, driver.engine.jobs) == ("cancelled", {})
    assert driver.engine.end is not None and driver.engine.end.meta == {"reason": "now", "by": "bob"}
    assert driver.replayed() == driver.state


def test_a_first_cancellation_during_finally_is_told() -> None:
    driver = Driver(book(ALL, FINALLY), answering(start=5))
    driver.start()
    driver.report(driver.jobs.pop())
    driver.engine.cancel()
    assert [job.step for job in driver.engine.take_news().jobs] == [ENDED]
    driver.engine.cancel()
    assert driver.engine.status == "cancelled"


@pytest.mark.parametrize(("answer", "status"), [(5, "completed"), (ValueError("no luck"), "failed")])
def test_a_cancellation_while_it_is_told_calls_off_the_telling(answer: Any, status: str) -> None:
    driver = Driver(book(ALL), answering(start=answer))
    driver.start()
    driver.report(driver.jobs.pop())
    assert [job.step for job in driver.jobs] == [ENDED]
    driver.engine.cancel()
    assert driver.engine.take_news().closed == [f"1:{ENDED}"]
    assert (driver.engine.status, driver.engine.jobs) == (status, {})
    assert driver.engine.result == (5 if status == "completed" else None)
    assert driver.replayed() == driver.state


# -- lateness -------------------------------------------------------------------------------------------

LATER = "{on: [late, failure], late_after: 10m, to: x}"


def test_lateness_is_told_while_it_runs() -> None:
    driver = Driver(book(LATER), answering(start=5))
    [timer] = driver.start().timers
    assert (timer.node_id, timer.kind, timer.seconds) == (f"1:{LATE}", "late", 600.0)
    fire_late(driver)
    assert told(driver) == [
        {
            "occasion": "late",
            "to": "x",
            "level": "warning",
            "title": "team/n is late",
            "body": "Execution 1 of team/n still runs, 10m after its start.",
        }
    ]
    driver.finish()
    assert (driver.engine.status, driver.result) == ("completed", 5)
    assert driver.replayed() == driver.state


def test_a_state_that_is_built_anew_does_not_set_the_timers_again_that_have_fired() -> None:
    found = book(
        "[{late_after: 10m, to: x}, {on: late, late_after: 20m, to: x}]", STEPS.replace("wo", "timeout: 1h\nwo", 1)
    )
    driver = Driver(found, answering(start=5))
    driver.start()
    fire_late(driver)
    facts = Facts("1", NOW, driver.engine.workload, {})
    decision = plan_news(found, State(), driver.log, facts)
    assert [(timer.node_id, timer.kind) for timer in decision.timers] == [("1", "timeout"), (f"1:{LATE} 2", "late")]


def test_an_execution_in_time_is_not_late() -> None:
    driver = Driver(book(LATER), answering(start=5)).run()
    assert (driver.engine.status, told(driver), driver.engine.timers) == ("completed", [], {})


def test_the_end_waits_until_lateness_is_told() -> None:
    driver = Driver(book(LATER), answering(start=5, notify_of_lateness=OSError("gone")))
    driver.start()
    fire_late(driver)
    driver.report(driver.jobs.pop(0))
    assert driver.statuses()["end"] == "success"
    assert (driver.engine.status, [job.step for job in driver.jobs]) == ("running", [LATE])
    driver.finish()
    assert (driver.engine.status, driver.result) == ("completed", 5)


def test_a_failure_calls_off_what_tells_of_lateness_and_is_told_itself() -> None:
    driver = Driver(book(LATER), answering(start=ValueError("no luck")))
    driver.start()
    fire_late(driver)
    driver.report(driver.jobs.pop(0))
    assert [job.step for job in driver.jobs] == [ENDED]
    driver.finish()
    assert [each["occasion"] for each in told(driver)] == ["late", "failure"]
    assert driver.engine.status == "failed"


def test_a_failed_telling_of_lateness_is_not_handled_by_the_playbook() -> None:
    steps = (
        STEPS.replace("workflow:", "on_error: repair\nworkflow:") + "  - {step: repair, type: transform, template: x}\n"
    )
    driver = Driver(book(LATER, steps), answering(start=5, notify_of_lateness=OSError("gone")))
    driver.start()
    fire_late(driver)
    driver.report(driver.jobs.pop(1))
    driver.finish()
    assert "repair" not in driver.statuses()
    assert driver.engine.status == "completed"


def test_lateness_beside_listed_steps_does_not_lead_on() -> None:
    steps = STEPS.replace("next: end", "next: one") + '  - {step: one, type: python, code: "def main(): pass"}\n'
    driver = Driver(book(LATER, steps), answering(start=5), payload={"steps_override": ["one", "start"]})
    driver.start()
    fire_late(driver)
    driver.report(driver.jobs.pop(1))
    assert [job.step for job in driver.jobs] == ["one"]
    driver.finish()
    assert [job.step for job in driver.enqueued] == ["one", LATE, "start"]
    assert driver.engine.status == "completed"


def test_once_the_workflow_is_over_it_is_not_late_any_more() -> None:
    driver = Driver(book(LATER, FINALLY), answering(start=5))
    driver.start()
    driver.report(driver.jobs.pop())
    assert [job.step for job in driver.jobs] == ["tidy"]
    fire_late(driver)
    assert [job.step for job in driver.jobs] == ["tidy"]
    driver.finish()
    assert (driver.engine.status, told(driver)) == ("completed", [])
    assert driver.replayed() == driver.state


def test_what_handles_a_failure_does_not_wait_until_lateness_is_told() -> None:
    steps = STEPS.replace("workflow:", "on_error: repair\nworkflow:")
    steps += '  - {step: repair, type: python, code: "def main(): pass"}\n'
    driver = Driver(book(LATER, steps), answering(start=ValueError("no luck")))
    driver.start()
    fire_late(driver)
    driver.report(driver.jobs.pop(0))
    assert [job.step for job in driver.jobs] == [LATE, "repair"]


HELD = """
timeout: 1h
workflow:
  - {step: start, type: python, code: "def main(): pass", undo: {type: python, code: "def main(): pass"}}
  - {step: end, type: python, code: "def main(): return 7"}
"""


def late_in_flight(found: Playbook, **answers: Any) -> Driver:
    """All of the workflow's own work is done step by step; the telling of lateness hangs."""
    driver = Driver(found, answering(**answers))
    driver.start()
    fire_late(driver)
    while own := [job for job in driver.jobs if job.step != LATE]:
        driver.jobs.remove(own[0])
        driver.report(own[0])
    assert [job.step for job in driver.jobs] == [LATE]
    return driver


def time_out(driver: Driver) -> None:
    assert driver.engine.fire(driver.engine.timers["1", "timeout"], NOW) is not None


def test_an_end_that_nothing_names_and_finally_do_not_wait_until_lateness_is_told() -> None:
    text = HELD.replace("workflow:", "finally: tidy\nworkflow:") + "  - {step: tidy, type: python, code: x}\n"
    driver = late_in_flight(book(LATER, text), end=7)
    assert (driver.statuses()["end"], driver.statuses()["tidy"]) == ("success", "success")
    assert driver.engine.status == "running"
    driver.finish()
    assert (driver.engine.status, driver.result) == ("completed", 7)
    assert driver.replayed() == driver.state


@pytest.mark.parametrize("more", ["", "finally: tidy\n"])
def test_what_is_over_has_no_timeout_while_lateness_is_told(more: str) -> None:
    text = HELD.replace("workflow:", f"{more}workflow:") + "  - {step: tidy, type: python, code: x}\n"
    driver = late_in_flight(book(LATER, text if more else HELD), end=7)
    time_out(driver)
    driver.finish()
    assert (driver.engine.status, driver.result, driver.error) == ("completed", 7, None)
    assert driver.replayed() == driver.state


def test_a_success_is_told_beside_the_telling_of_lateness() -> None:
    driver = Driver(book("{on: [late, success], late_after: 10m, to: x}", HELD), answering(end=7))
    driver.start()
    fire_late(driver)
    for name in ("start", "end"):
        [job] = [job for job in driver.jobs if job.step == name]
        driver.jobs.remove(job)
        driver.report(job)
    assert sorted(job.step for job in driver.jobs) == [LATE, ENDED]
    driver.finish()
    assert (driver.engine.status, driver.result) == ("completed", 7)
    assert driver.replayed() == driver.state


def test_asked_to_cancel_while_only_lateness_is_told_it_ends_as_it_had_ended() -> None:
    driver = late_in_flight(book(LATER, HELD), end=7)
    driver.engine.cancel()
    assert (driver.engine.status, driver.engine.jobs, driver.engine.result) == ("completed", {}, 7)
    assert driver.replayed() == driver.state


def test_a_failure_in_finally_calls_off_the_telling_of_lateness() -> None:
    text = HELD.replace("workflow:", "finally: [tidy, last]\nworkflow:")
    text += "  - {step: tidy, type: python, code: x}\n  - {step: last, type: python, code: x}\n"
    found = book(LATER, text)
    driver = Driver(found, answering(end=7, tidy=OSError("no room")))
    driver.start()
    fire_late(driver)
    while own := [job for job in driver.jobs if job.kind != "notify"]:
        driver.jobs.remove(own[0])
        driver.report(own[0])
    assert [job.step for job in driver.jobs] == [ENDED]
    driver.finish()
    assert (driver.engine.status, driver.error["message"]) == ("failed", "no room")
    assert driver.replayed() == driver.state


def test_joins_that_wait_for_each_other_do_not_wait_until_lateness_is_told() -> None:
    steps = """
workflow:
  - {step: start, type: python, code: x, next: [one, two]}
  - {step: one, type: python, code: x, next: [{when: "{{ false }}", then: two}]}
  - {step: two, type: python, code: x, next: [{when: "{{ false }}", then: one}]}
"""
    driver = Driver(book(LATER, steps), answering())
    driver.start()
    fire_late(driver)
    driver.report(driver.jobs.pop(0))
    assert [job.step for job in driver.jobs] == [LATE, "one"]


def test_a_paused_execution_tells_when_it_goes_on() -> None:
    driver = Driver(book(LATER), answering(start=5))
    driver.start()
    driver.engine.happen(ev.EXECUTION_PAUSED)
    fire_late(driver)
    assert told(driver) == []
    driver._asked(driver.engine.happen(ev.EXECUTION_RESUMED))
    assert [each["occasion"] for each in told(driver)] == ["late"]


# -- reruns, parents ------------------------------------------------------------------------------------


def test_a_rerun_is_told_of_anew() -> None:
    same = book("{on: success, to: x, body: the same each time}")
    first = Driver(same, answering(start=5)).run()
    again = Driver(same, answering(start=6), execution_id="9")
    again.rerun_of(first, None)
    again.finish()
    assert [job.step for job in again.enqueued] == [ENDED]
    assert again.result == 5


def test_a_parent_gets_what_the_workflow_gave() -> None:
    text = 'workflow:\n  - {step: start, type: python, code: "def main(): pass"}\n'
    driver = Driver(book(ALL, text), answering(start=5, notify_of_the_end={"sent": []})).run()
    assert driver.engine.answer(None) == 5


# -- reading --------------------------------------------------------------------------------------------


def test_several_entries_are_told_each() -> None:
    driver = Driver(book("[{on: success, auth: a}, {on: [success, failure], auth: b}]"), answering(start=5)).run()
    assert [(job.step, job.action["arguments"]["auth"]) for job in driver.enqueued[1:]] == [
        (ENDED, "a"),
        (f"{ENDED} 2", "b"),
    ]


def test_what_a_job_may_have_is_taken_over() -> None:
    found = book("{auth: a, retry: 5, timeout: 3s, pool: io, priority: 9, format: html, level: info}")
    step = found.steps[-1]
    assert step.action is not None and step.retry is not None
    assert (step.retry.max_attempts, step.timeout_seconds, step.pool, step.priority) == (5, 3.0, "io", 9)
    assert (step.action.arguments["timeout"], step.action.arguments["format"]) == (3.0, "html")
    assert step.action.arguments["level"] == "info"


@pytest.mark.parametrize(
    ("notify", "code"),
    [
        ("5", "wrong_type"),
        ("{on: [], to: x}", "missing_argument"),
        ("{on: sometimes, to: x}", "wrong_value"),
        ("{on: late, to: x}", "missing_argument"),
        ("{on: failure, late_after: 5m, to: x}", "invalid_argument"),
        ("{late_after: soon, to: x}", "wrong_value"),
        ("{to: x, subject: y}", "unknown_key"),
        ("{to: x, level: loud}", "invalid_argument"),
        ('{to: x, body: "{{ 1 +"}', "template_syntax"),
        ('{on: late, late_after: 5m, to: x, body: "{{ start }}"}', "step_cannot_have_run"),
        ('{to: "slack://T1JJ3T3L2/A1BRTD4JD/x"}', "secret_in_playbook"),
        ('{to: x, body: "{{ nobody }}"}', "unknown_name"),
    ],
)
def test_what_is_wrong_is_told_once(notify: str, code: str) -> None:
    assert read(f"notify: {notify}\n{STEPS}")[1] == [code]


def test_a_step_of_its_name() -> None:
    assert "duplicate_step" in read(f"notify: {{to: x}}\n{STEPS}  - {{step: {ENDED}}}\n")[1]


# -- any playbook ---------------------------------------------------------------------------------------

FEATURES = replace(ALL_FEATURES, all_in_finally=False)
NOTICES = (
    Step(name="ended", action=Action(kind="notify"), on_error="continue", notice=Notice(on=("failure", "success"))),
    Step(
        name="late",
        action=Action(kind="notify"),
        on_error="continue",
        notice=Notice(on=("late",), late_after_seconds=1),
    ),
)


def telling(case: Case, chance: random.Random) -> Driver:
    """The case with notifications of everything: lateness at any moment, each telling late, early, or failing."""
    plain = case.playbook
    told = Playbook(
        **{**{name: getattr(plain, name) for name in Playbook.model_fields}, "steps": (*plain.steps, *NOTICES)}
    )
    runs: Counter[str] = Counter()

    def answer(job: EnqueueJob) -> Any:
        if job.kind == "notify":
            if chance.random() < 0.5:
                raise OSError("gone")
            return None
        node = local(job.node_id)
        runs[node] += 1
        inputs = {"data": job.action["arguments"]["data"]} if job.kind == "save" else job.action["inputs"]
        return case.answer(node, runs[node], inputs)

    driver = Driver(told, answer)
    driver.start()
    while not driver.engine.is_over:
        own = [job for job in driver.jobs if job.kind != "notify"]
        tellings = [job for job in driver.jobs if job.kind == "notify"]
        if chance.random() < 0.2 and ("1:late", "late") in driver.engine.timers:
            fire_late(driver, "late")
        elif tellings and (not own or chance.random() < 0.3):
            driver.jobs.remove(tellings[0])
            driver.report(tellings[0])
        elif own:
            driver.jobs.remove(own[0])
            driver.report(own[0])
        elif waits := [timer for timer in driver.engine.timers.values() if timer.kind == "wait"]:
            driver._asked(driver.engine.fire(waits[0], NOW) or pytest.fail("a wait that nobody wants"))
        else:
            pytest.fail("nothing can happen any more")
    return driver


@pytest.mark.parametrize("seed", range(5))
def test_notifications_change_nothing_of_any_playbook(seed: int) -> None:
    compared = 0
    for number in range(60):
        chance = random.Random(f"{seed}:{number}")
        case = case_from(chance, FEATURES)
        # A retry of the driver's is one of `Seen`'s own, which answers it at once.
        if any(retry is not None for step in case.playbook.steps for retry in _retries(step)):
            continue
        plain, driver = Seen(case), telling(case, chance)
        statuses = {name: told for name, told in _statuses(driver).items() if name not in ("ended", "late")}
        assert statuses == plain.statuses
        last, other = driver.log[-1], plain.log[-1]
        assert (last.type, last.result, last.error) == (other.type, other.result, other.error)
        assert [event.type for event in driver.log].count(ev.NOTIFYING_STARTED) == 1
        assert driver.replayed() == driver.state
        compared += 1
    assert compared > 20


def _retries(step: Step) -> list[Retry | None]:
    saves = [step.save, step.loop.save if step.loop is not None else None]
    return [step.retry, *(save.retry for save in saves if save is not None)]


def _statuses(driver: Driver) -> dict[str, str]:
    names = {ev.STEP_COMPLETED: "success", ev.STEP_FAILED: "error", ev.STEP_SKIP: "skipped"}
    return {local(event.node_id): names[event.type] for event in driver.log if event.type in names}
