"""The corpus of playbooks, one idea each, run in every way that a playbook can be run (`tests.support.corpus`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.corpus import Case, Told, check, read_cases
from tests.support.platform import running_platform, temporary_data_dir
from tests.support.playing import play_again, play_locally
from tests.support.playing_server import SETTINGS, play_on_server
from tests.support.webserver import running_webserver

CASES = read_cases()
WAYS = ("server", "local", "replay")

Plays = dict[str, Told | BaseException]


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with running_webserver() as address:
        yield address


@pytest.fixture(scope="module")
def wanted(request: pytest.FixtureRequest) -> list[Case]:
    """The cases that this run has selected."""
    own = [item for item in request.session.items if item.path == request.path]
    names = {item.callspec.params["case"].name for item in own if hasattr(item, "callspec")}
    return [case for case in CASES if case.name in names]


@pytest.fixture(scope="module")
def local(wanted: list[Case], api: str) -> Plays:
    return play_locally(wanted, api)


@pytest.fixture(scope="module")
def server(wanted: list[Case], api: str) -> Plays:
    with temporary_data_dir() as data_dir, running_platform(data_dir, **SETTINGS) as platform:
        return play_on_server(wanted, api, platform)


@pytest.fixture(scope="module")
def replay(wanted: list[Case], server: Plays) -> Plays:
    return play_again(wanted, server)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_playbook_does_what_it_shows(case: Case, way: str, api: str, request: pytest.FixtureRequest) -> None:
    told = request.getfixturevalue(way)[case.name]
    if isinstance(told, BaseException):
        raise told
    check(case, told, api)
