"""`save` in all its spellings becomes one form; what is wrong with it: tests/playbooks/broken/save.yaml."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.domain.normalise import read_playbook
from catalog.domain.playbook import Action, Playbook, Retry, Save, Step
from tests.support.catalog_kinds import SCHEMAS

HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: n\npath: a/b\n"
ACTING = 'type: python, code: "def main(): return 1"'


def read(steps: str, more: str = "") -> Playbook:
    playbook, problems = read_playbook(f"{HEAD}{more}workflow:\n{steps}", SCHEMAS)
    assert playbook is not None, problems
    assert problems == ()
    return playbook


def saving(save: str, key: str = "save") -> Save:
    [step] = read(f"  - {{step: start, {ACTING}, {key}: {{{save}}}}}").steps
    assert step.save is not None
    return step.save


def arguments_of(save: str) -> dict[str, Any]:
    return saving(save).action.arguments


def test_the_result_is_saved_in_the_event_log_when_nothing_is_said() -> None:
    plain = Save(action=Action(kind="save", arguments={"storage": "event_log", "data": "{{ data }}"}))
    for key in ("save", "sink"):
        assert saving("", key) == saving("storage: event", key) == saving("storage: EVENT_LOG", key) == plain


def test_every_key_has_its_place() -> None:
    save = saving(
        "storage: postgres, credentialRef: pg, spec: {schema: s}, table: t, mode: UPSERT, key: [id],"
        ' data: "{{ this }}", when: "{{ data }}", on: always, on_error: fail, retry: 2, timeout: 5m,'
        " chunk_size: 50, concurrency: 2"
    )
    assert save == Save(
        action=Action(
            kind="save",
            arguments={
                "storage": "postgres",
                "auth": "pg",
                "spec": {"schema": "s"},
                "table": "t",
                "mode": "upsert",
                "key": ["id"],
                "data": "{{ this }}",
                "chunk_size": 50,
            },
        ),
        when="{{ data }}",
        on="always",
        on_error="fail",
        retry=Retry(max_attempts=2),
        timeout_seconds=300,
        chunk_size=50,
        concurrency=2,
    )


def test_without_batches_it_is_one_at_a_time() -> None:
    assert (saving("batch: false").chunk_size, arguments_of("batch: false")["chunk_size"]) == (1, 1)
    assert (saving("batch: true").chunk_size, "chunk_size" in arguments_of("batch: true")) == (100, False)


STATEMENTS = [
    ("INSERT INTO t VALUES (:a)", "INSERT INTO t VALUES (:a)"),
    ("INSERT INTO t VALUES ({{ params.a }}, {{params.b}})", "INSERT INTO t VALUES (:a, :b)"),
    ("INSERT INTO t VALUES ('{{ params.a }}')", "INSERT INTO t VALUES (:a)"),
    ("INSERT INTO {{ workload.t }} VALUES ('it''s', {{ params.a }})", None),
]


@pytest.mark.parametrize(("written", "bound"), STATEMENTS)
def test_parameters_of_a_statement_are_bound(written: str, bound: str | None) -> None:
    save = saving(f'storage: postgres, auth: pg, params: {{a: 1}}, statement: "{written}"')
    bound = bound or "INSERT INTO {{ workload.t }} VALUES ('it''s', :a)"
    assert save.action.arguments == {"storage": "postgres", "auth": "pg", "statement": bound, "params": {"a": 1}}
    assert save.action.sql == ("statement",)


def test_code_is_no_template_also_of_the_items_of_a_loop() -> None:
    code = "def main(data): return '{{ data }}'"
    each = f'loop: {{in: [1], iterator: n, save: {{storage: python, code: "{code}"}}}}'
    [step] = read(f'  - {{step: start, {ACTING}, {each}, save: {{storage: python, code: "{code}"}}}}').steps
    for save in step.saves:
        assert save.action.arguments["code"] == code
        assert save.action.verbatim == ("code",)
    assert len(step.saves) == 2


def test_a_statement_without_parameters_gets_the_result() -> None:
    assert arguments_of('storage: postgres, auth: pg, statement: "SELECT :a"')["data"] == "{{ data }}"


def test_saving_as_a_step() -> None:
    [step] = read('  - {step: start, type: save, retry: 2, with: {n: 1}, save: {data: "{{ n }}"}}').steps
    assert step.action == Action(kind="save", arguments={"storage": "event_log", "data": "{{ n }}"})
    assert (step.save, step.retry, step.inputs) == (None, Retry(max_attempts=2), {"n": 1})


TASK = f'workbook:\n  - {{name: work, {ACTING}, save: {{data: "of the task"}}}}\n'


def data_of(save: Save | None) -> Any:
    return save and save.action.arguments["data"]


def of_task(keys: str) -> tuple[Any, Any]:
    """What is saved of the step, and of each item."""
    step: Step = read(f"  - {{step: start, {keys}}}", TASK).steps[0]
    return data_of(step.save), data_of(step.loop.save if step.loop is not None else None)


def test_what_a_task_saves_is_saved_by_the_step_that_runs_it() -> None:
    assert of_task("type: workbook, task: work") == ("of the task", None)
    assert of_task('type: workbook, task: work, save: {data: "own"}') == ("own", None)
    assert of_task("type: workbook, task: work, loop: {in: [1], iterator: x}") == (None, "of the task")
    assert of_task("type: iterator, collection: [1], element: x, task: work") == (None, "of the task")
    each = f'type: iterator, collection: [1], element: x, save: {{data: "all"}}, task: {{{ACTING}, save: {{}}}}'
    assert of_task(each) == ("all", "{{ data }}")


def test_a_loops_save_sees_what_the_loop_came_to() -> None:
    """None of these names is unknown to the save of a loop; to any other `items` is."""
    shown = "{{ [results, items, errors, count, this, data] }}"
    read(f'  - {{step: start, {ACTING}, loop: {{in: [1], iterator: x}}, save: {{data: "{shown}"}}}}')
    _, problems = read_playbook(f'{HEAD}workflow:\n  - {{step: start, {ACTING}, save: {{data: "{shown}"}}}}', SCHEMAS)
    assert [problem.code for problem in problems] == ["unknown_name"] * 3


def test_a_save_reads_what_has_run_before_it_and_the_steps_own_result() -> None:
    steps = f"  - {{step: start, next: one}}\n  - {{step: one, {ACTING}, next: two}}\n  - {{step: two, {ACTING}, "
    two = read(steps + 'save: {data: "{{ [one.n, two.n] }}"}}').steps[2]
    assert two.next_reads == ("one", "two")
    _, problems = read_playbook(
        f'{HEAD}workflow:\n{steps}next: three, save: {{data: "{{{{ three }}}}"}}}}\n  - {{step: three, {ACTING}}}',
        SCHEMAS,
    )
    assert [problem.code for problem in problems] == ["step_cannot_have_run"]
