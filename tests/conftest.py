"""Fixtures of all tests: a real database per worker, rolled back or replaced after each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django.plugin import DjangoDbBlocker
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from noetl_site import embedded
from tests.settings import FOLDER
from tests.support import database, seeding
from tests.support.platform import platform

__all__ = ["platform"]

pytest.register_assert_rewrite("tests.support.corpus", "tests.support.playing", "tests.support.playing_server")


def pytest_configure() -> None:
    """Platforms begin with a database that is made once."""
    seeding.copy_from(Path(os.environ[FOLDER]) / "seed")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers and remove the run's data folder; pytest-xdist's workers leave that to their parent."""
    embedded.release()
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


class ByPlatform(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Tests of a file that starts a platform run on one worker, so that it is started once; others wherever."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.startswith(("tests/browser/", "tests/e2e/", "tests/faults/")) else nodeid

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Forgets what is done: after every test the base class counts all that a worker was ever given."""
        super().mark_test_complete(node, item_index, duration)
        scope = self._split_scope(self.registered_collections[node][item_index])
        if all(self.assigned_work[node][scope].values()):
            del self.assigned_work[node][scope]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """With `--dist loadgroup`: by platform. pytest-xdist 3.8 does not see its own groups under pytest 9.2."""
    return ByPlatform(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many playbooks of the corpus have passed in each way of running them."""
    ids = [report.nodeid for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    own = [id_.rstrip("]") for id_ in ids if id_.startswith("tests/e2e/test_playbooks.py::")]
    if own:
        counts = [sum(id_.endswith(f"-{way}") for id_ in own) for way in ("server", "local", "replay")]
        terminalreporter.write_line(f"playbooks {'/'.join(map(str, counts))} (server/local/replay)")


@pytest.fixture(scope="session")
def database_name(worker_id: str) -> str:
    """The name of this worker's database."""
    return f"noetl_{worker_id}"


@pytest.fixture(scope="session")
def django_db_setup(database_name: str, django_db_blocker: DjangoDbBlocker) -> None:
    """In the place of pytest-django's: this worker's database, copied from the run's template."""
    with django_db_blocker.unblock():
        database.prepare_template()
        database.recreate(database_name)
        database.use_database(database_name)


@pytest.fixture
def fresh_db(django_db_setup: None, database_name: str, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The database for a test that commits, from any thread or process; replaced by a new copy after the test."""
    with django_db_blocker.unblock():
        yield
        database.recreate(database_name)


@pytest.fixture
def transactional_db() -> None:
    """Not here: pytest-django would empty the tables, and the event log refuses to be emptied."""
    pytest.fail("use fresh_db instead of transactional_db")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder with a short path, for sockets."""
    folder = Path(os.environ[FOLDER]) / f"s{os.urandom(4).hex()}"
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
