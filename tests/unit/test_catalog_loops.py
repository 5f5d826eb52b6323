"""The four families of loops become one."""

# ruff: noqa: E501  (playbooks in one line)

from __future__ import annotations

import pytest

from catalog.domain.normalise import read_playbook
from catalog.domain.playbook import Action, Child, Loop, Step
from tests.support.catalog_kinds import SCHEMAS
from tests.unit.test_catalog_normalise import HEAD, PYTHON, read, step_of

EACH_STORE = """
workload: {stores: [{open: true, departments: [1]}]}
workflow:
  - {step: start, next: each_store}
  - step: each_store
    loop: {in: "{{ workload.stores }}", iterator: store, filter: "{{ store.open }}"}
    next: [{step: fetch_sales, with: {store: "{{ store }}"}}]
  - step: fetch_sales
    type: http
    endpoint: "http://127.0.0.1/{{ store.id }}"
    next: [{when: "{{ fetch_sales.data.total > 0 }}", then: each_department}, {else: collect}]
  - step: each_department
    type: loop
    loop: {in: "{{ store.departments }}", iterator: department}
    next: score
  - {step: score, type: python, code: x, with: {d: "{{ department }}", s: "{{ store }}"}, next: departments}
  - {step: departments, end_loop: each_department, next: collect}
  - step: collect
    end_loop: each_store
    result: {scores: "{{ each_store_results }}", n: "{{ scores | length }}"}
    next: after
  - {step: after, pass: "{{ n }}{{ collect.n }}", next: end}
  - step: end
"""


def test_loops_over_several_steps_nest() -> None:
    playbook, problems = read(EACH_STORE)
    assert problems == ()
    steps = {step.name: step for step in playbook.steps}
    assert steps["each_store"].loop == Loop(
        items="{{ workload.stores }}", element="store", filter="{{ store.open }}", end="collect"
    )
    assert steps["each_department"].loop == Loop(
        items="{{ store.departments }}", element="department", end="departments"
    )
    assert (steps["collect"].end_loop, steps["departments"].end_loop) == ("each_store", "each_department")
    body = [step.name for index, step in enumerate(playbook.steps) if playbook.bodies[1] >> index & 1]
    assert body == ["fetch_sales", "each_department", "score", "departments"]
    assert steps["collect"].start_reads == ("each_store", "each_store_results", "scores")
    assert steps["after"].start_reads == ("collect", "n")


INLINE = 'in: "{{ workload.list }}", iterator: item'


def looped(keys: str) -> tuple[Loop, Step, set[str]]:
    step, warned = step_of(f"type: python\n{PYTHON}loop: {{{keys}}}")
    assert step.loop is not None
    return step.loop, step, warned


@pytest.mark.parametrize(
    ("keys", "loop"),
    [
        (INLINE, Loop(items="{{ workload.list }}", element="item")),
        ('collection: "{{ workload.list }}", element: item', Loop(items="{{ workload.list }}", element="item")),
        (
            'in: [1], iterator: item, order_by: "{{ item.n }}", limit: 3, chunk: 2, enumerate: true, distribution: true',
            Loop(items=[1], element="item", order_by="{{ item.n }}", limit=3, chunk=2, enumerate=True),
        ),
        (
            'in: [1], iterator: item, limit: "{{ workload.n }}", mode: sequential, on_error: continue, concurrency: 2',
            Loop(
                items=[1],
                element="item",
                limit="{{ workload.n }}",
                mode="sequential",
                on_error="continue",
                concurrency=2,
            ),
        ),
        ("in: [1], iterator: item, where: false", Loop(items=[1], element="item", filter="false")),
    ],
)
def test_keys_of_loops(keys: str, loop: Loop) -> None:
    assert looped(keys)[::2] == (loop, set())


def test_a_loop_reads_its_keys_when_it_starts() -> None:
    _, step, _ = looped(
        'in: "{{ a.x }}", iterator: item, where: "{{ b.x }}", order_by: "{{ start.x }}", limit: "{{ workload.n }}"'
    )
    assert step.start_reads == ("a", "b", "start", "workload")


def test_without_distribution_items_run_one_after_the_other() -> None:
    loop, _, warned = looped("in: [1], iterator: item, distribution: false")
    assert (loop.mode, warned) == ("sequential", {"misspelt_key"})
    loop, _, warned = looped("in: [1], iterator: item, distribution: false, mode: parallel")
    assert (loop.mode, warned) == ("parallel", set())


def test_what_is_saved_of_each_item_is_the_loops() -> None:
    loop, step, warned = looped('in: [1], iterator: item, save: {data: "{{ item }}", chunk_size: 7}')
    assert (step.save, warned) == (None, set())
    assert loop.save is not None
    assert (loop.save.action.arguments["data"], loop.save.chunk_size) == ("{{ item }}", 7)


def test_a_child_per_item() -> None:
    step, warned = step_of(
        f'type: playbook\npath: a/b\nloop: {{{INLINE}}}\nwith: {{c: "{{{{ item }}}}"}}\nreturn: total'
    )
    assert (step.child, step.loop) == (
        Child(path="a/b", answer="total"),
        Loop(items="{{ workload.list }}", element="item"),
    )
    assert (step.inputs, warned) == ({"c": "{{ item }}"}, set())


@pytest.mark.parametrize("loop", ["", "\nloop: {iterator: child_path}"])
def test_every_playbook_below_a_path(loop: str) -> None:
    step, warned = step_of(f"type: playbooks\npath: team/daily/*{loop}")
    assert (step.child, step.loop) == (
        Child(path="{{ child_path }}"),
        Loop(items_under="team/daily", element="child_path"),
    )
    assert warned == set()


CODE = "type: python, code: x"


@pytest.mark.parametrize(
    "task",
    [
        f"task: {{{CODE}, with: {{n: 1}}}}",
        f"task: {{name: inner, {CODE}, args: {{n: 1}}}}",
        f"task: {{name: inner, {CODE}}}\nwith: {{n: 1}}",
        f"task: {{{CODE}, with: {{n: 1}}}}\nwith: {{n: 2}}",
        f"run: [{{{CODE}, with: {{n: 1}}}}]",
    ],
)
def test_an_iterator_is_a_loop_over_its_task(task: str) -> None:
    step, warned = step_of(f"type: iterator\ncollection: [1, 2]\nelement: x\n{task}")
    assert step.loop == Loop(items=[1, 2], element="x", mode="sequential", on_error="continue")
    assert step.action == Action(kind="python", arguments={"code": "x"}, verbatim=("code",))
    assert (step.inputs, warned) == ({"value": "{{ x }}", "n": 1}, set())


@pytest.mark.parametrize(
    "task", ["task: grade", "task: {name: grade}", "task: {task: grade}", "task: {type: workbook, name: grade}"]
)
def test_an_iterator_over_a_workbook_task(task: str) -> None:
    playbook, problems = read(
        f"""
        workbook: [{{name: grade, {CODE}, with: {{a: 1, b: 2}}, retry: 2}}]
        workflow:
          - {{step: start, type: iterator, in: [1], iterator: x, {task}, with: {{b: 3}}}}
        """
    )
    step = playbook.steps[0]
    assert problems == ()
    assert step.action is not None
    assert (step.action.task, step.inputs) == ("grade", {"value": "{{ x }}", "a": 1, "b": 3})
    assert step.retry is not None
    assert step.retry.max_attempts == 2


def test_an_iterator_may_stand_in_the_workbook() -> None:
    playbook, problems = read(
        f"""
        workbook: [{{name: grade, type: iterator, collection: [1], element: x, task: {{{CODE}}}}}]
        workflow: [{{step: start, type: workbook, name: grade}}]
        """
    )
    assert problems == ()
    assert playbook.steps[0].loop == Loop(items=[1], element="x", mode="sequential", on_error="continue")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("mode: async", {"mode": "parallel", "concurrency": 8}),
        ("mode: parallel\nconcurrency: 3", {"mode": "parallel", "concurrency": 3}),
        ("loop: {mode: async, where: true}", {"mode": "parallel", "concurrency": 8, "filter": "true"}),
        ("chunk: 2\nenumerate: true\nlimit: 4", {"chunk": 2, "enumerate": True, "limit": 4}),
        ("on_error: fail", {"on_error": "fail"}),
        ("on_error: a", {"on_error": "fail"}),
        ("on_error: continue", {"on_error": "continue"}),
    ],
)
def test_keys_of_iterators(keys: str, expected: dict[str, object]) -> None:
    step, warned = step_of(f"type: iterator\ncollection: [1]\nelement: x\ntask: {{{CODE}}}\n{keys}")
    plain: dict[str, object] = {"items": [1], "element": "x", "mode": "sequential", "on_error": "continue"}
    assert step.loop == Loop.model_validate(plain | expected)
    assert step.on_error == ("route" if keys == "on_error: a" else "fail")
    assert warned == set()


def test_the_batch_of_a_chunk_is_handed_over() -> None:
    step, _ = step_of(
        f"type: iterator\ncollection: [1]\nelement: x\nchunk: 2\ntask: {{{CODE}, save: {{data: t}}}}\nsave: {{data: all}}"
    )
    assert step.inputs == {"value": "{{ x }}", "batch": "{{ x }}"}
    assert step.loop is not None
    assert [save.action.arguments["data"] for save in (step.loop.save, step.save) if save] == ["t", "all"]


@pytest.mark.parametrize(
    ("next_of_start", "join_ok"),
    [
        ("[one, two]", True),
        ('[{when: "{{ start.x }}", then: one}, {when: "{{ start.y }}", then: two}]', True),
        ('[{when: "{{ start.x }}", then: [one, two]}]', True),
        ('[{when: "{{ start.x }}", then: one}, {else: two}]', False),
        ('[{when: "{{ start.x }}", then: one, else: two}]', False),
        ('[{step: one}, {when: "{{ start.x }}", then: two}]', True),
    ],
)
def test_a_join_must_be_able_to_fire(next_of_start: str, join_ok: bool) -> None:
    text = f"workflow:\n  - {{step: start, next: {next_of_start}}}\n  - {{step: one, next: meet}}\n  - {{step: two, next: meet}}\n  - {{step: meet, join: all}}\n"
    _, problems = read_playbook(HEAD + text, SCHEMAS)
    assert [problem.code for problem in problems] == ([] if join_ok else ["join_never_fires"])


def test_an_exclusive_next_takes_one_way_to_a_join() -> None:
    conditions = '[{when: "{{ start.x }}", then: one}, {when: "{{ start.y }}", then: meet}]'
    text = f"workflow:\n  - {{step: start, next: {conditions}, next_mode: exclusive}}\n  - {{step: one, next: meet}}\n  - {{step: meet, join: all}}\n"
    _, problems = read_playbook(HEAD + text, SCHEMAS)
    assert [problem.code for problem in problems] == ["join_never_fires"]


def test_a_join_in_a_cycle_may_get_each_branch_in_another_visit() -> None:
    conditions = '[{when: "{{ start.x }}", then: one, else: two}]'
    text = f"workflow:\n  - {{step: start, next: {conditions}}}\n  - {{step: one, next: [meet, start]}}\n  - {{step: two, next: [meet, start]}}\n  - {{step: meet, join: all}}\n"
    _, problems = read_playbook(HEAD + text, SCHEMAS)
    assert problems == ()
