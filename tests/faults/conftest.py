"""The platforms that faults are brought upon, each shared by the tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from noetl_site import embedded
from tests.faults import platforms
from tests.faults.faulty import Faulty
from tests.support.platform import temporary_data_dir


@pytest.fixture(scope="package")
def killable_platform() -> Iterator[Faulty]:
    """One with embedded servers, whose processes are killed and paused."""
    with temporary_data_dir() as data_dir, platforms.faulty_platform(data_dir) as faulty:
        yield faulty


@pytest.fixture
def killable(killable_platform: Faulty) -> Iterator[Faulty]:
    """The same, with no failpoint left armed after the test."""
    yield killable_platform
    killable_platform.points.release_all()


@pytest.fixture(scope="package")
def served_platform() -> Iterator[Faulty]:
    """One whose servers belong to the test, which alone revives them, and are reached through proxies."""
    with temporary_data_dir() as data_dir, platforms.served_platform(data_dir) as faulty:
        yield faulty


@pytest.fixture
def served(served_platform: Faulty) -> Iterator[Faulty]:
    """The same, with its proxies passing everything on again and its servers running after the test."""
    yield served_platform
    served_platform.proxies_at_rest()
    embedded.revive(served_platform.platform.data_dir)
