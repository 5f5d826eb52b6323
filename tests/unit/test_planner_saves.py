"""The planner's rules of `save`; one idea per test."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.domain.playbook import Action, Child, Loop, Playbook, Retry, Save, Step, Transition, Wait
from executions.domain import events as ev
from executions.domain.events import parse_node_id
from executions.domain.facts import Facts
from executions.domain.jobs import EnqueueJob
from executions.domain.memory import MemoryLog
from executions.domain.outcomes import ActionOutcome
from executions.domain.retries import judge
from executions.domain.secrets import mark_of
from executions.domain.state import encode
from executions.domain.wanted import Wanted
from tests.support.builders import end, playbook, start, step, to, when
from tests.support.driver import Driver


def saving(data: Any = "{{ data }}", **fields: Any) -> Save:
    arguments = {"storage": "event_log", "data": data, **fields.pop("arguments", {})}
    action = Action(kind="save", arguments=arguments, sql=("statement",) if "statement" in arguments else ())
    return Save(action=action, **fields)


def answering(job: EnqueueJob) -> Any:
    """An action gives its own node; a save gives what it was handed."""
    if job.kind == "save":
        return {"saved": "event", "data": job.action["arguments"]["data"]}
    return {"n": job.node_id.partition(":")[2]}


def failing(*nodes: str) -> Any:
    def answer(job: EnqueueJob) -> Any:
        if job.node_id.partition(":")[2] in nodes:
            raise RuntimeError("broken")
        return answering(job)

    return answer


def run(*steps: Step, answer: Any = answering, pick: Any = lambda count: 0, **fields: Any) -> Driver:
    book = playbook(start(to(steps[0].name)), *steps, **fields)
    driver = Driver(book, answer, pick=pick).run()
    assert driver.replayed() == driver.state
    return driver


def saved(driver: Driver) -> dict[str, Any]:
    """What was handed to saves, by their nodes."""
    return {job.node_id.partition(":")[2]: job.action["arguments"] for job in driver.enqueued if job.kind == "save"}


def types_of(driver: Driver, name: str) -> list[str]:
    return [event.type for event in driver.log if event.node_name == name]


META = end({"meta": "{{ steps.a.meta }}", "status": "{{ steps.a.status }}", "data": "{{ a.n | default(none) }}"})


def test_the_step_ends_when_its_save_has() -> None:
    driver = run(step("a", to("end"), save=saving()), META)
    assert saved(driver) == {"a#save": {"storage": "event_log", "data": {"n": "a"}}}
    assert types_of(driver, "a") == [
        ev.STEP_STARTED,
        ev.ACTION_COMPLETED,
        ev.SAVE_STARTED,
        ev.ACTION_COMPLETED,
        ev.STEP_COMPLETED,
        ev.TRANSITION_EVALUATED,
    ]
    outcome = {"save": {"saved": "event", "data": {"n": "a"}}}
    assert driver.result == {"meta": outcome, "status": "success", "data": "a"}


def test_a_save_that_fails_is_told_and_the_step_succeeds() -> None:
    driver = run(step("a", to("end"), save=saving()), META, answer=failing("a#save"))
    error = {"code": "boom", "message": "broken"}
    assert driver.result == {"meta": {"save_error": error}, "status": "success", "data": "a"}


def test_a_save_that_must_not_fail_fails_the_step() -> None:
    driver = run(step("a", save=saving(on_error="fail")), answer=failing("a#save"))
    assert driver.error == {
        "step": "a",
        "node_id": "1:a",
        "code": "save_failed",
        "message": "the result of step 'a' was not saved: broken",
        "cause": {"code": "boom", "message": "broken"},
    }
    handled = step("a", when("{{ error.code == 'save_failed' }}", "end"), save=saving(on_error="fail"))
    driver = run(handled, META, answer=failing("a#save"))
    assert (driver.result["status"], driver.result["data"]) == ("error", "a")


def test_what_cannot_be_rendered_is_a_failed_save() -> None:
    driver = run(step("a", to("end"), save=saving("{{ nothing.at.all }}")), META)
    assert driver.result["status"] == "success"
    assert driver.result["meta"]["save_error"]["template"] == "{{ nothing.at.all }}"
    assert saved(driver) == {}


ONS = [("success", True, False), ("error", False, True), ("always", True, True)]


@pytest.mark.parametrize(("on", "after_success", "after_error"), ONS)
def test_on_says_after_which_end(on: Any, after_success: bool, after_error: bool) -> None:
    one = step("a", to("end"), on_error="continue", save=saving("{{ [status, error.message | default('')] }}", on=on))
    well, badly = run(one, META), run(one, META, answer=failing("a"))
    assert [args["data"] for args in saved(well).values()] == [["success", ""]] * after_success
    assert [args["data"] for args in saved(badly).values()] == [["error", "broken"]] * after_error
    assert (well.result["status"], badly.result["status"]) == ("success", "error")
    skips = [event.context for event in (*well.log, *badly.log) if event.type == ev.SAVE_SKIP]
    assert skips == [{"because": "on", "on": on}] * (2 - after_success - after_error)


def test_a_failure_is_saved_before_the_execution_fails() -> None:
    driver = run(step("a", save=saving("{{ error.code }}", on="error")), answer=failing("a"))
    assert saved(driver)["a#save"]["data"] == "boom"
    assert driver.error["code"] == "boom"
    assert run(step("a", save=saving(on="error")), answer=failing("a", "a#save")).error["code"] == "boom"


def test_when_says_whether_and_is_told() -> None:
    driver = run(step("a", to("end"), save=saving(when="{{ data.n == 'b' }}")), META)
    assert (saved(driver), driver.result["meta"]) == ({}, {})
    [skip] = [event for event in driver.log if event.type == ev.SAVE_SKIP]
    assert (skip.node_id, skip.context["because"], skip.context["expression"]) == (
        "1:a#save",
        "when",
        "{{ data.n == 'b' }}",
    )


def test_what_a_save_sees() -> None:
    shown = {
        "this": "{{ this }}",
        "own": "{{ a.n }}",
        "before": "{{ first.n }}",
        "handed": "{{ given }}",
        "of the workload": "{{ workload.w }}",
    }
    first = step("first", Transition(kind="always", then=(to("a", given=7).then[0],)))
    one = step("a", to("end"), save=saving(shown)).model_copy(update={"next_reads": ("a", "first", "given")})
    driver = run(first, one, end(), workload={"w": 3})
    assert saved(driver)["a#save"]["data"] == {
        "this": {"status": "success", "data": {"n": "a"}, "result": {"n": "a"}, "error": None},
        "own": "a",
        "before": "first",
        "handed": 7,
        "of the workload": 3,
    }


def test_data_is_never_a_template() -> None:
    driver = run(
        step("a", to("end"), save=saving()),
        META,
        answer=lambda job: answering(job) if job.kind == "save" else {"n": "{{ 1 + 1 }}"},
    )
    assert driver.result["meta"]["save"]["data"] == {"n": "{{ 1 + 1 }}"}


def test_a_statement_is_sql_and_its_parameters_are_rendered() -> None:
    arguments = {"statement": "INSERT INTO {{ workload.t }} VALUES (:n)", "params": {"n": "{{ data.n }}"}}
    driver = run(step("a", to("end"), save=saving(arguments=arguments)), end(), workload={"t": "rows"})
    told = saved(driver)["a#save"]
    assert (told["statement"], told["params"]) == ("INSERT INTO rows VALUES (:n)", {"n": "a"})
    driver = run(step("a", to("end"), save=saving(arguments=arguments)), META, workload={"t": "a; DROP TABLE a"})
    assert "save_error" in driver.result["meta"]


STEPS: dict[str, tuple[Step, Any]] = {
    "end": (end({"n": "{{ workload.w }}"}).model_copy(update={"save": saving()}), {"n": 1}),
    "routing": (step("a", to("end"), action=False, save=saving({"status": "{{ status }}"})), {"status": "success"}),
    "transform": (step("a", to("end"), action=False, result={"n": 2}, save=saving()), {"n": 2}),
    "wait": (
        step("a", to("end"), action=False, wait=Wait(kind="duration", what=1), save=saving("{{ status }}")),
        "success",
    ),
    "child": (step("a", to("end"), action=False, child=Child(path="p"), save=saving()), {"of": "p"}),
}


@pytest.mark.parametrize("kind", STEPS)
def test_every_kind_of_step_saves(kind: str) -> None:
    one, data = STEPS[kind]
    steps = [one] if one.name == "end" else [one, end("{{ a }}")]
    book = playbook(start(to(one.name)), *steps, workload={"w": 1})
    driver = Driver(book, answering, child=lambda child: {"of": child.path}).run()
    assert saved(driver)[f"{one.name}#save"]["data"] == data
    assert driver.log[-1].type == ev.EXECUTION_COMPLETED
    assert driver.replayed() == driver.state
    if one.name == "end":
        assert driver.result == {"n": 1}


def test_a_rendered_result_is_the_one_that_was_saved() -> None:
    """What it reads may have changed before the save is over: it is kept."""
    times = iter(range(100))
    one = step("a", to("end"), action=False, result={"at": "{{ now() }}"}, save=saving())
    driver = Driver(playbook(start(to("a")), one, end("{{ a.at }}")), answering)
    driver.engine._now = lambda: str(next(times))
    driver.run()
    assert driver.result == saved(driver)["a#save"]["data"]["at"]


def test_every_visit_has_its_save() -> None:
    one = step("a", when("{{ a.n == 'a' }}", "a"), save=saving())
    assert list(saved(run(one))) == ["a#save", "a#2#save"]


def test_a_step_that_times_out_calls_its_save_off() -> None:
    one = step("a", action=False, wait=Wait(kind="duration", what=1), timeout_seconds=9, save=saving())
    driver = Driver(playbook(start(to("a")), one), answering)
    driver.start()
    timers = driver.engine.timers
    decision = driver.engine.fire(timers["1:a", "wait"], "")
    assert decision is not None and [job.node_id for job in decision.jobs] == ["1:a#save"]
    # One timer has fired: the other says nothing any more, and the save has a time limit of its own.
    assert decision.jobs[0].timeout_seconds == 9
    looped = step("a", loop=Loop(items=[1], element="x"), timeout_seconds=9, save=saving())
    driver = Driver(playbook(start(to("a")), looped), answering)
    driver.start()
    driver.report(driver.jobs.pop(0))
    assert list(driver.engine.jobs) == ["1:a#save"]
    decision = driver.engine.fire(driver.engine.timers["1:a", "timeout"], "")
    assert (driver.engine.jobs, driver.error["code"]) == ({}, "timeout")


def test_a_cancelled_execution_saves_no_more() -> None:
    driver = Driver(playbook(start(to("a")), step("a", save=saving())), answering)
    driver.start()
    driver.report(driver.jobs.pop(0))
    job = driver.engine.jobs["1:a#save"]
    driver.engine.cancel()
    assert (driver.engine.status, driver.engine.jobs) == ("cancelled", {})
    assert driver.engine.report(job, ActionOutcome("success"), {}, None) is None
    assert [event.type for event in driver.log[-2:]] == [ev.EXECUTION_CANCELLED, ev.LATE_RESULT]


def test_a_paused_execution_saves_when_it_goes_on() -> None:
    driver = Driver(playbook(start(to("a")), step("a", save=saving())), answering)
    driver.start()
    driver.engine.happen(ev.EXECUTION_PAUSED)
    driver.report(driver.jobs.pop(0))
    assert driver.engine.jobs == {}
    driver.engine.happen(ev.EXECUTION_RESUMED)
    assert list(driver.engine.jobs) == ["1:a#save"]


def test_a_rerun_does_not_save_the_same_again() -> None:
    book = playbook(start(to("a")), step("a", to("b"), save=saving()), step("b", save=saving()))
    before = Driver(book, answering).run()
    again = Driver(book, answering, execution_id="3")
    again.rerun_of(before, "b")
    again.finish()
    assert list(saved(again)) == ["b#save"]
    assert again.replayed() == again.state


def test_undo_follows_a_save_that_fails_the_execution() -> None:
    undo = Action(kind="python", arguments={"code": "undo"}, verbatim=("code",))
    steps = [step("a", to("b"), undo=undo, save=saving()), step("b", save=saving(on_error="fail"))]
    driver = run(*steps, answer=failing("b#save"))
    assert [job.node_id for job in driver.enqueued] == ["1:a", "1:a#save", "1:b", "1:b#save", "1:a#undo"]


def test_its_retry_is_its_own() -> None:
    one = step("a", retry=Retry(max_attempts=2), save=saving(retry=Retry(max_attempts=3, initial_delay=4)))
    driver = Driver(playbook(start(to("a")), one), failing("a#save"))
    driver.start()
    driver.report(driver.jobs.pop(0))
    job = driver.jobs[0]
    broken = ActionOutcome("error", error={"code": "x", "message": "x"})
    delays = [driver.engine.report(driver.engine.jobs[job.node_id], broken, {}, None) for _ in range(3)]
    assert delays == [4, 8, None]
    assert driver.engine.status == "completed"


def fetched(job: EnqueueJob) -> Any:
    """A step of the kind `secrets` gives a mark, as the server keeps it."""
    if job.kind == "secrets":
        return {"secret_value": mark_of("@a/00ff"), "reference": {"arguments": {"provider": "env"}}}
    return answering(job)


FETCHING = step("a", to("b"), save=saving("{{ data.secret_value }}")).model_copy(
    update={"action": Action(kind="secrets", arguments={"provider": "env", "secret_name": "x"})}
)


def test_a_secret_is_told_to_the_worker_of_a_save_and_to_nobody_else() -> None:
    driver = run(FETCHING, step("b", save=saving({"token": "{{ a.secret_value }}"})), answer=fetched)
    jobs = {job.node_id: job.action for job in driver.enqueued if job.kind == "save"}
    assert jobs["1:b#save"]["secrets"] == {"/arguments/data/token": ["@a/00ff"]}
    # The step's own secret is not there for its save: what is kept is the mark.
    assert "secrets" not in jobs["1:a#save"]


def test_the_data_of_many_items_holds_no_secret() -> None:
    loop = Loop(items=[1], element="x", save=saving("{{ a.secret_value }}"))
    driver = run(FETCHING, step("b", to("end"), loop=loop), end("{{ steps.b.meta }}"), answer=fetched)
    [error] = driver.result["item_saves"]["errors"]
    assert "holds the secret of the step a" in error["message"]
    assert "b#save:0" not in saved(driver)


# -- loops -------------------------------------------------------------------------------------------


def looped(*transitions: Transition, count: int, save: Save, all_: Save | None = None, **loop: Any) -> Step:
    given = Loop(items=list(range(count)), element="x", save=save, **loop)
    return step("a", *transitions, loop=given, save=all_, inputs={"x": "{{ x }}"})


def numbers(job: EnqueueJob) -> Any:
    return answering(job) if job.kind == "save" else job.action["inputs"]["x"]


def test_items_are_saved_in_chunks_by_their_index() -> None:
    one = looped(to("end"), count=7, save=saving("{{ [x, data] }}", chunk_size=3))
    told = saved(run(one, META, answer=numbers))
    expected = {f"a#save:{k}": [[n, n] for n in range(7)[k * 3 : k * 3 + 3]] for k in range(3)}
    assert {node: arguments["data"] for node, arguments in told.items()} == expected
    assert all(arguments["of_items"] for arguments in told.values())
    # Whatever the order in which the items end.
    assert saved(run(one, META, answer=numbers, pick=lambda count: count - 1)) == told


def test_a_loop_of_a_thousand_items_asks_for_ten_saves() -> None:
    driver = run(looped(to("end"), count=1000, save=saving()), META, answer=numbers)
    assert [len(arguments["data"]) for arguments in saved(driver).values()] == [100] * 10
    assert driver.result["meta"] == {"item_saves": {"items": 1000, "errors": []}}
    assert len(driver.log) < 1000 * 2 + 50


def test_a_chunk_is_saved_while_others_still_run() -> None:
    driver = run(looped(count=4, mode="sequential", save=saving(chunk_size=2)), answer=numbers)
    nodes = [job.node_id for job in driver.enqueued]
    assert nodes.index("1:a#save:0") < nodes.index("1:a:3") < nodes.index("1:a#save:1")


def test_so_many_chunks_at_once() -> None:
    one = looped(count=4, save=saving(chunk_size=1, concurrency=1))
    driver = Driver(playbook(start(to("a")), one), numbers)
    driver.start()
    for _ in range(4):
        driver.report(driver.jobs.pop(0))
    assert list(driver.engine.jobs) == ["1:a#save:0"]
    driver.finish()
    assert (len(saved(driver)), driver.engine.status) == (4, "completed")


def test_items_that_failed_are_saved_only_when_that_is_said() -> None:
    one = looped(count=4, on_error="continue", save=saving("{{ [x, status] }}", chunk_size=2))
    broken = failing("a:1", "a:2", "a:3")
    assert {node: args["data"] for node, args in saved(run(one, answer=broken)).items()} == {
        "a#save:0": [[0, "success"]]
    }
    always = looped(count=2, on_error="continue", save=saving("{{ [x, status] }}", on="always"))
    assert saved(run(always, answer=broken))["a#save:0"]["data"] == [[0, "success"], [1, "error"]]
    odd = looped(count=4, save=saving("{{ x }}", when="{{ x is odd }}"))
    assert saved(run(odd, answer=numbers))["a#save:0"]["data"] == [1, 3]


@pytest.mark.parametrize(
    ("save", "reads"),
    [
        (saving(), False),
        (saving("{{ [x, data] }}"), True),
        (saving(when="{{ _loop.index }}"), True),
        (saving(arguments={"params": {"x": "{{ x }}"}}), True),
    ],
)
def test_a_chunk_asks_for_the_items_only_where_it_reads_them(
    save: Save, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, load = set[tuple[str, int]](), MemoryLog.load

    def loading(log: MemoryLog, facts: Facts, wanted: Wanted) -> None:
        asked.update(wanted.items)
        load(log, facts, wanted)

    monkeypatch.setattr(MemoryLog, "load", loading)
    run(looped(count=3, save=save), answer=numbers)
    assert asked == ({("1:a", item) for item in range(3)} if reads else set())


def test_a_loop_that_stops_saves_what_is_over() -> None:
    one = looped(count=9, mode="sequential", save=saving("{{ x }}", chunk_size=3))
    driver = run(one, answer=failing("a:4"))
    assert {node: args["data"] for node, args in saved(driver).items()} == {"a#save:0": [0, 1, 2], "a#save:1": [3]}
    assert driver.error["code"] == "loop_item_failed"


def test_which_items_were_not_saved_is_told() -> None:
    one = looped(to("end"), count=5, save=saving(chunk_size=2))
    driver = run(one, META, answer=failing("a#save:1", "a#save:2"))
    errors = [{"first": 2, "last": 3, "message": "broken"}, {"first": 4, "last": 4, "message": "broken"}]
    assert driver.result["meta"] == {"item_saves": {"items": 5, "errors": errors}}
    must = looped(count=5, save=saving(chunk_size=2, on_error="fail"))
    assert run(must, answer=failing("a#save:1")).error["code"] == "save_failed"


def test_a_loop_as_a_whole_is_saved_after_its_items() -> None:
    whole = saving(
        {"r": "{{ results }}", "i": "{{ items }}", "n": "{{ count }}", "e": "{{ errors }}", "d": "{{ data.count }}"}
    )
    one = looped(to("end"), count=2, save=saving("{{ x }}"), all_=whole)
    driver = run(one, META, answer=numbers)
    told = saved(driver)
    assert list(told) == ["a#save:0", "a#save"]
    assert told["a#save"]["data"] == {"r": [0, 1], "i": [0, 1], "n": 2, "e": [], "d": 2}
    assert driver.result["meta"]["item_saves"] == {"items": 2, "errors": []}
    assert driver.result["meta"]["save"]["data"]["n"] == 2


def test_an_end_that_was_registered_with_a_loop_and_a_result_of_its_own_is_saved_and_over() -> None:
    """Such a playbook is refused now; one that is in the catalog from before runs on."""
    whole = saving("{{ [results | map(attribute='n') | list, count, errors, data] }}")
    last = step("end", loop=Loop(items=[1, 2], element="x"), save=whole, result={"n": "{{ end.count }}"})
    driver = run(step("a", to("end")), last)
    assert saved(driver)["end#save"]["data"] == [["end:0", "end:1"], 2, [], {"n": 2}]
    assert driver.engine.status == "completed"


def test_a_loop_whose_result_cannot_be_rendered_tells_how_its_items_were_saved() -> None:
    last = step("end", loop=Loop(items=[1, 2], element="x", save=saving()), result="{{ nothing.at.all }}")
    driver = run(step("a", to("end")), last)
    [failed] = [event for event in driver.log if event.type == ev.STEP_FAILED]
    assert failed.meta == {"item_saves": {"items": 2, "errors": []}}


def test_the_steps_of_a_loops_body_save_for_each_item() -> None:
    loop = Loop(items=[5, 6], element="x", end="close")
    steps = [
        step("each", to("b"), action=False, loop=loop, save=saving("{{ count }}")),
        step("b", to("close"), save=saving("{{ x }}")),
        step("close", to("end"), action=False, end_loop="each"),
        end("{{ each.results }}"),
    ]
    driver = run(*steps)
    assert {node: args["data"] for node, args in saved(driver).items()} == {
        "b:0#save": 5,
        "b:1#save": 6,
        "each#save": 2,
    }
    assert driver.result == [{"b": {"n": "b:0"}}, {"b": {"n": "b:1"}}]


def test_what_a_loop_gave_is_not_what_was_saved_of_it() -> None:
    """The last step of the body ends with its save, and the loop with it: all in one planning."""
    steps = [
        step("each", to("b"), action=False, loop=Loop(items=[5], element="x", end="close")),
        step("b", to("close"), action=False, result={"x": "{{ x }}"}, save=saving("saved")),
        step("close", to("end"), action=False, end_loop="each"),
        end("{{ each.results }}"),
    ]
    assert run(*steps).result == [{"b": {"x": 5}}]


def test_node_ids_of_saves() -> None:
    one, chunk = parse_node_id("1:a:0:3#2#save"), parse_node_id("1:a#save:12")
    assert (one.step, one.path, one.visit, one.save, one.chunk) == ("a", (0, 3), 2, True, None)
    assert (chunk.step, chunk.path, chunk.visit, chunk.save, chunk.chunk) == ("a", (), 1, True, 12)


def test_the_state_does_not_grow_with_what_was_saved() -> None:
    sizes = []
    for count in (400, 4000):
        driver = Driver(playbook(start(to("a")), looped(count=count, save=saving(chunk_size=10))), numbers)
        driver.start()
        for _ in range(count - 5):
            driver.report(driver.jobs.pop(0))
        sizes.append(len(str(encode(driver.state))))
    assert sizes[1] < sizes[0] + 200


def book_of(save: Save) -> Playbook:
    return playbook(start(to("a")), step("a", save=save))


def test_judge_knows_no_retry_of_a_save_that_has_none() -> None:
    driver = Driver(book_of(saving()), answering)
    driver.start()
    driver.report(driver.jobs.pop(0))
    event = ev.Event(9, ev.ACTION_ERROR, "1:a#save", "a", ev.NODE_STEP)
    facts = driver.engine._facts()
    assert judge(driver.playbook, driver.state, facts, event, 1) is None
