"""Reading SQL text: statements, what they begin, and where parameters stand in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.stores.postgres_statements import (
    StatementUnreadable,
    bind,
    copy_direction,
    ends_transaction,
    split_statements,
)


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("select 1; select 2;", ["select 1", "select 2"]),
        ("select ';'; select \"a;b\"", ["select ';'", 'select "a;b"']),
        ("select 'it''s;'", ["select 'it''s;'"]),
        ("select E'a\\';b'; select 2", ["select E'a\\';b'", "select 2"]),
        ("select 'a\\'; select 2", ["select 'a\\'", "select 2"]),
        ("do $$ begin; end; $$; select 1", ["do $$ begin; end; $$", "select 1"]),
        ("select $a$ ; $b$ ; $a$; select 1", ["select $a$ ; $b$ ; $a$", "select 1"]),
        ("select a$b$c; select 1", ["select a$b$c", "select 1"]),
        ("select $1; select 2", ["select $1", "select 2"]),
        ("select 1 -- a;b\n; select 2", ["select 1 -- a;b", "select 2"]),
        ("select /* a; /* b; */ c; */ 1; select 2", ["select /* a; /* b; */ c; */ 1", "select 2"]),
        ("select 'two\n  lines'", ["select 'two\n  lines'"]),
        (" ; -- nothing\n /* at all */ ;", []),
        ("", []),
        ("select 'open; ", ["select 'open;"]),
        ("select E'a'\n'b\\'c;'; select 2", ["select E'a'\n'b\\'c;'", "select 2"]),
        ("select E'a' -- it's;\n 'b\\';'; select 2", ["select E'a' -- it's;\n 'b\\';'", "select 2"]),
        ("select a$E'b\\'; select 2", ["select a$E'b\\'", "select 2"]),
        ("select éE'b\\'; select 2", ["select éE'b\\'", "select 2"]),
        ("select 1$$;$$; select 2", ["select 1$$;$$", "select 2"]),
        ("select $é$;$é$; select 2", ["select $é$;$é$", "select 2"]),
        ("select $a$;$A$;$a$; select 2", ["select $a$;$A$;$a$", "select 2"]),
        ("select 1 -- a;b\r; select 2", ["select 1 -- a;b", "select 2"]),
        ("select 1 +--;\n 2; select 3", ["select 1 +--;\n 2", "select 3"]),
        ("select U&'a\\;'; select 2", ["select U&'a\\;'", "select 2"]),
        ('select "a"";b"; select 2', ['select "a"";b"', "select 2"]),
        ("select $1_000; select 2", ["select $1_000", "select 2"]),
        (
            "create function f() returns int begin atomic select case when true then 1 end; end; select 1",
            [
                "create function f() returns int begin atomic select case when true then 1 end; end",
                "select 1",
            ],
        ),
    ],
)
def test_splitting(sql: str, statements: list[str]) -> None:
    assert split_statements(sql) == statements


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("BEGIN", True),
        ("/* x */ commit", True),
        ("rollback to a", False),
        ("rollback work to savepoint a", False),
        ("ROLLBACK TRANSACTION", True),
        ("rollback", True),
        ("select 1", False),
        ("prepare transaction 'x'", True),
        ("prepare x as select 1", False),
        ("-- a\nend", True),
    ],
)
def test_transaction_statements_are_known(statement: str, expected: bool) -> None:
    assert ends_transaction(statement) is expected


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("\\copy t from 't.csv'", "COPY ... FROM STDIN"),
        ("select 1; \\d t", "command of psql"),
        ("select 1 \\gexec", "\\gexec is a command of psql"),
        ("select :'name'", "write :name"),
        ('select :"name"', "write :name"),
        ("select :{?name}", "write :name"),
    ],
)
def test_what_only_psql_reads_is_refused(sql: str, told: str) -> None:
    with pytest.raises(StatementUnreadable) as caught:
        split_statements(sql)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "sql", ["select '\\copy'", "select $$\\d$$ -- \\x", "select ':''x'", "select a[1:'2'::int]", "select E'\\:'"]
)
def test_backslashes_and_colons_in_quotes_are_nobodys(sql: str) -> None:
    assert split_statements(sql) == [sql]


@pytest.mark.parametrize(
    ("statement", "bound", "names"),
    [
        ("select :a, :b, :a", "select  $1 ,  $2 ,  $1 ", ("a", "b")),
        ("select %(a)s, 5 %% 3", "select  $1 , 5 % 3", ("a",)),
        ("select :a::text, '1'::int", "select  $1 ::text, '1'::int", ("a",)),
        ("select ':a', \":a\", $$:a$$, E'\\':a' -- :a\n/* :a */", None, ()),
        ("select f(b := 1), x[1:2], x[:2]", None, ()),
        ("select x[:a], x[1:n]", "select x[ $1 ], x[1:n]", ("a",)),
        ("select '%(a)s', 'a%%'", None, ()),
        ("select 1::b", None, ()),
    ],
)
def test_parameters_are_found_outside_of_quotes(statement: str, bound: str | None, names: tuple[str, ...]) -> None:
    found = bind(statement, ["a", "b"])
    assert (found.text, found.names) == (bound or statement, names)


@pytest.mark.parametrize("statement", ["select :c", "select %(c)s", "select $1"])
def test_a_parameter_that_is_not_given_is_refused(statement: str) -> None:
    with pytest.raises(StatementUnreadable):
        bind(statement, ["a"])


@pytest.mark.parametrize(
    ("statement", "direction"),
    [
        ("COPY t TO STDOUT", "to"),
        ("/* x */ copy t (a, b) from stdin with (format csv)", "from"),
        ("COPY (SELECT a FROM stdin) TO STDOUT (FORMAT binary)", "to"),
        ("COPY (SELECT 1 FROM t) TO '/tmp/x'", None),
        ("COPY t FROM PROGRAM 'stdin'", None),
        ("SELECT copy FROM stdin", None),
        ("EXPLAIN COPY t TO STDOUT", None),
    ],
)
def test_the_direction_of_a_copy(statement: str, direction: str | None) -> None:
    assert copy_direction(statement) == direction


@given(st.text(st.sampled_from("ab;'\"$E\\-/*\n\r :%()[]{}é1"), max_size=40))
def test_no_text_is_lost(sql: str) -> None:
    try:
        statements = split_statements(sql)
    except StatementUnreadable:
        return
    assert all(statement in sql for statement in statements)
