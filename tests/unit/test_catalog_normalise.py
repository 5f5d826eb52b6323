"""Every accepted spelling means one thing."""

# ruff: noqa: E501  (playbooks in one line)

from __future__ import annotations

import textwrap
from typing import Any

import jsonschema
import pytest

from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.language_schema import build_language_schema
from catalog.domain.normalise import read_playbook
from catalog.domain.parser import parse
from catalog.domain.playbook import Action, Loop, Playbook, Step, Target, Transition
from catalog.errors import Problem
from tests.support.catalog_kinds import SCHEMAS

HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: demo\npath: tests/demo\n"

ORDER_CHECK = """\
apiVersion: noetl.io/v1
kind: Playbook
name: order_check
path: demo/order_check
workload:
  api: "http://127.0.0.1:9900"
  limit: 100
  steps: {store: false}
workbook:
  - name: grade
    type: python
    with: {limit: "{{ workload.limit }}"}
    code: |
      def main(amount, limit):
          return {"big": amount > limit, "amount": amount}
workflow:
  - step: start
    next: load
  - step: load
    type: http
    method: GET
    endpoint: "{{ workload.api }}/orders/1"
    next: assess
  - step: assess
    type: workbook
    task: grade
    with: {amount: "{{ load.data.amount }}"}
    next:
      - when: "{{ assess.big }}"
        then:
          - step: store
            with: {amount: "{{ assess.amount }}"}
      - else: [end]
  - step: store
    pass: "{{ workload.steps.store }}"
    type: postgres
    auth: shop
    command: |
      INSERT INTO big_orders VALUES ({{ amount }});
    next: end
  - step: end
    result: {big: "{{ assess.big }}"}
"""


VALIDATOR = jsonschema.Draft202012Validator(build_language_schema(SCHEMAS))


def read(body: str) -> tuple[Playbook, tuple[Problem, ...]]:
    """The playbook with this body, which the editor's schema accepts as well."""
    text = HEAD + textwrap.dedent(body)
    playbook, problems = read_playbook(text, SCHEMAS)
    assert playbook is not None, problems
    VALIDATOR.validate(parse(text).value)
    return playbook, problems


def step_of(body: str, name: str = "load") -> tuple[Step, set[str]]:
    """The step called load, in a playbook whose other steps are start, a and b; and the codes of warnings."""
    indented = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    text = f"workflow:\n  - step: start\n    next: [load, a, b]\n  - step: load\n{indented}\n  - step: a\n  - step: b\n"
    playbook, problems = read(text)
    return playbook.steps[playbook.index_by_name[name]], {problem.code for problem in problems}


def test_a_whole_playbook() -> None:
    playbook, problems = read_playbook(ORDER_CHECK, SCHEMAS)
    assert playbook is not None
    assert problems == ()
    start, load, assess, store, end = playbook.steps
    assert (start.action, start.next) == (None, (Transition(kind="always", then=(Target(step="load"),)),))
    assert load.action is not None
    assert load.action.arguments == {"method": "GET", "endpoint": "{{ workload.api }}/orders/1"}
    assert assess.action is not None
    assert (assess.action.kind, assess.action.task, assess.action.verbatim) == ("python", "grade", ("code",))
    assert assess.inputs == {"limit": "{{ workload.limit }}", "amount": "{{ load.data.amount }}"}
    assert (assess.start_reads, assess.next_reads) == (("load", "workload"), ("assess",))
    assert store.action is not None
    assert (store.action.sql, store.skip_if) == (("command",), "{{ workload.steps.store }}")
    assert store.start_reads == ("amount", "workload")
    assert (end.result, end.start_reads) == ({"big": "{{ assess.big }}"}, ("assess",))


def target(name: str, **inputs: Any) -> tuple[Target, ...]:
    return (Target(step=name, inputs=inputs),)


A, B = target("a"), target("b")
CONDITION = "{{ load.n == 1 }}"

NEXT_SHAPES: dict[str, tuple[str, list[Transition]]] = {
    "plain name": ("next: a", [Transition(kind="always", then=A)]),
    "names": ("next: [a, b]", [Transition(kind="always", then=A), Transition(kind="always", then=B)]),
    "targets with inputs": (
        "next:\n  - step: a\n    with: {mode: fast}\n  - step: b",
        [Transition(kind="always", then=target("a", mode="fast")), Transition(kind="always", then=B)],
    ),
    "separate else": (
        f'next:\n  - when: "{CONDITION}"\n    then:\n      - step: a\n        with: {{n: 1}}\n  - else:\n      - step: b',
        [
            Transition(kind="condition", when=CONDITION, then=target("a", n=1)),
            Transition(kind="default", then=B),
        ],
    ),
    "else in the item": (
        f'next:\n  - when: "{CONDITION}"\n    then: {{step: a}}\n    else: b',
        [Transition(kind="condition", when=CONDITION, then=A, otherwise=B)],
    ),
    "then without when": (
        f'next:\n  - when: "{CONDITION}"\n    then: [a]\n  - then: [b]',
        [Transition(kind="condition", when=CONDITION, then=A), Transition(kind="default", then=B)],
    ),
    "flat": (
        f'next:\n  - when: "{CONDITION}"\n    step: a\n    data: {{n: 1}}\n  - step: b',
        [
            Transition(kind="condition", when=CONDITION, then=target("a", n=1)),
            Transition(kind="default", then=B),
        ],
    ),
    "mixed": (
        f'next:\n  - step: a\n  - when: "{CONDITION}"\n    then: [b]',
        [Transition(kind="always", then=A), Transition(kind="condition", when=CONDITION, then=B)],
    ),
    "one map": (f'next: {{when: "{CONDITION}", then: a}}', [Transition(kind="condition", when=CONDITION, then=A)]),
    "none": ("next: []", []),
    "literal": ("next: [{when: true, then: a}, {when: 0, then: b}]", [
        Transition(kind="condition", when="true", then=A), Transition(kind="condition", when="false", then=B)]),
}  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), NEXT_SHAPES.values(), ids=NEXT_SHAPES)
def test_shapes_of_next(body: str, expected: list[Transition]) -> None:
    step, warned = step_of(body)
    assert list(step.next) == expected
    assert warned == ({"bare_after_condition"} if "data:" in body else set())


PYTHON = 'code: "def main(**k): return 1"\n'


@pytest.mark.parametrize(
    ("body", "inputs", "warned"),
    [
        ("type: python\nwith: {n: 1}", {"n": 1}, set()),
        ("type: python\ninput: {n: 1}", {"n": 1}, set()),
        ("type: python\npayload: {n: 1}", {"n": 1}, set()),
        ("type: python\nparams: {n: 1}", {"n": 1}, set()),
        ("tool: python\nargs: {n: 1}", {"n": 1}, set()),
        ("action: Python\ndata: {n: 1}\nwith: {m: 2}", {"n": 1, "m": 2}, set()),
        ("type: python\nwith: {n: 1}\ndata: {n: 2}", {"n": 2}, {"spelling_conflict"}),
        ("type: python\ninput: {n: 1}\npayload: {n: 2}", {"n": 1}, {"spelling_conflict"}),
    ],
)
def test_spellings_of_inputs(body: str, inputs: dict[str, Any], warned: set[str]) -> None:
    step, codes = step_of(PYTHON + body)
    assert step.action is not None
    assert (step.action.kind, step.inputs, codes) == ("python", inputs, warned)


@pytest.mark.parametrize(
    ("body", "auth", "warned"),
    [
        ("auth: shop", "shop", set()),
        ("credential: shop", "shop", set()),
        ("credentialRef: shop", "shop", set()),
        ("credentials: shop", "shop", set()),
        ("credentials: {pg: {key: shop}}", "shop", set()),
        ("credentials: {httpBearerAuth: {name: shop}}", "shop", set()),
        ("auth: {pg: {type: postgres, key: shop}}", "shop", set()),
        ("auth: {source: credential, key: shop}", "shop", set()),
        ("auth: {type: postgres, credential: shop}", "shop", set()),
        ("auth: shop\ncredential: shop", "shop", set()),
        ("auth: shop\ncredential: other", "shop", {"spelling_conflict"}),
        ("credentialRef: other\ncredential: shop", "shop", {"spelling_conflict"}),
    ],
)
def test_spellings_of_the_credential(body: str, auth: str, warned: set[str]) -> None:
    step, codes = step_of(f"type: postgres\ncommand: SELECT 1\n{body}")
    assert step.action is not None
    assert (step.action.arguments, codes) == ({"command": "SELECT 1", "auth": auth}, warned)


GENERIC = "authentication: genericCredentialType\ngenericAuthType: httpBearerAuth\n"


@pytest.mark.parametrize(
    ("body", "auth"),
    [
        ("auth: {type: bearer, credential: a}", {"key": "a", "type": "bearer"}),
        ("auth: {type: bearer, secret: a}", {"source": "secret", "key": "a", "type": "bearer"}),
        ("auth: {type: bearer, env: A}", {"source": "env", "key": "A", "type": "bearer"}),
        ("auth: {source: env, key: A}", {"source": "env", "key": "A"}),
        ("auth: {provider: secret_manager, secret_name: a}", {"source": "secret", "key": "a"}),
        (
            'auth: {type: basic, inline: {username: u, password: "{{ secret.p }}"}}',
            {"source": "inline", "fields": {"username": "u", "password": "{{ secret.p }}"}, "type": "basic"},
        ),
        (
            'auth: {source: inline, type: bearer, fields: {token: "{{ secret.p }}"}}',
            {"source": "inline", "fields": {"token": "{{ secret.p }}"}, "type": "bearer"},
        ),
        (
            'auth: {type: header, name: X-Shop, value: "{{ secret.p }}"}',
            {"source": "inline", "fields": {"name": "X-Shop", "value": "{{ secret.p }}"}, "type": "header"},
        ),
        ("auth: {pg: {key: a, scope: 's3://b'}}", {"key": "a", "scope": "s3://b"}),
        (GENERIC + "credentials: {httpBearerAuth: {name: a}}", {"key": "a", "type": "httpBearerAuth"}),
        (GENERIC + "credentials: {httpBearerAuth: a}", {"key": "a", "type": "httpBearerAuth"}),
        ("authentication: none\nauth: a", "a"),
    ],
)
def test_a_reference_that_says_more_than_a_name_is_one_object(body: str, auth: Any) -> None:
    step, codes = step_of(f"type: postgres\ncommand: SELECT 1\n{body}")
    assert step.action is not None
    assert (step.action.arguments["auth"], codes) == (auth, set())


def test_several_credentials_keep_their_aliases() -> None:
    auth = "{pg: {type: postgres, key: pg_main}, lake: {type: gcs, key: hmac1, scope: 'gs://b'}}"
    step, codes = step_of(f"type: duckdb\ncommand: SELECT 1\nauth: {auth}")
    assert step.action is not None
    lake = {"key": "hmac1", "type": "gcs", "scope": "gs://b"}
    assert step.action.arguments["auth"] == {"pg": {"key": "pg_main", "type": "postgres"}, "lake": lake}
    assert codes == set()


def test_of_a_kind_that_uses_all_one_alias_is_kept() -> None:
    step, _ = step_of("type: duckdb\ncommand: SELECT 1\nauth: {lake: {key: hmac1}}")
    assert step.action is not None
    assert step.action.arguments["auth"] == {"lake": "hmac1"}


def test_use_auth_chooses_one_of_several() -> None:
    step, codes = step_of("type: postgres\ncommand: SELECT 1\nauth: {a: x, b: {key: y}}\nuse_auth: b")
    assert step.action is not None
    assert (step.action.arguments["auth"], step.action.arguments["use_auth"]) == ({"a": "x", "b": "y"}, "b")
    assert codes == set()


def test_a_secret_written_into_a_playbook_is_told() -> None:
    _, codes = step_of("type: postgres\ncommand: SELECT 1\nauth: {type: postgres, inline: {dsn: 'host=x'}}")
    assert codes == {"secret_in_playbook"}


def test_the_playbooks_list_gives_credentials_other_names() -> None:
    text = f"""{HEAD}credentials: [{{name: shop, as: pg}}, {{name: other}}]
workflow:
  - step: start
    type: postgres
    auth: {{type: postgres, key: pg}}
    command: SELECT 1
"""
    playbook, problems = read_playbook(text, SCHEMAS)
    assert playbook is not None
    assert playbook.steps[0].action is not None
    assert playbook.steps[0].action.arguments["auth"] == "shop"
    assert [problem.code for problem in problems] == ["credentials_not_read"]


@pytest.mark.parametrize(
    "auth",
    [
        "{a: {key: x}, b: {key: y}}",
        "{source: vault, key: X}",
        "{source: env}",
        "{type: postgres, inline: x}",
        "{type: postgres, inline: {}}",
        "{type: postgres, key: x, sekret: y}",
        "{type: 5, key: x}",
        "{a: [x]}",
        "{}",
    ],
)
def test_a_credential_that_names_none_is_refused(auth: str) -> None:
    step = f"{{step: start, type: postgres, command: SELECT 1, credentials: {auth}}}"
    playbook, problems = read_playbook(f"{HEAD}workflow:\n  - {step}\n", SCHEMAS)
    assert playbook is None
    assert {problem.code for problem in problems if problem.severity == "error"} <= {
        "invalid_argument",
        "missing_argument",
    }


@pytest.mark.parametrize("keys", ["authentication: genericCredentialType", "genericAuthType: httpBearerAuth"])
def test_a_generic_type_without_its_credential_is_refused(keys: str) -> None:
    text = f"{HEAD}workflow:\n  - {{step: start, type: postgres, command: SELECT 1, auth: a, {keys}}}\n"
    playbook, problems = read_playbook(text, SCHEMAS)
    assert playbook is None
    assert [problem.code for problem in problems] == ["invalid_argument"]


def test_http_keeps_its_own_meaning_of_payload_params_and_data() -> None:
    step, _ = step_of("type: http\nendpoint: x\npayload: {a: 1}\nparams: {b: 2}\ndata: {c: 3}\nwith: {d: 4}")
    assert step.action is not None
    assert step.action.arguments == {
        "endpoint": "x",
        "payload": {"a": 1},
        "params": {"b": 2},
        "data": {"c": 3},
    }
    assert step.inputs == {"d": 4}


@pytest.mark.parametrize(
    "body",
    [
        "call: {type: python, code: x, with: {n: 1}}",
        "call: {code: x}\ntype: python\nwith: {n: 1}",
        "call: {type: python, code: x}\ntype: http\nwith: {n: 1}",
    ],
)
def test_call_wins_and_the_step_fills_in(body: str) -> None:
    step, _ = step_of(body)
    assert step.action is not None
    assert (step.action.kind, step.action.arguments, step.inputs) == ("python", {"code": "x"}, {"n": 1})


@pytest.mark.parametrize(
    ("step", "list_key"),
    [
        ("- step: load\n    type: workbook\n    task: grade", "workbook"),
        ("- step: load\n    type: workbook\n    name: grade", "workbook"),
        ("- name: load\n    type: workbook\n    task: grade", "tasks"),
        ("- step: load\n    call: {task: grade}", "workbook"),
        ("- step: load\n    call: {name: grade, type: workbook}", "workbook"),
        ("- step: grade\n    type: workbook", "workbook"),
        ("- task: grade\n    type: workbook", "workbook"),
    ],
)
def test_workbook_references(step: str, list_key: str) -> None:
    tasks = "  - name: grade\n    type: python\n    code: x\n    timeout: 5m\n    with: {a: 1, b: 2}\n    returns: {n: int}\n"
    text = f"{list_key}:\n{tasks}workflow:\n  - step: start\n    next: {'grade' if 'load' not in step else 'load'}\n  {step}\n    with: {{b: 3}}\n"
    playbook, problems = read(text)
    assert problems == ()
    found = playbook.steps[1]
    assert found.action is not None
    assert (found.action.task, found.action.arguments) == ("grade", {"code": "x"})
    assert (found.inputs, found.timeout_seconds) == ({"a": 1, "b": 3}, 300.0)


@pytest.mark.parametrize("key", ["workflow", "steps", "tasks"])
@pytest.mark.parametrize("identity", ["step", "name", "task"])
def test_spellings_of_the_workflow(key: str, identity: str) -> None:
    playbook, problems = read(f"{key}:\n  - {identity}: start\n    desc: first\n    next: end\n  - {identity}: end\n")
    assert [step.name for step in playbook.steps] == ["start", "end"]
    assert playbook.steps[0].description == "first"
    assert problems == ()


def test_metadata_holds_the_head() -> None:
    text = "apiVersion: noetl.io/v2\nkind: playbook\nname: old\nmetadata: {name: new, path: a/b, version: 1, description: d}\n"
    playbook, problems = read_playbook(text + "workflow: [{step: start}]", SCHEMAS)
    assert playbook is not None
    assert (playbook.name, playbook.path, playbook.description) == ("new", "a/b", "d")
    assert [problem.code for problem in problems] == ["spelling_conflict"]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90.0), ("1.5", 1.5), ("90s", 90.0), ("5m", 300.0), ("2h", 7200.0), ("'250ms'", 0.25)],
)
def test_timeouts(given: str, seconds: float) -> None:
    assert step_of(f"timeout: {given}")[0].timeout_seconds == seconds


def test_an_inline_loop() -> None:
    step, warned = step_of(
        PYTHON + 'type: python\nwith: {n: "{{ item.n }}"}\n'
        'loop: {in: "{{ workload.list }}", iterator: item, where: "{{ item.ok }}", mode: async, concurrency: 4}'
    )
    assert warned == set()
    assert step.loop is not None
    assert step.loop == Loop(
        items="{{ workload.list }}", element="item", filter="{{ item.ok }}", mode="parallel", concurrency=4
    )
    assert step.start_reads == ("item", "workload")


@pytest.mark.parametrize("kept", ["''", "'{{}}'", "null"])
def test_an_empty_filter_keeps_all(kept: str) -> None:
    step, _ = step_of(f"{PYTHON}type: python\nloop: {{in: [1], iterator: item, filter: {kept}}}")
    assert step.loop is not None
    assert step.loop.filter is None


def test_templates_may_stand_for_any_argument() -> None:
    step, warned = step_of(
        'type: http\nendpoint: "{{ workload.u }}"\nmethod: "{{ workload.m }}"\nheaders: "{{ workload.h }}"\n'
        'verify: "{{ workload.v }}"'
    )
    assert step.action is not None
    assert warned == set()


def test_start_and_end_may_act_and_cycles_are_allowed() -> None:
    playbook, problems = read(
        f"""
        workflow:
          - step: start
            type: python
            {PYTHON.strip()}
            next: end
          - step: end
            type: python
            {PYTHON.strip()}
            next: [{{when: "{{{{ end.again }}}}", then: start}}]
        """
    )
    assert problems == ()
    assert all(step.action is not None for step in playbook.steps)
    assert playbook.ancestors == (0b11, 0b11)


def test_a_step_may_read_only_what_can_have_run() -> None:
    _, problems = read(
        """
        workflow:
          - step: start
            next: [{when: "{{ start.x and late.x }}", then: early}, {else: late}]
          - {step: early, next: late}
          - {step: late, when: "{{ early.n }}", next: end}
          - {step: end, result: "{{ late.n }}{{ early.n }}"}
        """
    )
    assert [(problem.code, problem.line) for problem in problems] == [("step_cannot_have_run", 8)]


def test_four_thousand_steps_are_read() -> None:
    steps = "".join(
        f'  - step: s{i}\n    type: python\n    with: {{n: "{{{{ s{i - 1}.n }}}}"}}\n    code: x\n    next: s{i + 1}\n'
        for i in range(1, 4000)
    )
    playbook, problems = read(
        f"workflow:\n  - {{step: start, next: s0}}\n  - {{step: s0, next: s1}}\n{steps}  - step: s4000\n"
    )
    assert playbook.ancestors[-1].bit_count() == 4001
    assert problems == ()


def test_a_timeout_is_told_to_a_kind_that_has_one() -> None:
    kinds = {"http": {"properties": {"url": {}, "endpoint": {}, "timeout": {"type": "number"}}}}
    text = f"{HEAD}workflow:\n  - {{step: start, type: http, url: x, timeout: 2m}}\n"
    playbook, _ = read_playbook(text, ActionSchemas(kinds))
    assert playbook is not None
    assert playbook.steps[0].timeout_seconds == 120.0
    assert playbook.steps[0].action == Action(kind="http", arguments={"url": "x", "timeout": 120.0})


@pytest.mark.parametrize("given", ["endpoint: x, url: y", "method: GET"])
def test_one_address_is_needed(given: str) -> None:
    kinds: dict[str, dict[str, Any]] = {"http": {"properties": {"url": {}, "endpoint": {}, "method": {}}}}
    text = f"{HEAD}workflow:\n  - {{step: start, type: http, {given}}}\n"
    playbook, problems = read_playbook(text, ActionSchemas(kinds))
    assert playbook is None
    assert [problem.code for problem in problems] == ["invalid_argument" if "url" in given else "missing_argument"]


LIFTING: dict[str, dict[str, Any]] = {
    "move": {
        "properties": {
            "source": {"type": "object", "x-noetl-lifts": {"auth": "auth.reading", "query": "query"}},
            "target": {"type": "object", "x-noetl-lifts": {"auth": "auth.writing"}},
            "query": {"type": "string", "x-noetl-template": "verbatim"},
            "auth": {"x-noetl-credentials": "many"},
        }
    }
}


def read_move(step: str) -> tuple[Playbook | None, tuple[Problem, ...]]:
    return read_playbook(f"{HEAD}workflow:\n  - {{step: start, type: move, {step}}}\n", ActionSchemas(LIFTING))


def test_keys_of_a_map_move_to_where_their_rules_hold() -> None:
    source = 'source: {type: a, auth: shop, query: "SELECT {{ x }}"}'
    playbook, problems = read_move(f"{source}, target: {{type: b, auth: {{type: postgres, key: lake}}}}")
    assert playbook is not None and problems == ()
    action = playbook.steps[0].action
    assert action is not None
    assert action.verbatim == ("query",)
    assert action.arguments == {
        "source": {"type": "a"},
        "target": {"type": "b"},
        "query": "SELECT {{ x }}",
        "auth": {"reading": "shop", "writing": {"key": "lake", "type": "postgres"}},
    }


@pytest.mark.parametrize("twice", ["query: b", "auth: {reading: other}", "auth: other"])
def test_a_key_that_is_said_in_both_places_is_refused(twice: str) -> None:
    playbook, problems = read_move(f"source: {{auth: shop, query: a}}, {twice}")
    assert playbook is None
    assert [problem.code for problem in problems] == ["spelling_conflict"]
