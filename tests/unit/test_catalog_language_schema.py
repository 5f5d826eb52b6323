"""The editor's schema: valid, accepts what is accepted, refuses plain slips."""

from __future__ import annotations

import jsonschema
import pytest
import yaml

from catalog.domain.parser import parse
from tests.unit.test_catalog_normalise import HEAD, NEXT_SHAPES, ORDER_CHECK, VALIDATOR


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize("shape", NEXT_SHAPES.values(), ids=NEXT_SHAPES)
def test_accepts_every_shape_of_next(shape: tuple[str, object]) -> None:
    step = {"step": "start", **yaml.safe_load(shape[0])}
    VALIDATOR.validate({**parse(HEAD).value, "workflow": [step]})


def test_accepts_a_whole_playbook() -> None:
    VALIDATOR.validate(parse(ORDER_CHECK).value)


def test_accepts_priorities_pools_and_limits() -> None:
    step = {"step": "start", "type": "python", "code": "x", "priority": -100, "pool": "io-1"}
    head = {**parse(HEAD).value, "priority": 100, "pool": "_", "max_running_jobs": 1}
    VALIDATOR.validate({**head, "workflow": [{**step, "limit": {"key": "{{ a }}", "max": 3}}]})


@pytest.mark.parametrize("notify", [{"to": "x"}, [{"on": ["late", "failure"], "late_after": "5m", "auth": "a"}]])
def test_accepts_notifications(notify: object) -> None:
    VALIDATOR.validate({**parse(HEAD).value, "workflow": [{"step": "start"}], "notify": notify})


@pytest.mark.parametrize("notify", [5, {"on": "sometimes"}, {"on": []}, {"late_after": "soon"}, {"level": "loud"}])
def test_refuses_slips_in_notifications(notify: object) -> None:
    assert not VALIDATOR.is_valid({**parse(HEAD).value, "workflow": [{"step": "start"}], "notify": notify})


@pytest.mark.parametrize(
    "step",
    [
        {"step": "start", "loop": {"in": 5, "iterator": "x"}},
        {"step": "start", "next_mode": "some"},
        {"step": "start", "type": "http", "headers": [1]},
        {"desc": "nameless"},
        {"step": "start", "retry": {"tries": 3}},
        {"step": "start", "join": "some"},
        {"step": "start", "type": "wait", "duration": []},
        {"step": "start", "type": "iterator", "collection": 5},
        {"step": "start", "type": "approval", "form": {"a": {"type": "colour"}}},
        {"step": "start", "priority": 101},
        {"step": "start", "pool": "Heavy"},
        {"step": "start", "limit": {"key": "k"}},
        {"step": "start", "limit": {"key": "k", "max": 1, "per": "day"}},
    ],
)
def test_refuses_slips(step: dict[str, object]) -> None:
    assert not VALIDATOR.is_valid({**parse(HEAD).value, "workflow": [step]})
