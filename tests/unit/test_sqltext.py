"""SQL templates: no value gets out of its place."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.domain.results import MISSING
from executions.domain.sqltext import render_sql
from executions.errors import TemplateError


def sql(template: str, **names: Any) -> Any:
    return render_sql(template, lambda name: names.get(name, MISSING))


@pytest.mark.parametrize(
    ("template", "value", "expected"),
    [
        ("SELECT {{ v }}", 3, "SELECT 3"),
        ("SELECT 5-{{ v }}", -3, "SELECT 5-(-3)"),
        ("SELECT {{ v }}", 1.5, "SELECT 1.5"),
        ("SELECT {{ v }}", True, "SELECT true"),
        ("SELECT {{ v }}", None, "SELECT null"),
        ("SELECT * FROM {{ v }}", "public.orders", "SELECT * FROM public.orders"),
        ("SELECT '{{ v }}'", "it's", "SELECT 'it''s'"),
        ("SELECT 'a {{ v }} b'", 3, "SELECT 'a 3 b'"),
        ("SELECT E'{{ v }}'", "a\\' b", "SELECT E'a\\\\'' b'"),
        ('SELECT "{{ v }}"', 'na"me', 'SELECT "na""me"'),
        ("SELECT $${{ v }}$$", "it's", "SELECT $$it's$$"),
        ("SELECT $t${{ v }}$t$", "it's", "SELECT $t$it's$t$"),
        ("SELECT {{ v }}::jsonb", [{"a": "it's"}], """SELECT '[{"a": "it''s"}]'::jsonb"""),
        ("SELECT 1 -- {{ v }}\n", "x\n; DROP TABLE t", "SELECT 1 -- x ; DROP TABLE t\n"),
        ("SELECT /* {{ v }} */ 1", "*/ DROP", "SELECT /*    DROP */ 1"),
        ("SELECT {{ v | sql }}", "now()", "SELECT now()"),
        ("SELECT 'don''t', {{ v }}", 1, "SELECT 'don''t', 1"),
        ("SELECT sales_{{ v }} FROM t", 2024, "SELECT sales_2024 FROM t"),
        ("SELECT E'abc'\n'{{ v }}'", "\\', current_user --", "SELECT E'abc'\n'\\\\'', current_user --'"),
        ("SELECT E'a' -- x\n '{{ v }}'", "\\", "SELECT E'a' -- x\n '\\\\'"),
        ("SELECT U&'{{ v }}'", "\\0027'", "SELECT U&'\\\\0027'''"),
        ('SELECT 1 AS u&"{{ v }}"', 'a\\"', 'SELECT 1 AS u&"a\\\\"""'),
        ("SELECT N'{{ v }}'", "\\'", "SELECT N'\\'''"),
        ("SELECT sales_e'{{ v }}'", "\\'", "SELECT sales_e'\\'''"),
        ("SELECT a$e'{{ v }}'", "\\'", "SELECT a$e'\\'''"),
        ("SELECT 1 -- it's\r, '{{ v }}'", "'", "SELECT 1 -- it's\n, ''''"),
        ("SELECT /* *{{ v }}/ */ 1", "", "SELECT /* * / */ 1"),
        ("SELECT 1$${{ v }}$$", "it's", "SELECT 1$$it's$$"),
        ("SELECT $1, $${{ v }}$$", "it's", "SELECT $1, $$it's$$"),
        ("SELECT a$$, '{{ v }}'", "$$", "SELECT a$$, '$$'"),
        ("DO $$ BEGIN PERFORM '{{ v }}'; END $$", "'; x", "DO $$ BEGIN PERFORM '''; x'; END $$"),
        ("CREATE FUNCTION f() AS $f$ SELECT '{{ v }}' $f$", "'", "CREATE FUNCTION f() AS $f$ SELECT '''' $f$"),
        ("DO $$ BEGIN EXECUTE c USING '{{ v }}'; END $$", "'", "DO $$ BEGIN EXECUTE c USING ''''; END $$"),
        ("SELECT $$ SELECT '{{ v }}' $$", "'", "SELECT $$ SELECT ''' $$"),
        ("SELECT {{ v }}.t", "public", "SELECT public.t"),
        ('SELECT {{ v }}."t"', "public", 'SELECT public."t"'),
        ("SELECT {{ v }}::text", 1, "SELECT 1::text"),
        ("{% for n in v %}SELECT {{ n }};{% endfor %}", [1, 2], "SELECT 1;SELECT 2;"),
    ],
)
def test_a_value_is_written_for_its_place(template: str, value: Any, expected: str) -> None:
    assert sql(template, v=value) == expected


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("SELECT * FROM {{ v }}", "t; DROP TABLE t"),
        ("SELECT {{ v }}", "it's"),
        ("SELECT {{ v }}", ""),
        ("SELECT {{ v }}", "1"),
        ("SELECT {{ v }}", float("inf")),
        ("SELECT $${{ v }}$$", "$$; DROP TABLE t; --"),
        ("SELECT $t${{ v }}$t$", "$t"),
        ("SELECT '{{ v | sql }}'", "x"),
        ("SELECT '{{ v }}'", "a\x00b"),
        ("SELECT E'\\{{ v }}'", "' OR 1=1 --"),
        ("SELECT '{{ missing }}'", 1),
        ("SELECT {{ v }}'{{ v }}'", "E"),
        ('SELECT {{ v }}"x"', "U"),
        ("SELECT e{{ v }}", [1]),
        ("SELECT ''{{ v }}", [1]),
        ("SELECT $é$ it's {{ v }} $é$", "$é$, current_user --"),
        ("SELECT {{ v }}'x'", 1),
        ("SELECT {{ v }}E'\\'{{ v }}'", "a"),
        ("SELECT {{ v }}$$ it's {{ v }} $$", 1),
        ("SELECT ${{ v }}$ it's {{ v }} $a$", "a"),
        ("SELECT ${{ v }}", 1),
        ("SELECT $$ ${{ v }}$ {{ v }} $$", ""),
        ("SELECT $t$ $t{{ v }}$t$", ""),
        ("SELECT E'a'\n{{ v }}", ["\\'"]),
        ("SELECT {{ v | sql }}'\\'x'", "E"),
        ("SELECT U&'\\{{ v }}'", "0027"),
        ("DO $$ BEGIN PERFORM {{ v }}; END $$", "it's"),
        ("DO $$ BEGIN PERFORM '{{ v }}'; END $$", "$$"),
        ("DO $$ BEGIN EXECUTE 'SELECT {{ v }}'; END $$", "a"),
        ("DO $$ BEGIN EXECUTE format('SELECT {{ v }}'); END $$", "a"),
        ("DO 'BEGIN PERFORM {{ v }}; END'", "a"),
        ("CREATE FUNCTION f() LANGUAGE sql AS 'SELECT {{ v }}'", "a"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(template: str, value: Any) -> None:
    with pytest.raises(TemplateError):
        sql(template, v=value)


anything = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


@given(anything)
def test_any_text_comes_back_from_a_quoted_literal_as_it_was(value: str) -> None:
    assert duckdb.sql(sql("SELECT '{{ v }}'", v=value)).fetchone() == (value,)


@given(anything)
def test_no_text_ends_a_comment(value: str) -> None:
    assert duckdb.sql(sql("SELECT 1 /* {{ v }} */ + 1", v=value)).fetchone() == (2,)
    assert duckdb.sql(sql("SELECT 1 -- {{ v }}\n + 1", v=value)).fetchone() == (2,)


@given(st.recursive(st.none() | st.booleans() | st.integers() | anything, st.lists, max_leaves=5).map(lambda v: [v]))
def test_a_list_is_one_json_literal(value: Any) -> None:
    [row] = duckdb.sql(sql("SELECT json_array_length({{ v }}::json)", v=value)).fetchall()
    assert row == (len(value),)
