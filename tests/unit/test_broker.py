"""The original's local broker: step by step, by name, and the same as in a whole run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.domain.playbook import Loop
from executors.contract import ActionContext, ActionFailed, ActionRequest
from executors.local import Broker, LocalCatalog
from tests.support.builders import end, playbook, start, step, to
from tests.support.kinds import kinds

TEXT = """
apiVersion: noetl.io/v1
kind: Playbook
name: steps
path: tests/steps
workload: {limit: 2}
workbook:
  - name: double
    type: python
    code: "def main(n): ..."
workflow:
  - step: start
    next: count
  - step: count
    type: workbook
    task: double
    with: {n: 3}
    next:
      - when: "{{ count.n > limit }}"
        then:
          - step: many
            with: {from: "{{ count.n }}"}
      - else: [few]
  - step: many
    pass: "{{ skip_many is defined }}"
    type: python
    with: {n: "{{ count.n }}"}
    code: "def main(n): ..."
    next: end
  - step: few
    next: end
  - step: bad
    type: python
    code: "def main(): ..."
    next: end
  - step: each
    type: python
    loop: {in: [1, 2], iterator: item}
    with: {n: "{{ item }}"}
    code: "def main(n): ..."
    next: end
  - step: end
    result: {n: "{{ many.n }}"}
"""


def work(request: ActionRequest, context: ActionContext) -> Any:
    if request.step == "bad":
        raise ActionFailed("boom", "broken")
    return {"n": request.inputs["n"] * 2}


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(TEXT, kinds=kinds(work)) as opened:
        yield opened


def test_steps_run_one_by_one_and_see_what_ran_before(broker: Broker) -> None:
    assert broker.get_next_steps("start") == [("count", {}, "")]
    assert broker.execute_step("count") == {"id": f"{broker.execution_id}:count", "status": "success", "data": {"n": 6}}
    condition = "when: {{ count.n > limit }} (true)"
    assert broker.get_next_steps({"step": "count"}) == [("many", {"from": 6}, condition)]
    assert broker.execute_step("many", {"from": "{{ count.n }}"})["data"] == {"n": 12}
    assert broker.execute_step("end")["data"] == {"n": 12}
    assert broker.get_step_results() == {"count": {"n": 6}, "many": {"n": 12}, "end": {"n": 12}}
    context = broker.get_context()
    assert (context["count"], context["count.status"], context["limit"], context["from"]) == ({"n": 6}, "success", 2, 6)
    assert context["result"] == {"n": 12}
    assert [event["node_name"] for event in broker.events if event["event_type"] == "step_completed"] == [
        "count",
        "many",
        "end",
    ]


def test_the_context_decides_with_the_results(broker: Broker) -> None:
    broker.save_step_result("count", "success", {"n": 1})
    assert broker.get_next_steps("count") == [("few", {}, "")]
    broker.update_context("limit", 0)
    assert [name for name, _, _ in broker.get_next_steps("count")] == ["many"]
    broker.update_context("skip_many", True)
    assert broker.execute_step("many") == {
        "id": f"{broker.execution_id}:many",
        "status": "success",
        "data": {"message": "step many was skipped"},
        "next_step": ["end"],
    }


def test_failures_are_told_and_lead_nowhere(broker: Broker) -> None:
    failed = broker.execute_step("bad")
    assert (failed["status"], failed["error"]) == ("error", {"code": "boom", "message": "broken"})
    assert broker.get_context()["bad.status"] == "error"
    assert broker.get_next_steps("bad") == []
    assert broker.execute_step("nowhere")["error"]["code"] == "unknown_step"
    assert broker.end_loop_step("end")["error"]["code"] == "unknown_loop"


def test_an_action_per_item_is_one_step(broker: Broker) -> None:
    assert broker.execute_step("each")["data"]["results"] == [{"n": 2}, {"n": 4}]
    assert broker.get_loop_results("each") == [{"n": 2}, {"n": 4}]
    assert broker.execute_loop_step("each")["data"] == [{"n": 2}, {"n": 4}]


def test_a_whole_run_gives_the_result_and_keeps_those_of_its_steps(broker: Broker, tmp_path: Path) -> None:
    assert broker.run() == {"n": 12}
    assert broker.get_step_results()["many"] == {"n": 12}
    with pytest.raises(ValueError, match="recommender"):
        broker.run(mlflow=True)
    broker.store_transition((broker.execution_id, "start", "count", "", "{}"))
    broker.export_execution_data(tmp_path / "out.json")
    exported = json.loads((tmp_path / "out.json").read_text())
    assert (exported["playbook"], exported["results"]["count"]) == ("tests/steps", {"n": 6})
    assert exported["transitions"][0][1:3] == ["start", "count"]


def test_steps_and_tasks_are_found(broker: Broker) -> None:
    assert (broker.find_step("many") or {})["name"] == "many"
    assert broker.find_step("nowhere") is None
    assert (broker.find_task("double") or {})["kind"] == "python"
    assert broker.find_task("nothing") is None
    assert broker.playbook["path"] == "tests/steps"


def test_a_loop_over_several_steps_and_the_step_that_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    book = playbook(
        start(to("each")),
        step("each", to("one"), action=False, loop=Loop(items=[1, 2], element="n", end="close")),
        step("one", to("two"), inputs={"n": "{{ n }}"}),
        step("two", to("close"), inputs={"n": "{{ one.n }}"}),
        step(
            "close",
            to("end"),
            action=False,
            end_loop="each",
            result={"all": "{{ each_results }}", "count": "{{ all | length }}"},
        ),
        end({"all": "{{ all }}", "count": "{{ close.count }}"}),
    )
    monkeypatch.setattr(LocalCatalog, "add_text", lambda self, text, source: self.add(book))
    with Broker("the\nbook", kinds=kinds(work)) as broker:
        whole = broker.run()
        assert list(broker.get_step_results()) == ["start", "each", "close", "end"]
    with Broker("the\nbook", kinds=kinds(work)) as broker:
        entries = [{"one": {"n": 2}, "two": {"n": 4}}, {"one": {"n": 4}, "two": {"n": 8}}]
        looped = broker.execute_step("each")
        assert (looped["data"], looped["next_step"]) == (entries, "close")
        assert broker.get_next_steps("each") == [("close", {}, "")]
        assert broker.end_loop_step("close")["data"] == {"all": entries, "count": 2}
        assert broker.get_context()["count"] == 2
        assert broker.execute_step("end")["data"] == whole == {"all": entries, "count": 2}
