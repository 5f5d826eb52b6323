"""Whose word about a job counts, as a pure rule."""

from __future__ import annotations

from queueing.domain.leases import Claim, LeaseRecord, find_claimed

ONE = LeaseRecord(1, "t1", "w1", "token:1")
TWO = LeaseRecord(2, "t2", "w1", "token:1")
OTHER = LeaseRecord(3, "t3", "w2", "token:2")
OURS = LeaseRecord(4, "t4", "host:1", "")


def test_a_lease_is_its_principals_alone() -> None:
    assert find_claimed([ONE], Claim("token:1")) == ONE
    assert find_claimed([ONE], Claim("token:2")) is None
    assert find_claimed([ONE], Claim("token:2", "w1", "t1")) is None
    assert find_claimed([OURS], Claim("token:1", "host:1")) is None


def test_a_worker_or_a_token_must_fit() -> None:
    assert find_claimed([ONE], Claim("token:1", "w2")) is None
    assert find_claimed([ONE], Claim("token:1", None, "t2")) is None
    assert find_claimed([ONE, OTHER], Claim("token:1", "w1", "t1")) == ONE


def test_of_two_leases_the_token_tells_which() -> None:
    assert find_claimed([ONE, TWO], Claim("token:1", "w1")) is None
    assert find_claimed([ONE, TWO], Claim("token:1")) is None
    assert find_claimed([ONE, TWO], Claim("token:1", "w1", "t2")) == TWO
    assert find_claimed([], Claim("token:1")) is None
