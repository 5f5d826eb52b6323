"""The sanitiser: what comes out is JSON that Postgres takes, all else is refused by its place."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.sandbox.sanitise import OutputInvalid, OutputTooLarge, sanitise


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: "a", "b": (1, 2)}, {"1": "a", "b": [1, 2]}),
        (Decimal("1.50"), 1.5),
        (datetime(2020, 1, 2, tzinfo=UTC), "2020-01-02T00:00:00+00:00"),
        (date(2020, 1, 2), "2020-01-02"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({"s": {1}}, {"s": [1]}),
        (True, True),
    ],
)
def test_values_become_json(value: Any, expected: Any) -> None:
    result = sanitise(value)
    assert result == expected and type(result) is type(expected)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": ["ok", "\x00"]}, "$.a[1]"),
        ({"a\x00": 1}, "$"),
        (["\ud800"], "$[0]"),
        ([float("nan")], "$[0]"),
        (float("-inf"), "$"),
        (Decimal("NaN"), "$"),
        (Decimal("1e999"), "$"),
        ({"b": b"x"}, "$.b"),
        ({None: 1}, "$"),
        ({1: "a", "1": "b"}, "$"),
        ([1 << 9000], "$[0]"),
        ([object()], "$[0]"),
        (nested(7000), "$[0][0]"),
    ],
)
def test_bad_values_are_refused_with_their_place(value: Any, place: str) -> None:
    with pytest.raises(OutputInvalid) as caught:
        sanitise(value)
    assert str(caught.value).startswith(place)
    assert "\x00" not in str(caught.value)
    str(caught.value).encode()


def test_depth_of_100_is_the_last_allowed() -> None:
    assert sanitise(nested(100)) == nested(100)
    with pytest.raises(OutputInvalid):
        sanitise(nested(101))


def test_cycles_and_shared_parts_end() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(OutputInvalid):
        sanitise(cycle)
    shared: Any = "x"
    for _ in range(80):
        shared = [shared, shared]
    with pytest.raises(OutputTooLarge):
        sanitise(shared, max_bytes=10_000)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
        max_leaves=20,
    )
)
def test_what_passes_is_strict_json_and_stays_the_same(value: Any) -> None:
    try:
        clean = sanitise(value)
    except OutputInvalid:
        return
    assert json.loads(json.dumps(clean, allow_nan=False)) == clean
    assert sanitise(clean) == clean
