"""Workers' http actions, and the servers that they may and may not reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from executors.actions.http import HttpAction
from tests.support.answering import Answer, Server, answering


@pytest.fixture(scope="module")
def guarded() -> Iterator[HttpAction]:
    """A worker's action with nothing allowed but public addresses."""
    action = HttpAction()
    yield action
    action.close()


@pytest.fixture(scope="module")
def action() -> Iterator[HttpAction]:
    """A worker's action that may reach one address of this machine, and no other."""
    action = HttpAction(["127.0.0.1/32"], max_bytes=1_000_000, max_download_bytes=3_000_000)
    yield action
    action.close()


@pytest.fixture(scope="module")
def inside() -> Iterator[Server]:
    """What no step may reach: whoever asks it is told so, and it keeps who asked."""
    with answering(lambda asked: Answer({"inside": True})) as server:
        yield server


@pytest.fixture
def listening() -> Iterator[Server]:
    with answering(lambda asked: Answer(1)) as server:
        yield server
