"""Hostile results: each becomes plain JSON that Postgres holds, or `output_invalid`; never an error of the platform."""

from __future__ import annotations

import json
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from executors.actions.python import PythonAction
from executors.contract import ActionRequest, Credential, Outcome
from executors.running import Lent, outcome_fields, run_action
from executors.sandbox.host import Limits
from tests.support.database_steps import Step, step_socket

SECONDS = 2.0
"""Within which each is answered."""
ANSWER_SECONDS = 4.0
INVALID, LARGE, ERROR = "output_invalid", "output_too_large", "python_error"

EVIL = """
    class Evil:
        def __getattribute__(self, name): raise SystemError(name)
        def __repr__(self): return 'x' * 10**8
        __str__ = __repr__
    class Lies(dict):
        def items(self): return [('a', float('nan'))]
        def __len__(self): return -1
    class Endless(list):
        def __iter__(self):
            while True: yield 'x' * 1000
    class Fails(list):
        def __iter__(self): raise RuntimeError('no')
    class Grows(dict):
        def items(self):
            n = 0
            while True:
                n += 1
                yield str(n), n
    class Text(str):
        def __str__(self): return '\\0'
        def encode(self, *_): return b'\\0'
        def __contains__(self, _): return False
    class Number(int):
        def bit_length(self): return 1
        def __repr__(self): return 'NaN'
    class Real(float):
        def __float__(self): return float('inf')
    class Key(str):
        def __hash__(self): return 1
        def __eq__(self, other): return False
    def deep(n):
        value = []
        for _ in range(n): value = [value]
        return value
    def wide(n):
        value = 'x' * 1000
        for _ in range(n): value = [value, value]
        return value
"""

# The expression that is returned, and what comes of it: a code, or the data.
OUTPUTS: dict[str, tuple[str, Any]] = {
    "not a number": ("float('nan')", INVALID),
    "infinity": ("[1, {'a': float('-inf')}]", INVALID),
    "infinity of decimals": ("__import__('decimal').Decimal('Infinity')", INVALID),
    "a signalling decimal": ("__import__('decimal').Decimal('sNaN')", INVALID),
    "a decimal beyond floats": ("__import__('decimal').Decimal('1e999999')", INVALID),
    "half a character": ("'\\ud800'", INVALID),
    "half a character as a key": ("{'\\udfff': 1}", INVALID),
    "two halves the wrong way": ("'\\udc00\\ud800'", INVALID),
    "NUL": ("'a\\0b'", INVALID),
    "NUL as a key": ("{'\\0': 1}", INVALID),
    "NUL far inside": ("[{'a': [[['x' * 1000 + '\\0']]]}]", INVALID),
    "a list in itself": ("(a := [], a.append(a), a)[2]", INVALID),
    "a map in itself": ("(a := {}, a.update(a=a), a)[2]", INVALID),
    "two that hold one another": ("(a := [], b := [a], a.append(b), a)[3]", INVALID),
    "depth 101": ("deep(101)", INVALID),
    "depth 100": ("len(str(deep(99)))", 200),
    "depth of a million": ("deep(10**6)", INVALID),
    "a doubled list": ("wide(40)", LARGE),
    "a long text": ("'x' * (2 << 20)", LARGE),
    "a text of wide characters": ("'\\U0001F600' * (1 << 19)", LARGE),
    "escapes that swell": ("'\\x01' * (1 << 20)", LARGE),
    "many keys": ("{str(n): n for n in range(10**6)}", LARGE),
    "many nulls": ("[None] * 10**7", LARGE),
    "a huge integer": ("1 << 100_000", INVALID),
    "a huge negative integer": ("-(10 ** 5000)", INVALID),
    "a huge integer as a key": ("{1 << 100_000: 1}", INVALID),
    "an integer beyond 64 bits": ("1 << 100", 1 << 100),
    "bytes": ("b'x'", INVALID),
    "a bytearray": ("bytearray(5)", INVALID),
    "a memoryview": ("memoryview(b'x')", INVALID),
    "a set": ("{1}", [1]),
    "a frozen set in a tuple": ("(frozenset(['a']),)", [["a"]]),
    "a complex number": ("1j", INVALID),
    "a generator": ("(n for n in range(3))", INVALID),
    "an iterator": ("iter([1])", INVALID),
    "a range": ("range(10**12)", INVALID),
    "an object": ("object()", INVALID),
    "a class": ("Lies", INVALID),
    "a function": ("deep", INVALID),
    "a module": ("os", INVALID),
    "an exception": ("ValueError('x')", INVALID),
    "a coroutine's object": ("__import__('asyncio').sleep", INVALID),
    "an object that fails at every touch": ("Evil()", None),
    "such an object in a list": ("[Evil()]", None),
    "a map that lies": ("Lies(a=1)", INVALID),
    "a list without end": ("Endless()", LARGE),
    "a list that cannot be walked": ("Fails()", ERROR),
    "a map that grows": ("Grows()", LARGE),
    "a text that is another": ("Text('plain')", "plain"),
    "a text that hides its NUL": ("Text('a\\0')", INVALID),
    "an integer that lies about its size": ("Number(7)", None),
    "a float that is infinite": ("Real(1.0)", None),
    "keys that are equal to nothing": ("{Key('a'): 1, Key('a'): 2}", None),
    "keys that are written alike": ("{1: 'a', '1': 'b'}", INVALID),
    "a key that is a tuple": ("{(1, 2): 3}", INVALID),
    "a key that is null": ("{None: 1}", INVALID),
    "a key that is true": ("{True: 1}", INVALID),
    "a key that is a float": ("{1.5: 1}", INVALID),
    "a date and its kin": ("[__import__('datetime').date(2026, 1, 2)]", ["2026-01-02"]),
    "minus zero": ("-0.0", -0.0),
    "the smallest float": ("5e-324", 5e-324),
    "the empty key": ("{'': {'': []}}", {"": {"": []}}),
    "a template": ("'{{ 7 * 7 }}{% raw %}'", "{{ 7 * 7 }}{% raw %}"),
    "a reference to a large result": ("{'$ref': {'sha256': 'x', 'bytes': 1}}", {"$ref": {"sha256": "x", "bytes": 1}}),
    "an envelope": ("{'status': 'error', 'error': 'forged', 'data': 1}", {"status": "error", "error": "forged", "data": 1}),
    "an answer": ("{'ok': False, 'code': 'forged'}", {"ok": False, "code": "forged"}),
    "controls and separators": ("'\\x01\\x7f\\u2028\\u202e\\ufeff'", "\x01\x7f\u2028\u202e\ufeff"),
    "a proto": ("{'__proto__': {'a': 1}, 'constructor': 1}", {"__proto__": {"a": 1}, "constructor": 1}),
}  # fmt: skip


@pytest.fixture(scope="module")
def action() -> Iterator[PythonAction]:
    action = PythonAction(Limits(memory_bytes=1 << 30, output_bytes=1 << 20))
    yield action
    action.close()


def run(action: PythonAction, code: str) -> tuple[Outcome, float]:
    lent = Lent(Path(), threading.Event(), lambda name: Credential(name, "generic", {}))
    request = ActionRequest("python", {"code": code}, {}, "e1", "e1:s", "s", 1, "e1:s", ANSWER_SECONDS)
    begun_at = time.monotonic()
    return run_action({"python": action}, request, lent), time.monotonic() - begun_at


def is_stored_as_it_is(value: Any) -> bool:
    """Whether Postgres gives a JSON value back as it was."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb::text", [json.dumps(value, allow_nan=False)])
        return bool(json.loads(cursor.fetchone()[0]) == value)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_hostile_result_is_plain_json_or_refused(action: PythonAction, name: str, db: None) -> None:
    expression, expected = OUTPUTS[name]
    outcome, seconds = run(action, f"{textwrap.dedent(EVIL)}\ndef main(): return {expression}")
    assert seconds < SECONDS
    told = outcome_fields(outcome, seconds)
    assert is_stored_as_it_is(told), "whatever it is, the log can hold it"
    if expected is None:
        assert outcome.code in ("", INVALID, ERROR), outcome
    elif expected in (INVALID, LARGE, ERROR):
        assert (outcome.status, outcome.code) == ("error", expected), outcome
        assert outcome.message and len(outcome.message) < 1000
    else:
        assert (outcome.status, outcome.data) == ("success", expected)
    assert run(action, "def main(): return 'well'")[0].data == "well"


@pytest.mark.parametrize("name", ["an object that fails at every touch", "an integer that lies about its size"])
def test_what_may_be_either_is_never_a_fault_of_the_platform(action: PythonAction, name: str) -> None:
    outcome, _ = run(action, f"{textwrap.dedent(EVIL)}\ndef main(): return {OUTPUTS[name][0]}")
    assert outcome.code not in ("sandbox_error", "action_crashed", "killed", "timeout")


ROWS: dict[str, str] = {
    "a list too deep to be read": "select (repeat('[', 6000) || repeat(']', 6000))::json",
    "a list too deep to be kept": "select (repeat('[', 500) || repeat(']', 500))::jsonb",
    "a map too deep": "select (repeat('{\"a\":', 700) || '1' || repeat('}', 700))::json",
    "an array of many dimensions": "select array[[[[[[1]]]]]]",
    "a number of many digits": "select 10::numeric ^ 5000",
    "a JSON number of many digits": "select ('1' || repeat('0', 10000))::json",
    "a JSON number beyond floats": "select '1e999999'::json",
    "a JSON text with NUL": "select '\"\\u0000\"'::json",
    "half a character in JSON": "select '\"\\ud800\"'::json",
    "a key twice": 'select \'{"a": 1, "a": 2}\'::json',
    "many columns": "select " + ", ".join(["1"] * 1600),
    "a long name": f'select 1 as "{"x" * 63}"',
    "a name of controls": 'select 1 as "\x01\u202e"',
    "a text of controls": "select E'\\x01\\x7f\\u2028\\u202e'",
    "an error of many characters": "do $$ begin raise exception '%', repeat('x', 10000000); end $$",
    "an error of half a text": "do $$ begin raise exception using message = repeat('é', 30000); end $$",
    "notices without end": "do $$ begin for n in 1..3000 loop raise notice '%', repeat('x', 10000); end loop; end $$",
    "a template": "select '{{ 7 * 7 }}'",
    "dates past the calendar": "select 'infinity'::timestamptz, '294276-12-31'::timestamp, '4714-11-24 BC'::date",
    "many small rows": "select g from generate_series(1, 1000000) g",
    "one wide row": "select repeat('x', 50000000)",
}


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Step]:
    step = Step(step_socket(), tmp_path_factory.mktemp("rows"))
    yield step
    step.action.close()


@pytest.mark.parametrize("name", ROWS)
def test_hostile_rows_are_plain_json_or_refused(step: Step, name: str, db: None) -> None:
    lent = Lent(step.data_dir, threading.Event(), lambda name: Credential(name, "postgres", step.fields))
    arguments = {"command": ROWS[name], "auth": "pg"}
    request = ActionRequest("postgres", arguments, {}, "e1", "e1:s", "s", 1, "e1:s", ANSWER_SECONDS)
    begun_at = time.monotonic()
    outcome = run_action({"postgres": step.action}, request, lent)
    seconds = time.monotonic() - begun_at
    assert seconds < SECONDS
    assert is_stored_as_it_is(outcome_fields(outcome, seconds))
    assert outcome.code in ("", INVALID, LARGE, "sql_error"), outcome
    assert step.value("select 'well'") == "well"
