"""The fixtures that give tests their database: rolled back, or replaced."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections


@pytest.mark.django_db
@pytest.mark.parametrize("turn", [1, 2])
def test_a_transaction_is_rolled_back(turn: int) -> None:
    assert not Group.objects.filter(name__in="ab").exists()
    Group.objects.create(name="a")
    assert connection.settings_dict["USER"] == "noetl"


@pytest.mark.parametrize("turn", [1, 2])
def test_a_fresh_database_is_replaced(fresh_db: None, turn: int) -> None:
    def commit() -> None:
        Group.objects.create(name="b")
        connections.close_all()

    assert not Group.objects.filter(name__in="ab").exists()
    thread = threading.Thread(target=commit)
    thread.start()
    thread.join()
    assert Group.objects.filter(name="b").exists()
