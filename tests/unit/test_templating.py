"""What a template gives, and what it may not do."""

from __future__ import annotations

from typing import Any

import pytest

from executions.domain.conditions import evaluate, is_true, mentions_failure
from executions.domain.results import MISSING, StepResult
from executions.domain.templating import render
from executions.errors import TemplateError


def rendered(value: Any, **names: Any) -> Any:
    return render(value, lambda name: names.get(name, MISSING))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ n }}", 3),
        ("{{ n + 1 }}", 4),
        ("{{ 1 + 1 }}", 2),
        ("{{ true }}", True),
        ("{{ none }}", None),
        ("{{ [1, n] }}", [1, 3]),
        ("{{ {'a': n} }}", {"a": 3}),
        ("{{ text }}", "007"),
        ("{{ n }} of {{ n }}", "3 of 3"),
        (" {{ n }} ", 3),
        ("no template", "no template"),
        ("{{}}", ""),
        ("{% if n > 2 %}big{% else %}small{% endif %}", "big"),
        ("{{ deep.items }}", "the key"),
        ("{{ deep.list[1] }}", 2),
        ("{{ deep.missing | default('d') }}", "d"),
        ("{{ nothing.at.all | default('d') }}", "d"),
        ("{{ deep.list | map('string') | list }}", ["1", "2"]),
        ("{{ data | tojson }}", '{"a": [1, null]}'),
        ("{{ '[1]' | fromjson }}", [1]),
        ("{{ 'x' | b64encode }}", "eA=="),
        ("{{ '%05.1f|%s' | format(2.25, 'x') }}", "002.2|x"),
        ("{{ [1, 2, 3] | slice(2) | list }}", [[1, 2], [3]]),
        ("{{ [1, 2, 3] | batch(2, 0) | list }}", [[1, 2], [3, 0]]),
        ("{{ [{'a': 1}, {'a': 2}] | join(',', attribute='a') }}", "1,2"),
        ("{{ 'aXbX' | replace('X', '-') }}", "a-b-"),
        ("{{ n ~ '/' ~ text }}", "3/007"),
        ("{{ text.startswith('00') and 'a,b'.split(',') == ['a', 'b'] }}", True),
        ("{{ deep.list | sum }}", 3),
        ("{{ 2.345 | round(1) }}", 2.3),
        ("{{ text | int }}", 7),
        ({"a": ["{{ n }}", {"b": "{{ n }}"}], "c": 1}, {"a": [3, {"b": 3}], "c": 1}),
    ],
)
def test_a_template_gives_its_native_value(template: Any, expected: Any) -> None:
    names = {"n": 3, "text": "007", "deep": {"items": "the key", "list": [1, 2]}, "data": {"a": [1, None]}}
    assert rendered(template, **names) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ s }}", {"n": 3}),
        ("{{ s.n }}", 3),
        ("{{ s['n'] }}", 3),
        ("{{ s.data.n }}", 3),
        ("{{ s.result.n }}", 3),
        ("{{ s.status }}", "success"),
        ("{{ s.error }}", None),
        ("{{ s.n > 2 and s.status == 'success' }}", True),
        ("{{ s.items() | list }}", [["n", 3]]),
        ("{{ own.status }}", "mine"),
        ("{{ scalar.result + scalar.value + scalar }}", 15),
        ("{{ rows | length }}", 2),
        ("{{ rows[0].a }}", 1),
        ("{% for row in rows %}{{ row.a }}{% endfor %}", "12"),
        ("{{ failed.error.code }}", "boom"),
    ],
)
def test_a_step_answers_for_its_result_and_its_envelope(template: str, expected: Any) -> None:
    names = {
        "s": StepResult("success", {"n": 3}),
        "own": StepResult("success", {"status": "mine"}),
        "scalar": StepResult("success", 5),
        "rows": StepResult("success", [{"a": 1}, {"a": 2}]),
        "failed": StepResult("error", None, {"code": "boom"}),
    }
    assert rendered(template, **names) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ n.__class__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ s.__init__ }}",
        "{{ 'a' * 10000000000 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ range(10 ** 9) | list }}",
        "{{ '%s' % n }}",
        "{{ list.append(1) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
        "{{ 'a' | indent(800000000) }}",
        "{{ '%900000000d' | format(1) }}",
        "{{ '%*d' | format(900000000, 1) }}",
        "{{ [1] | batch(50000000, 0) | list | length }}",
        "{{ [1] | slice(50000000) | list | length }}",
        "{{ ('a' * 1000) | replace('a', 'b' * 10000) }}",
        "{{ range(9999) | join('x' * 9999) }}",
        "{% set a = 'aaaaaaaaaa' %}" + "{% set a = a ~ a %}" * 40 + "{{ a | length }}",
        "{% set a = [1, 2] %}" + "{% set a = a + a %}" * 40 + "{{ a | length }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% set a = [1] %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}",
        "{% set a = {'k': [1, 2]} %}" + "{% set a = {'k': a, 'l': a} %}" * 30 + "{{ a | string | length }}",
        "{% set a = [1] %}" + "{% set a = dict(k=a, l=a) %}" * 30 + "{{ a }}",
        "{% set a = [1] %}" + "{% set a = [a] * 50000 %}" * 4 + "{{ a }}",
        "{{ 'a'.ljust(300000000) }}",
        "{{ '{:>300000000}'.format('a') }}",
        "{{ 'a'.replace('a', 'b') }}",
        "{{ ','.join(['a']) }}",
        "{{ (5).to_bytes(3000000, 'big') }}",
        "{{ 5 | round(3000000, 'ceil') }}",
        "{{ ([[1]] * 100) | sum(start=[]) }}",
        "{{ [[['a'] * 300] * 300] * 30 }}",
        "{% set budget__ = {'loop': range} %}{% for a in [1] %}{% endfor %}",
        "{{ proxied__s }}",
        "{{ __value }}",
        "{{ 'AA==' | b64decode }}",
        "{{ '[NaN]' | fromjson }}",
        "{{ '\"\\ud800\"' | fromjson }}",
        "{{ ('f' * 5000) | int(0, 16) }}",
        "{{ 1e308 * 10 }}",
        "{% for a in [1] %}" * 21 + "{% endfor %}" * 21,
        "{{ " + " or ".join(["n"] * 220) + " }}",
        "{{ lipsum }}",
        "{{ cycler }}",
        "{{ self }}",
        "{{ n | attr('real') }}",
        "{{ unknown }}",
        "{{ unknown.attribute }} text",
        "{{ s.missing }}",
        "{{ 1 / 0 }}",
        "{{ n | sql }}",
    ],
)
def test_what_is_unsafe_or_undefined_is_an_error(template: str) -> None:
    with pytest.raises(TemplateError):
        rendered(template, n=3, s=StepResult("success", {}), list=[1])


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ rows | length }}{{ rows | length }}", "2000020000"),
        ("{{ rows | map(attribute='total') | sum }}", 199_990_000),
        ("{{ rows | selectattr('id', 'in', [1, 2]) | map(attribute='name') | map('upper') | join }}", "NAME 1NAME 2"),
        ("{{ (rows | sort(attribute='total', reverse=true) | first).id }}", 19_999),
        ("{{ rows | map(attribute='name') | unique | list | length }}", 20_000),
        ("{{ rows | tojson | length > 1000000 }}", True),
        ("{{ (rows | groupby('kind') | list | length) + (rows | batch(100) | list | length) }}", 205),
        (
            "{% set n = namespace(v=0) %}{% for r in rows %}{% if r.id in ids %}{% set n.v = n.v + 1 %}{% endif %}"
            "{% endfor %}{{ n.v }}",
            "500",
        ),
        ("{% for r in rows %}{{ 'x' if r.kind == 3 and r.name is string else '' }}{% endfor %}", "x" * 4000),
        ("{% for r in rows %}{{ names.get(r.name, '') }}{% endfor %}", "y"),
    ],
)  # fmt: skip
def test_many_rows_are_no_bomb(template: str, expected: Any) -> None:
    rows = [{"id": n, "name": f"name {n}", "kind": n % 5, "total": n, "note": "x" * 60} for n in range(20_000)]
    assert rendered(template, rows=rows, ids=list(range(0, 5000, 10)), names={"name 7": "y"}) == expected


@pytest.mark.parametrize("nothing", [None, [], {}, ""])
@pytest.mark.parametrize("filter_", ["map('upper')", "select", "reject", "selectattr('a')", "rejectattr('a')"])
def test_a_filter_of_items_makes_an_empty_list_of_nothing(nothing: Any, filter_: str) -> None:
    assert rendered(f"{{{{ nothing | {filter_} | list }}}}", nothing=nothing) == []


def test_an_error_speaks_the_playbooks_names() -> None:
    with pytest.raises(TemplateError, match=r"^'load' is undefined in \{\{ load.rows\[0\] \}\}$"):
        rendered("{{ load.rows[0] }}")


@pytest.mark.parametrize("value", ["", "0", "false", "NO", "n", "Off", " none ", "null", None, False, 0, [], {}])
def test_what_is_false(value: Any) -> None:
    assert not is_true(value)


@pytest.mark.parametrize("value", ["yes", "1", "true", "anything", True, 1, -1, [0], {"a": None}])
def test_what_is_true(value: Any) -> None:
    assert is_true(value)


def test_a_condition_that_fails_is_false_with_its_reason() -> None:
    verdict = evaluate("{{ a.b > 1 }}", lambda name: MISSING)
    assert (verdict.truth, verdict.value) == (False, None)
    assert "'a' is undefined" in verdict.warning


@pytest.mark.parametrize(
    ("condition", "mentions"),
    [
        ("{{ load.status == 'error' }}", True),
        ("{{ load.error }}", True),
        ("{{ steps.load.error.code == 'x' }}", True),
        ("{{ status == 'error' }}", True),
        ("{{ error.code }}", True),
        ("{{ load.rows }}", False),
        ("{{ other.status == 'error' }}", False),
        ("{{ load.data.status }}", False),
    ],
)
def test_which_conditions_make_an_error_branch(condition: str, mentions: bool) -> None:
    assert mentions_failure(condition, "load") is mentions
