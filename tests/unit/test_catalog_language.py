"""Every spelling of waits, children, failures, undoing, transforms and the playbook's own keys means one thing."""

# ruff: noqa: E501, SIM905  (playbooks in one line, lists of words)

from __future__ import annotations

from typing import Any

import pytest

from catalog.domain.playbook import Action, Child, Retry, Save, Target, Wait
from tests.unit.test_catalog_normalise import PYTHON, read, step_of

ACTING = f"type: python\n{PYTHON}"


# -- work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "tool: {kind: python, code: x, args: {n: 1}}",
        "tool: {type: python, code: x}\nwith: {n: 1}",
        "tool: {kind: python, code: x}\ntype: http\ncall: {code: y}\nwith: {n: 1}",
    ],
)
def test_a_tool_that_is_a_map_is_laid_over_the_step(body: str) -> None:
    step, warned = step_of(body)
    assert (step.action, step.inputs) == (Action(kind="python", arguments={"code": "x"}, verbatim=("code",)), {"n": 1})
    assert warned == ({"spelling_conflict"} if "call" in body else set())


@pytest.mark.parametrize(
    ("body", "child"),
    [
        ("type: playbook\npath: a/b", Child(path="a/b")),
        ("type: Playbook\nresource_path: a/b\nversion: 0.1.2", Child(path="a/b", version="0.1.2")),
        (
            "type: playbooks\nplaybook_path: a/b:0.1.2\nreturn: total",
            Child(path="a/b", version="0.1.2", answer="total"),
        ),
        ("call: {type: playbook, path: 'a/b:latest', return_step: total}", Child(path="a/b", answer="total")),
        ("tool: playbook\npath: a/b\nversion: latest", Child(path="a/b")),
        (
            'type: playbook\npath: "{{ workload.p }}"\nreturn: "{{ now() }}"',
            Child(path="{{ workload.p }}", answer="{{ now() }}"),
        ),
    ],
)
def test_children(body: str, child: Child) -> None:
    step, warned = step_of(f"{body}\nwith: {{month: 5}}")
    assert (step.child, step.inputs, step.action, warned) == (child, {"month": 5}, None, set())


def test_what_a_child_answers_names_the_childs_steps() -> None:
    step, warned = step_of('type: playbook\npath: a/b\nreturn: "{{ of_the_child.n }}"')
    assert (step.start_reads, warned) == ((), set())


def test_the_conditions_of_retry_may_ask_for_the_try() -> None:
    step, warned = step_of(f'{ACTING}\nretry: {{stop_when: "{{{{ attempt > 1 }}}}"}}')
    assert step.retry is not None
    assert (step.retry.stop_when, warned) == ("{{ attempt > 1 }}", set())


def test_what_a_child_or_a_wait_is_called_by_is_read_when_it_starts() -> None:
    step, _ = step_of('type: playbook\npath: "{{ start.path }}"\nversion: "{{ a.v }}"')
    assert step.start_reads == ("a", "start")
    step, _ = step_of('type: approval\nmessage: "{{ start.n }}"\nform: {n: {default: "{{ a.n }}"}}')
    assert step.start_reads == ("a", "start")


def test_two_versions_of_a_child_are_told() -> None:
    step, warned = step_of("type: playbook\npath: a/b:0.1.2\nversion: 0.1.3")
    assert step.child == Child(path="a/b", version="0.1.3")
    assert warned == {"spelling_conflict"}


@pytest.mark.parametrize(
    ("body", "wait"),
    [
        ("type: wait\nduration: 5m", Wait(kind="duration", what=300.0)),
        ("type: wait\nduration: 90", Wait(kind="duration", what=90.0)),
        ('type: wait\nduration: "{{ workload.d }}"', Wait(kind="duration", what="{{ workload.d }}")),
        ('type: wait\nuntil: "2030-01-31T08:00:00Z"', Wait(kind="until", what="2030-01-31T08:00:00Z")),
        ('type: wait\nuntil: "{{ workload.t }}"', Wait(kind="until", what="{{ workload.t }}")),
        ("type: wait\nfor: signal paid", Wait(kind="signal", what="paid")),
        ("type: wait\nfor: {signal: paid}", Wait(kind="signal", what="paid")),
        ('type: Wait\nsignal: "paid-{{ workload.id }}"', Wait(kind="signal", what="paid-{{ workload.id }}")),
        ("type: approval\nmessage: Ship it?", Wait(kind="approval", what="Ship it?")),
        (
            "type: approval\nmessage: Ship it?\napprovers: ann\nform: {note: null, n: {type: int, label: How many, required: true, default: 1}}",
            Wait(
                kind="approval",
                what="Ship it?",
                approvers=("ann",),
                form={
                    "note": {"type": "text", "label": "note", "required": False},
                    "n": {"type": "integer", "label": "How many", "required": True, "default": 1},
                },
            ),
        ),
        (
            "type: approval\nmessage: Ship it?\napprovers: [ann, leads]",
            Wait(kind="approval", what="Ship it?", approvers=("ann", "leads")),
        ),
    ],
)
def test_waits(body: str, wait: Wait) -> None:
    step, warned = step_of(f"{body}\ntimeout: 2h\nnext: a")
    assert (step.wait, step.timeout_seconds, step.action, warned) == (wait, 7200.0, None, set())


@pytest.mark.parametrize(
    "body",
    [
        'transform: {template: "{{ start.n }}"}',
        'type: transform\ntransform: {template: "{{ start.n }}"}',
        'type: transform\ntemplate: "{{ start.n }}"',
    ],
)
def test_a_transform_gives_a_rendered_template(body: str) -> None:
    step, warned = step_of(body)
    assert (step.action, step.result, step.start_reads) == (None, "{{ start.n }}", ("start",))
    assert warned == set()


def test_a_transform_gives_a_map_or_runs_a_script() -> None:
    step, _ = step_of('transform: {mapping: {n: "{{ workload.n }}", kind: new}}')
    assert (step.result, step.start_reads) == ({"n": "{{ workload.n }}", "kind": "new"}, ("workload",))
    step, warned = step_of('transform: {script: "def main(n): return n"}\nwith: {n: 1}')
    assert step.action == Action(kind="python", arguments={"code": "def main(n): return n"}, verbatim=("code",))
    assert (step.inputs, step.result, warned) == ({"n": 1}, None, set())


# -- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        ("retry: 5", Retry(max_attempts=5)),
        ("retry: true", Retry()),
        ("retry: {}", Retry()),
        ("retry: false", None),
        ("retry: 2\nretry_delay: 1m", Retry(max_attempts=2, initial_delay=60)),
        ("retry: {initial_delay: 5s}\nretry_delay: 1m", Retry(initial_delay=5)),
        (
            "retry: {max_attempts: 4, initial_delay: 250ms, backoff_multiplier: 3, max_delay: 2m, jitter: true}",
            Retry(max_attempts=4, initial_delay=0.25, backoff_multiplier=3, max_delay=120, jitter=0.5),
        ),
        ("retry: {jitter: 0.1, initial_delay: 0}", Retry(jitter=0.1, initial_delay=0)),
        (
            'retry: {retry_when: "{{ error.code == 503 }}", stop_when: "{{ load.n }}"}',
            Retry(retry_when="{{ error.code == 503 }}", stop_when="{{ load.n }}"),
        ),
    ],
)
def test_retries(retry: str, expected: Retry | None) -> None:
    step, warned = step_of(f"{ACTING}{retry}")
    assert (step.retry, warned) == (expected, set())
    assert step.next_reads == (("error", "load") if "stop_when" in retry else ())


@pytest.mark.parametrize(
    ("on_error", "mode", "targets"),
    [
        ("fail", "fail", ()),
        ("Continue", "continue", ()),
        ("a", "route", (Target(step="a"),)),
        ("[a, b]", "route", (Target(step="a"), Target(step="b"))),
        ("[{step: a, with: {why: 1}}]", "route", (Target(step="a", inputs={"why": 1}),)),
        ("{step: a, data: {why: 1}}", "route", (Target(step="a", inputs={"why": 1}),)),
    ],
)
def test_on_error(on_error: str, mode: str, targets: tuple[Target, ...]) -> None:
    step, warned = step_of(f"{ACTING}on_error: {on_error}")
    assert (step.on_error, step.error_targets, warned) == (mode, targets, set())


def test_what_follows_a_failure_is_read_after_the_step() -> None:
    step, warned = step_of(
        f'{ACTING}on_error: {{step: a, with: {{why: "{{{{ load.error }}}}", old: "{{{{ start.n }}}}"}}}}'
    )
    assert (step.start_reads, step.next_reads, warned) == ((), ("load", "start"), set())


@pytest.mark.parametrize(
    ("undo", "inputs"),
    [
        ("undo: back", {"a": 1, "id": "{{ load.id }}"}),
        ("undo: {task: back, with: {a: 2}}", {"a": 2, "id": "{{ load.id }}"}),
        ('undo: {type: python, code: x, args: {id: "{{ load.id }}"}}', {"id": "{{ load.id }}"}),
    ],
)
def test_undo(undo: str, inputs: dict[str, Any]) -> None:
    playbook, problems = read(
        f"""
        workbook:
          - {{name: back, type: python, code: x, with: {{a: 1, id: "{{{{ load.id }}}}"}}}}
        workflow:
          - {{step: start, next: load}}
          - {{step: load, type: playbook, path: a/b, {undo}}}
        """
    )
    step = playbook.steps[1]
    assert problems == ()
    assert step.undo is not None
    assert (step.undo.kind, step.undo.arguments, step.undo_inputs) == ("python", {"code": "x"}, inputs)
    assert (step.start_reads, step.next_reads) == ((), ("load",))


def test_a_task_may_bring_its_timeout_retry_and_on_error() -> None:
    playbook, problems = read(
        """
        workbook:
          - {name: grade, type: python, code: x, retry: 2, on_error: continue, timeout: 5}
          - {name: other, type: playbook, path: a/b, with: {n: 1}}
        workflow:
          - {step: start, type: workbook, name: grade, next: kid}
          - {step: kid, type: workbook, task: other, with: {m: 2}, next: own}
          - {step: own, type: workbook, task: grade, retry: 7, on_error: fail, timeout: 6}
        """
    )
    start, kid, own = playbook.steps
    assert problems == ()
    assert (start.retry, start.on_error, start.timeout_seconds) == (Retry(max_attempts=2), "continue", 5)
    assert (kid.child, kid.inputs, kid.action) == (Child(path="a/b"), {"n": 1, "m": 2}, None)
    assert (own.retry, own.on_error, own.timeout_seconds) == (Retry(max_attempts=7), "fail", 6)


# -- the step and the playbook ----------------------------------------------------------------------------------


def test_join_resources_and_save() -> None:
    step, warned = step_of(f'{ACTING}join: ANY\nresources: {{http_pool: 1}}\nsink: {{data: "{{{{ this.x }}}}"}}')
    arguments = {"storage": "event_log", "data": "{{ this.x }}"}
    assert (step.join, step.save) == ("any", Save(action=Action(kind="save", arguments=arguments)))
    assert warned == set()


@pytest.mark.parametrize(
    ("returned", "result", "reads"),
    [
        ("load", '{{ steps["load"].data }}', ("load", "steps")),
        ('"{{ load.n }}"', "{{ load.n }}", ("load",)),
        ("it's 5 %", '{{ steps["it\'s 5 %"].data }}', ("it's 5 %", "steps")),
    ],
)
def test_what_the_end_returns(returned: str, result: str, reads: tuple[str, ...]) -> None:
    playbook, problems = read(
        f"""
        workflow:
          - {{step: start, next: [load, "it's 5 %"]}}
          - {{step: load, type: python, code: x, next: end}}
          - {{step: "it's 5 %", type: python, code: x, next: end}}
          - {{step: end, return: {returned}}}
        """
    )
    assert problems == ()
    assert (playbook.steps[-1].result, playbook.steps[-1].start_reads) == (result, reads)


def test_result_counts_over_return() -> None:
    playbook, problems = read("workflow:\n  - {step: start, next: end}\n  - {step: end, result: {n: 1}, return: start}")
    assert playbook.steps[-1].result == {"n": 1}
    assert [problem.code for problem in problems] == ["spelling_conflict"]


def test_the_playbooks_own_keys() -> None:
    playbook, problems = read(
        """
        timeout: 2h
        max_visits: 7
        coerce: Legacy
        labels: {team: a}
        credentials: [{name: shop}]
        on_error: [repair, {step: tell, with: {why: "{{ load.error }}"}}]
        finally: tidy
        workload: {steps_override: {load: {n: 1}}}
        workflow:
          - {step: start, next: load}
          - {step: load, type: postgres, auth: shop, command: SELECT 1}
          - {step: repair}
          - {step: tell, pass: "{{ why }}"}
          - {step: tidy, next: swept}
          - {step: swept, when: "{{ tell.n }}"}
        """
    )
    assert problems == ()
    assert (playbook.timeout_seconds, playbook.max_visits, playbook.coerce) == (7200.0, 7, "legacy")
    assert playbook.on_error == (Target(step="repair"), Target(step="tell", inputs={"why": "{{ load.error }}"}))
    assert playbook.finally_steps == ("tidy",)
    assert playbook.steps[0].next_reads == ("load",)


def test_what_counts_when_a_playbook_says_nothing() -> None:
    playbook, _ = read("workflow:\n  - {step: start, type: python, code: x, retry: true}")
    [start] = playbook.steps
    assert (playbook.max_visits, playbook.timeout_seconds, playbook.coerce) == (1000, None, "native")
    assert start.retry == Retry(max_attempts=3, initial_delay=1, backoff_multiplier=2, max_delay=60, jitter=0)
    assert (start.join, start.on_error, start.timeout_seconds, start.inputs) == (None, "fail", None, {})


@pytest.mark.parametrize("finally_steps", ["tidy", "[tidy]"])
def test_spellings_of_finally(finally_steps: str) -> None:
    playbook, _ = read(f"finally: {finally_steps}\non_error: start\nworkflow:\n  - step: start\n  - step: tidy")
    assert playbook.finally_steps == ("tidy",)
    assert playbook.on_error == (Target(step="start"),)


@pytest.mark.parametrize("override", ["[start, load]", "{load: null}", "'{{ env.STEPS }}'", "null"])
def test_steps_override_is_checked_when_it_is_written_out(override: str) -> None:
    _, problems = read(
        f"workload: {{steps_override: {override}}}\nworkflow:\n  - {{step: start, next: load}}\n  - step: load"
    )
    assert problems == ()


def test_names_of_the_language_are_known() -> None:
    names = "execution secret.x index batch parent input loop_results path version step_name data this".split()
    template = "".join(f"{{{{ {name} }}}}" for name in names)
    _, problems = read(f'workflow:\n  - {{step: start, pass: "{template}"}}')
    assert problems == ()
