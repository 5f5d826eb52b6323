"""The run with no server: threads, time, children and signals. The database is closed to these tests."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import pytest

from catalog.api import PlaybookInvalid, PlaybookNotFound
from catalog.domain.playbook import Child, Loop, Playbook, Retry, Wait
from executions.domain import events as ev
from executions.domain.engine import Engine
from executions.domain.fold import replay
from executors.contract import ActionContext, ActionFailed, ActionRequest, Credential
from executors.errors import CredentialsUnreadable
from executors.local import LocalCatalog, LocalRun, read_credentials
from tests.support.builders import end, playbook, start, step, to
from tests.support.kinds import Work, kinds, until_cancelled

SECONDS = 30


def local_run(book: Playbook, work: Work, **options: Any) -> LocalRun:
    return LocalRun(book, kinds=kinds(work), **options)


def run(book: Playbook, work: Work = lambda request, context: None, **options: Any) -> Engine:
    engine = local_run(book, work, **options).run()
    assert replay(engine.log, book) == engine.state
    return engine


def statuses(engine: Engine) -> dict[str, str]:
    ends = {ev.STEP_COMPLETED: "success", ev.STEP_FAILED: "error", ev.STEP_SKIP: "skipped"}
    return {event.node_name: ends[event.type] for event in engine.log if event.type in ends}


def test_parallel_steps_run_at_the_same_time() -> None:
    both = Barrier(2)
    book = playbook(start(to("a", "b")), step("a", to("end")), step("b", to("end")), end("{{ a }} {{ b }}"))

    def meet(request: ActionRequest, context: ActionContext) -> str:
        both.wait(SECONDS)
        return request.step

    assert run(book, meet).result == "a b"


def test_no_more_actions_at_a_time_than_workers() -> None:
    running: list[str] = []
    most: list[int] = []

    def count(request: ActionRequest, context: ActionContext) -> None:
        running.append(request.node_id)
        most.append(len(running))
        running.remove(request.node_id)

    book = playbook(start(to("each")), step("each", loop=Loop(items=list(range(20)), element="n")))
    run(book, count, workers=1)
    assert (max(most), len(most)) == (1, 20)


def test_a_failed_action_is_tried_again_after_its_delay() -> None:
    attempts: list[int] = []

    def third_time(request: ActionRequest, context: ActionContext) -> str:
        attempts.append(request.attempt)
        if request.attempt < 3:
            raise ActionFailed("flaky", "not yet")
        return "at last"

    retry = Retry(max_attempts=5, initial_delay=0.01)
    engine = run(playbook(start(to("a")), step("a", to("end"), retry=retry), end("{{ a }}")), third_time)
    assert (engine.result, attempts) == ("at last", [1, 2, 3])
    assert [event.type for event in engine.log].count(ev.ACTION_RETRY) == 2


def test_waits_and_time_limits_take_their_time() -> None:
    nap = step("nap", to("end"), action=False, wait=Wait(kind="duration", what=0.05))
    assert statuses(run(playbook(start(to("nap")), nap, end())))["nap"] == "success"
    late = step("late", to("end"), action=False, wait=Wait(kind="until", what="2020-01-01T00:00:00+00:00"))
    assert statuses(run(playbook(start(to("late")), late, end())))["late"] == "success"
    hung = playbook(start(to("hung")), step("hung"), timeout_seconds=0.05)
    engine = run(hung, until_cancelled)
    assert (engine.status, engine.error["code"]) == ("failed", "timeout")


def test_a_failure_stops_the_actions_beside_it_and_finally_runs() -> None:
    begun = Event()

    def work(request: ActionRequest, context: ActionContext) -> Any:
        if request.step == "slow":
            begun.set()
            return until_cancelled(request, context)
        if request.step == "bad":
            assert begun.wait(SECONDS)
            raise ActionFailed("boom", "broken")
        return "clean"

    book = playbook(start(to("bad", "slow")), step("bad"), step("slow"), step("clean"), finally_steps=("clean",))
    engine = run(book, work)
    assert (engine.status, engine.error["step"]) == ("failed", "bad")
    assert statuses(engine) == {"start": "success", "bad": "error", "clean": "success"}


def test_cancelling_asks_running_actions_to_stop() -> None:
    book = playbook(start(to("slow")), step("slow"), step("clean"), finally_steps=("clean",))

    def work(request: ActionRequest, context: ActionContext) -> Any:
        if request.step == "clean":
            return None
        going.cancel("enough", "test")
        return until_cancelled(request, context)

    going = local_run(book, work)
    engine = going.run()
    [request] = [event for event in engine.log if event.type == ev.CANCEL_REQUESTED]
    assert (engine.status, request.meta) == ("cancelled", {"reason": "enough", "by": "test"})
    assert statuses(engine) == {"start": "success", "clean": "success"}


def test_what_an_action_did_although_it_was_told_to_stop_is_a_late_result() -> None:
    book = playbook(start(to("slow")), step("slow"))

    def work(request: ActionRequest, context: ActionContext) -> str:
        going.cancel()
        assert context.cancelled.wait(SECONDS)
        return "done all the same"

    going = local_run(book, work)
    assert [(event.type, event.result) for event in going.run().log][-1] == (ev.LATE_RESULT, "done all the same")


def test_a_signal_is_waited_for_when_somebody_may_send_it() -> None:
    gate = step("gate", to("end"), action=False, wait=Wait(kind="signal", what="go"))
    book = playbook(start(to("gate")), gate, end("{{ gate.n }}"))
    engine = run(book)
    assert (engine.status, engine.log.events[-1].meta["reason"]) == (
        "cancelled",
        "it waits for a signal, and nothing here can send one",
    )
    waiting = local_run(book, lambda request, context: None, takes_signals=True)
    sender = Thread(target=waiting.signal, args=["go", {"n": 7}])
    sender.start()
    assert waiting.run().result == 7
    sender.join()


def test_a_result_that_is_no_json_fails_the_step() -> None:
    engine = run(playbook(start(to("a")), step("a")), lambda request, context: object())
    assert engine.error["code"] == "output_invalid"


# -- children ------------------------------------------------------------------------------------------

SQUARE = playbook(start(to("a")), step("a", to("end"), inputs={"n": "{{ n }}"}), end({"sq": "{{ a }}"})).model_copy(
    update={"path": "tests/square"}
)


def square(request: ActionRequest, context: ActionContext) -> int:
    number = request.inputs["n"]
    if number > 9:
        raise ActionFailed("too_large", "it is too large")
    return int(number) ** 2


def parent(**child: Any) -> Playbook:
    each = step(
        "each",
        to("end"),
        action=False,
        child=Child(path="tests/square", **child),
        loop=Loop(items="{{ workload.numbers }}", element="n", on_error="continue"),
    )
    return playbook(start(to("each")), each, end("{{ each.results }}"), workload={"numbers": [2, 3]})


def catalog_of(*books: Playbook) -> LocalCatalog:
    catalog = LocalCatalog()
    for book in books:
        catalog.add(book)
    return catalog


def test_children_come_from_the_catalog_and_answer_their_parent() -> None:
    going = local_run(parent(), square, catalog=catalog_of(SQUARE))
    assert going.run().result == [{"sq": 4}, {"sq": 9}]
    assert [running.path for running in going.executions] == ["tests/book", "tests/square", "tests/square"]
    assert len({running.engine.execution_id for running in going.executions}) == 3
    assert run(parent(answer="a"), square, catalog=catalog_of(SQUARE)).result == [4, 9]
    slip = run(parent(answer="b"), square, catalog=catalog_of(SQUARE))
    errors = [event.error["code"] for event in slip.log if event.type == ev.CHILD_COMPLETED]
    assert errors == ["child_answer_invalid"] * 2


def test_a_child_that_fails_or_is_not_there_fails_its_item_only() -> None:
    engine = run(parent(), square, catalog=catalog_of(SQUARE), payload={"numbers": [20, 3]})
    assert engine.result == [None, {"sq": 9}]
    [failed] = [event for event in engine.log if event.type == ev.CHILD_COMPLETED and event.status == "error"]
    assert (failed.error["code"], failed.error["cause"]["code"]) == ("child_failed", "too_large")
    engine = run(parent(), square)
    assert engine.result == [None, None]
    errors = [event.error["code"] for event in engine.log if event.type == ev.CHILD_COMPLETED]
    assert errors == ["child_not_found"] * 2


def test_playbooks_cannot_call_themselves_for_ever() -> None:
    again = step("again", action=False, child=Child(path="tests/book"))
    book = playbook(start(to("again")), again)
    going = local_run(book, square, catalog=catalog_of(book), max_depth=3)
    assert going.run().error["code"] == "child_failed"
    assert len(going.executions) == 4
    assert going.executions[-1].engine.error["code"] == "child_too_deep"


def test_cancelling_a_parent_cancels_its_children() -> None:
    def work(request: ActionRequest, context: ActionContext) -> Any:
        going.cancel()
        return until_cancelled(request, context)

    going = local_run(parent(), work, catalog=catalog_of(SQUARE), payload={"numbers": [1]})
    going.run()
    assert [running.engine.status for running in going.executions] == ["cancelled", "cancelled"]


def test_many_children_that_end_at_once_do_not_pile_up() -> None:
    child = playbook(start(to("end")), end("{{ n }}")).model_copy(update={"path": "tests/square"})
    sequential = Loop(items=list(range(2000)), element="n", mode="sequential")
    each = step("each", to("end"), action=False, child=Child(path="tests/square"), loop=sequential)
    book = playbook(start(to("each")), each, end("{{ each.results | length }}"))
    assert run(book, square, catalog=catalog_of(child)).result == 2000


def test_a_child_that_waits_for_a_signal_is_cancelled_with_its_parent() -> None:
    gate = step("gate", action=False, wait=Wait(kind="signal", what="go"))
    child = playbook(start(to("gate")), gate, finally_steps=("gate",)).model_copy(update={"path": "tests/square"})
    going = local_run(parent(), square, catalog=catalog_of(child), payload={"numbers": [1]})
    going.run()
    assert [running.engine.status for running in going.executions] == ["cancelled", "cancelled"]


# -- files ---------------------------------------------------------------------------------------------

TEXT = """
apiVersion: noetl.io/v1
kind: Playbook
name: one
path: tests/one
workflow:
  - step: start
    next: end
  - step: end
    result: {result}
"""


def test_a_folder_is_a_catalog(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.yaml").write_text(TEXT.format(result=1))
    (tmp_path / "deep" / "b.yml").write_text(TEXT.format(result=2))
    (tmp_path / "notes.txt").write_text("no playbook")
    catalog = LocalCatalog.of_folder(tmp_path)
    assert catalog.paths_below("tests") == catalog.paths_below("") == ["tests/one"]
    assert catalog.paths_below("test") == []
    assert (catalog.find("tests/one").version, catalog.find("tests/one:0.1.0").version) == ("0.1.1", "0.1.0")
    assert catalog.find("tests/one", "latest").playbook.steps[1].result == 2
    with pytest.raises(PlaybookNotFound):
        catalog.find("tests/one", "7.0.0")
    (tmp_path / "c.yaml").write_text("kind: nothing")
    with pytest.raises(PlaybookInvalid, match=r"c\.yaml"):
        LocalCatalog.of_folder(tmp_path)


def test_credentials_reach_actions_and_their_file_is_never_quoted(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps([{"name": "db", "type": "postgres", "data": {"password": "geheim", "port": 5432}}]))
    found = read_credentials(file)
    assert found == {"db": Credential("db", "postgres", {"password": "geheim", "port": "5432"})}

    def ask(request: ActionRequest, context: ActionContext) -> str:
        return context.credential(request.inputs["name"]).data["port"]

    book = playbook(start(to("a")), step("a", to("end"), inputs={"name": "{{ name }}"}), end("{{ a }}"))
    assert run(book, ask, credentials=found, payload={"name": "db"}).result == "5432"
    assert run(book, ask, credentials=found, payload={"name": "none"}).error["code"] == "credential_not_found"
    for broken in ("geheim {", '{"name": "geheim"}', '[{"name": "x", "data": "geheim"}]'):
        file.write_text(broken)
        with pytest.raises(CredentialsUnreadable) as caught:
            read_credentials(file)
        assert "geheim" not in str(caught.value)
