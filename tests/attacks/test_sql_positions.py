"""SQL in every position: hostile values go through the rendering into a real Postgres, and none leaves its place.

Each case renders a template with one value and runs what comes of it. Either the value is refused before anything
runs, or it arrives as it is. A statement may fail by its data, but the table beside it is as it was, and the secret is
not told.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pytest

from executions.domain.results import MISSING
from executions.domain.sqltext import render_sql
from executions.errors import TemplateError
from executors.contract import ActionFailed
from tests.support.database_steps import Step, step_socket

SECRET = "h1dden-in-the-vault"
REFUSED = "refused before anything ran"
SECONDS = 2.0

VALUES = {
    "quote": "'; DROP TABLE victim; --",
    "quote-and-parenthesis": "x'); DELETE FROM victim; --",
    "two-quotes": "''; DROP TABLE victim; --",
    "escaped-quote": "\\'; DROP TABLE victim; --",
    "two-backslashes": "\\\\'; DROP TABLE victim; --",
    "backslash": "\\",
    "always-true": "' OR '1'='1",
    "subquery": "'||(SELECT secret FROM vault)||'",
    "union": "' UNION SELECT secret FROM vault --",
    "double-quote": '"; DROP TABLE victim; --',
    "double-quote-subquery": 'a", (SELECT secret FROM vault) AS "b',
    "dollars": "$$; DROP TABLE victim; --",
    "dollar": "$",
    "tag": "$q$; DROP TABLE victim; --",
    "half-a-tag": "$q",
    "word-of-the-tag": "q",
    "comment-ends": "*/; DROP TABLE victim; /*",
    "comment-begins": "/*",
    "slash": "/",
    "star": "*",
    "dash": "-",
    "line-comment": "--",
    "new-line": "x\n; DROP TABLE victim; --",
    "carriage-return": "x\r; DROP TABLE victim; --",
    "line-separator": "x\u2028; DROP TABLE victim; --",
    "statement": "1; DROP TABLE victim",
    "cast": "1::text; DROP TABLE victim",
    "function": "pg_sleep(60)",
    "unicode-escape": "\\0027; DROP TABLE victim; --",
    "json-escape": "\\u0027; DROP TABLE victim; --",
    "octal-escape": "\\047; DROP TABLE victim; --",
    "hex-escape": "\\x27; DROP TABLE victim; --",
    "look-alike": "\u02bc\uff07; DROP TABLE victim; --",
    "wide-quote": "\u0160\u0127'; DROP TABLE victim; --",
    "array-end": "\"}'; DROP TABLE victim; --",
    "json-end": '", "admin": "true',
    "template": "{{ 7 * 7 }}{% set x = 1 %}",
    "parameters": ":v %(v)s $1 %% %s",
    "psql": "\\! rm -rf / \\copy victim to stdout",
    "copy-end": "\\.\n; DROP TABLE victim; --",
    "escape-letter": "E",
    "unicode-letter": "U",
    "key-word": "SELECT",
    "empty": "",
    "blank": " ",
    "nul": "a\x00'; DROP TABLE victim; --",
    "long": "'" * 2_000,
    "angle-brackets": "<a href='x'> \\<b\\> 1 < 2 > 1",
    "hash": "#'; DROP TABLE victim; --",
    "backtick": "`; DROP TABLE victim; --`",
    "braces": "{'k': (SELECT secret FROM vault)}",
    "brackets": "[x for x in (SELECT secret FROM vault)]",
    "return-comment": "-- \r DROP TABLE victim",
    "vertical-tab": "x\x0b; DROP TABLE victim; --",
    "no-break-space": "1\u00a0;\u00a0DROP TABLE victim",
    "direction": "\u202e; DROP TABLE victim; --\u202c",
    "beyond-the-plane": "\U0001f600'; DROP TABLE victim; --",
}
"""A name for each hostile value."""


@dataclass(frozen=True)
class Position:
    """A template with `{{ v }}` in some place, and what the first cell of its result must be."""

    template: str
    expected: Callable[[str], Any] | None = None
    """None: any result, or none."""
    may_fail: bool = False
    """The server may refuse the value as what it is, a bad pattern or number."""
    params: bool = False
    copies: bool = False


def same(value: str) -> Any:
    return value


def kept(_: str) -> Any:
    return "kept"


POSITIONS = {
    "literal": Position("SELECT '{{ v }}'", same),
    "literal-in-a-text": Position("SELECT 'a {{ v }} b'", lambda value: f"a {value} b"),
    "two-in-a-literal": Position("SELECT '{{ v }}{{ v }}'", lambda value: value * 2),
    "escape-literal": Position("SELECT E'{{ v }}'", same),
    "escape-literal-lower": Position("SELECT e'a{{ v }}b'", lambda value: f"a{value}b"),
    "escape-literal-behind-an-escape": Position("SELECT E'\\\\{{ v }}'", lambda value: f"\\{value}"),
    "continued-escape-literal": Position("SELECT E'a'\n'{{ v }}'", lambda value: f"a{value}"),
    "continued-behind-a-comment": Position("SELECT E'a' -- it's\n  '{{ v }}'", lambda value: f"a{value}"),
    "unicode-literal": Position("SELECT U&'{{ v }}'", same),
    "national-literal": Position("SELECT N'{{ v }}'", same),
    "bit-literal": Position("SELECT B'{{ v }}'::text", None, may_fail=True),
    "identifier": Position('SELECT 1 AS "a{{ v }}"', None),
    "identifier-of-a-table": Position('SELECT 1 FROM "{{ v }}"', None, may_fail=True),
    "unicode-identifier": Position("SELECT 'kept' AS U&\"a{{ v }}\"", kept),
    "dollars": Position("SELECT $${{ v }}$$", same),
    "tagged-dollars": Position("SELECT $q${{ v }}$q$", same),
    "dollars-behind-half-an-end": Position("SELECT $q$ $q{{ v }}$q$", lambda value: f" $q{value}"),
    "dollars-around-a-dollar": Position("SELECT $$ ${{ v }}$ {{ v }} $$", lambda value: f" ${value}$ {value} "),
    "tag-of-dollars": Position("SELECT ${{ v }}$ it's {{ v }} ${{ v }}$", None, may_fail=True),
    "line-comment": Position("SELECT 'kept' -- {{ v }}\n", kept),
    "last-line-comment": Position("SELECT 'kept' -- {{ v }}", kept),
    "line-comment-to-a-return": Position("SELECT 'kept' -- it's\r , '{{ v }}'", kept),
    "block-comment": Position("SELECT /* {{ v }} */ 'kept'", kept),
    "nested-block-comment": Position("SELECT /* /* {{ v }} */ {{ v }} */ 'kept'", kept),
    "between-the-ends-of-a-comment": Position("SELECT /* *{{ v }}/ {{ v }} */ 'kept'", kept),
    "between-the-starts-of-a-comment": Position("SELECT /* /{{ v }}* {{ v }} */ 'kept'", kept),
    "bare": Position("SELECT {{ v }} FROM (SELECT 1 AS a) AS t", None, may_fail=True),
    "bare-behind-a-letter": Position("SELECT E{{ v }} '{{ v }}'", None, may_fail=True),
    "bare-before-a-literal": Position("SELECT {{ v }}'{{ v }}'", None, may_fail=True),
    "bare-word-before-a-literal": Position("SELECT {{ v }}E'\\'{{ v }}'", None, may_fail=True),
    "bare-before-dollars": Position("SELECT {{ v }}$$ it's {{ v }} $$", None, may_fail=True),
    "number-before-dollars": Position("SELECT 1$$ it's {{ v }} $$", None, may_fail=True),
    "bare-table": Position("SELECT a FROM {{ v }}", None, may_fail=True),
    "bare-in-where": Position("SELECT a FROM victim WHERE a = {{ v }}", None, may_fail=True),
    "bare-order": Position("SELECT a FROM victim ORDER BY {{ v }}", None, may_fail=True),
    "bare-limit": Position("SELECT a FROM victim LIMIT {{ v }}", None, may_fail=True),
    "behind-a-cast": Position("SELECT '1'::{{ v }}", None, may_fail=True),
    "before-a-cast": Position("SELECT '{{ v }}'::text", same),
    "like": Position("SELECT 'kept' WHERE 'a' LIKE '%{{ v }}%' OR true", kept, may_fail=True),
    "like-with-escape": Position("SELECT 'kept' WHERE 'a' LIKE '{{ v }}' ESCAPE '!' OR true", kept, may_fail=True),
    "in": Position("SELECT 'kept' WHERE 'a' IN ('b', '{{ v }}') OR true", kept),
    "array": Position("SELECT ARRAY['{{ v }}']", lambda value: [value]),
    "array-literal": Position("SELECT '{1, {{ v }}}'::text[]", None, may_fail=True),
    "array-index": Position("SELECT (ARRAY[1])[{{ v }}]", None, may_fail=True),
    "json-list": Position("SELECT {{ [v, v] }}::jsonb", lambda value: [value, value]),
    "json-map": Position("SELECT {{ {'k': v} }}::jsonb", lambda value: {"k": value}),
    "json-in-a-literal": Position("SELECT '{{ {'k': v} | tojson }}'::jsonb", lambda value: {"k": value}),
    "json-behind-a-literal": Position("SELECT E'a'\n{{ [v] }}", None, may_fail=True),
    "json-text": Position('SELECT \'{"k": "{{ v }}"}\'::text', lambda value: f'{{"k": "{value}"}}'),
    "json-path": Position("SELECT 'kept' WHERE '{}'::jsonb ? '{{ v }}' OR true", kept),
    "insert": Position("INSERT INTO notes (note) VALUES ('{{ v }}') RETURNING note", same),
    "update": Position("UPDATE notes SET note = '{{ v }}' WHERE note = '{{ v }}'", None),
    "interval": Position("SELECT interval '{{ v }}'", None, may_fail=True),
    "regular-expression": Position("SELECT 'kept' WHERE 'a' ~ '{{ v }}' OR true", kept, may_fail=True),
    "copy": Position("COPY (SELECT '{{ v }}') TO STDOUT (FORMAT csv, FORCE_QUOTE *)", same, copies=True),
    "copy-delimiter": Position("COPY notes TO STDOUT (DELIMITER '{{ v }}')", None, may_fail=True, copies=True),
    "copy-table": Position("COPY {{ v }} TO STDOUT", None, may_fail=True, copies=True),
    "code": Position("DO $$ BEGIN PERFORM '{{ v }}'; END $$", None, may_fail=True),
    "code-in-a-literal": Position("DO 'BEGIN PERFORM 1; /* {{ v }} */ END'", None, may_fail=True),
    "executed-code": Position("DO $$ BEGIN EXECUTE 'SELECT ''{{ v }}'''; END $$", None, may_fail=True),
    "function": Position(
        "CREATE OR REPLACE FUNCTION pg_temp.told() RETURNS text LANGUAGE sql AS $f$ SELECT '{{ v }}'::text $f$;"
        " SELECT pg_temp.told()",
        None,
    ),
    "behind-raw-sql": Position("SELECT {{ 'E' | sql }}'\\'{{ v }}'", None, may_fail=True),
    "set": Position("SELECT set_config('noetl.told', '{{ v }}', false)", same),
    "named-parameter": Position("SELECT :v::text", same, params=True),
    "python-parameter": Position("SELECT %(v)s::text", same, params=True),
    "parameter-like": Position("SELECT 'kept' WHERE 'a' LIKE :v OR true", kept, may_fail=True, params=True),
    "parameters-beside-quotes": Position(
        "SELECT :v || ':v' || $$:v$$ /* :v */", lambda value: f"{value}:v:v", params=True
    ),
}


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Step]:
    step = Step(step_socket(), tmp_path_factory.mktemp("attacks"))
    step.run("DROP TABLE IF EXISTS victim, vault, notes; CREATE TABLE victim (a int); INSERT INTO victim VALUES (7)")
    step.run(f"CREATE TABLE vault (secret text); INSERT INTO vault VALUES ('{SECRET}'); CREATE TABLE notes (note text)")
    yield step
    step.run("DROP TABLE victim, vault, notes")
    step.action.close()


def play(step: Step, position: Position, value: str) -> Any:
    """The first cell that comes of it. Raises: `TemplateError`, `ActionFailed`."""
    text = render_sql(position.template, lambda name: value if name == "v" else MISSING)
    arguments: dict[str, Any] = {"copy": {"to": "told.csv"}} if position.copies else {}
    if position.params:
        arguments["params"] = {"v": value}
    results = step.run(text, on_statement_error="continue", **arguments)
    if position.copies:
        with (step.files / "told.csv").open(newline="") as file:
            return next(csv.reader(io.StringIO(file.read())), [None])[0]
    rows = next(iter(reversed(results.values()))).get("rows") or [{"": None}]
    return next(iter(rows[0].values()))


def check(step: Step, position: Position, value: str) -> None:
    begun = time.monotonic()
    failure: ActionFailed | None = None
    try:
        told = play(step, position, value)
    except TemplateError:
        told = REFUSED
    except ActionFailed as error:
        failure = error
    if failure is not None:
        assert position.may_fail or "\x00" in value or not value, failure
        assert failure.code == "sql_error" and SECRET not in f"{failure} {failure.data}"
    else:
        assert SECRET not in json.dumps(told)
        assert told == REFUSED or position.expected is None or told == position.expected(value)
    assert time.monotonic() - begun < SECONDS
    assert step.value("SELECT ARRAY[min(a), max(a), count(a), (SELECT count(*) FROM vault)] FROM victim") == [
        7,
        7,
        1,
        1,
    ]


@pytest.mark.parametrize("position", POSITIONS.values(), ids=POSITIONS)
def test_values_stay_in_their_place(step: Step, position: Position) -> None:
    """One test for all values of a position: they are thousands, and pytest's own work would be most of it."""
    wrong = []
    for name, value in VALUES.items():
        try:
            check(step, position, value)
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
    assert wrong == []


@pytest.mark.parametrize(
    "position", ["literal", "escape-literal", "unicode-literal", "array", "json-map", "insert", "copy"]
)
def test_texts_in_quotes_are_never_refused(step: Step, position: str) -> None:
    expected = POSITIONS[position].expected
    assert expected is not None
    values = [value for value in VALUES.values() if "\x00" not in value]
    assert [play(step, POSITIONS[position], value) for value in values] == [expected(value) for value in values]


def test_a_harmless_value_fits_nearly_everywhere() -> None:
    """What is always refused would pass the tests above, too."""
    refused = []
    for name, position in POSITIONS.items():
        try:
            render_sql(position.template, lambda asked: "harmless" if asked == "v" else MISSING)
        except TemplateError:
            refused.append(name)
    assert refused == [
        *("tag-of-dollars", "bare-before-a-literal", "bare-word-before-a-literal", "bare-before-dollars"),
        *("json-behind-a-literal", "code-in-a-literal", "executed-code", "behind-raw-sql"),
    ]


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        connection.execute("CREATE TABLE victim (a int); INSERT INTO victim VALUES (7); CREATE TABLE notes (note text)")
        connection.execute("CREATE TABLE vault (secret text); INSERT INTO vault VALUES (?)", [SECRET])
        yield connection


EXACT_IN_DUCKDB = (
    "literal",
    "literal-in-a-text",
    "two-in-a-literal",
    "escape-literal",
    "dollars",
    "tagged-dollars",
    "insert",
)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("name", [name for name, position in POSITIONS.items() if not position.copies])
def test_and_in_duckdb_too(duck: duckdb.DuckDBPyConnection, name: str, value: str) -> None:
    """The same text is escaped for both: whatever DuckDB reads otherwise must not let a value out."""
    begun = time.monotonic()
    rows: list[Any] = []
    try:
        text = render_sql(POSITIONS[name].template, lambda asked: value if asked == "v" else MISSING)
        # All statements of the text, should there be more than the template has.
        rows = duck.execute(text, {"v": value} if POSITIONS[name].params else None).fetchall()
    except TemplateError:
        assert name not in EXACT_IN_DUCKDB or "\x00" in value or "$" in value
    except (duckdb.Error, ValueError):
        assert name not in EXACT_IN_DUCKDB
    else:
        assert SECRET not in str(rows)
        expected = POSITIONS[name].expected
        if name in EXACT_IN_DUCKDB and expected is not None:
            assert rows[0][0] == expected(value)
    assert time.monotonic() - begun < SECONDS
    assert duck.execute("SELECT a FROM victim").fetchall() == [(7,)]
    assert duck.execute("SELECT count(*) FROM vault").fetchall() == [(1,)]
