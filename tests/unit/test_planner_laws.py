"""The planner's laws, for generated playbooks and generated orders of arrival.

The long run of the same laws: `python -m tests.laws`.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.generating import ALL, Case, case_from, cases
from tests.support.laws import LAWS, Law
from tests.support.shrinking import closed

FEATURES = replace(ALL, all_in_finally=False)
"""Without what the rules leave open: a frame's failure within `finally`."""

orders = st.lists(st.integers(0, 1000), min_size=1, max_size=20)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_law_holds(law: Law) -> None:
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(cases(FEATURES), orders)
    def holds(case: Case, order: list[int]) -> None:
        law(case, order)

    holds()


@pytest.mark.parametrize("seed", range(10))
def test_every_law_holds_for_plain_seeds(seed: int) -> None:
    for number in range(60):
        chance = random.Random(f"{seed}:{number}")
        case = case_from(chance, FEATURES)
        order = [chance.randrange(1000) for _ in range(7)]
        for law in LAWS:
            law(case, order)


def test_generated_playbooks_are_closed() -> None:
    for number in range(500):
        assert closed(case_from(random.Random(number)).playbook)
