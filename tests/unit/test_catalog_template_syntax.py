"""Templates: what is refused, what is read, and that checking computes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.domain.template_syntax import check, is_template, names_read


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("{{ a | nope }}", "no filter `nope`", 1),
        ("{{ a | random }}", "no filter `random`", 1),
        ("{{ a | pprint }}", "no filter `pprint`", 1),
        ("{{ a | map('random') | list }}", "no filter `random`", 1),
        ("{{ a | select('nope') | list }}", "no test `nope`", 1),
        ("{{ a is nope }}", "no test `nope`", 1),
        ("x\n\n{{ a | nope }}", "no filter `nope`", 3),
        ("{{ 1 + }}", "unexpected", 1),
        ("{{ a", "unexpected", 1),
        ("{% if a %}", "nexpected end", 1),
        ("{% include 'a' %}", "`include`", 1),
        ("{% import 'a' as b %}", "`import`", 1),
        ("{% from 'a' import b %}", "`import`", 1),
        ("{% extends 'a' %}", "`extends`", 1),
        ("{% block a %}{% endblock %}", "`block`", 1),
        ("{% macro a() %}{% endmacro %}", "`macro`", 1),
        ("{% call a() %}{% endcall %}", "`call`", 1),
        ("{% do a %}", "unknown tag", 1),
        ("{% for a in b recursive %}{% endfor %}", "recursive", 1),
        ("{{ steps[a] }}", "literal", 1),
        ("{{ results[a] }}", "literal", 1),
        ("{{ steps | length }}", "name the step", 1),
    ],
)
def test_refused(text: str, said: str, line: int) -> None:
    problem = check(text)
    assert problem is not None
    assert said in problem.message
    assert problem.line == line


@pytest.mark.parametrize(
    "text",
    [
        "plain | random",
        "{{}}",
        "{{ a | default('x') | tojson }}{{ a | to_json | fromjson }}{{ b | b64encode | b64decode | sql }}",
        "{{ steps.a.b }}{{ steps['a b'].c }}{{ results['a'] }}{{ results[0] }}",
        "{% for x in a if x is defined %}{{ x }}{% else %}none{% endfor %}",
        "{% set n = namespace(v=1) %}{% set n.v = 2 %}{{ range(3) | list }}{{ dict(a=1) }}{{ now() }}{{ tojson(a) }}",
        "{{ a | map(attribute='x') | select('>', 3) | list }}",
    ],
)
def test_accepted(text: str) -> None:
    assert check(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "{{ 9 ** (9 ** 9) }}",
        "{{ -9 ** 9 ** 9 }}",
        "{{ 'a' * 10000000000 }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ 'a' | batch(9999999999, 0) | list }}",
        "{{ 'a' | indent(9999999999) }}",
        "{{ '%9999999999d' | format(1) }}",
        "{{ 1 if 'a' * 9999999999 is string }}",
        "{{ " + "(" * 30_000,
        "{{ " + "-" * 30_000 + "1 }}",
        "{{ " + "9" * 5_000 + " }}",
        "{{ " + "a." * 30_000 + "b }}",
        "{{ " + "1+" * 30_000 + "1 }}",
        "{{ a" + " | lower" * 7_000 + " }}",
        "{% if 1 %}" * 6_000,
        "{{ a }}" * 20_000,
    ],
    ids=range(16),
)
def test_checking_computes_nothing_and_never_raises(text: str) -> None:
    check(text)
    names_read(text)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("{{ a.b.c + d['e'] }}", {"a", "d"}),
        (
            "{{ steps.load.rows }} {{ steps['x y'].n }} {{ results.z }}",
            {"steps", "results", "load", "x y", "z"},
        ),
        ({"k": ["{{ a }}", {"{{ key }}": "{{ b }}"}], "n": 5, "t": None}, {"a", "b"}),
        ("{% for x in items %}{{ x }}{{ y }}{% endfor %}{% set q = w %}{{ q }}", {"items", "y", "w"}),
        ("{{}}", set()),
        ("a b", set()),
        ("{{ a + }}", set()),
        ("{% raw %}{{ a }}{% endraw %}", set()),
        (7, set()),
        (("{{ a }}",), {"a"}),
    ],
)
def test_names_read(value: Any, names: set[str]) -> None:
    assert names_read(value) == names


def test_a_text_with_either_mark_is_a_template() -> None:
    assert [is_template(text) for text in ("{{ a }}", "{% if a %}", "{{", "{a}", "}}", "")] == [
        *(True, True, True, False, False, False)
    ]
