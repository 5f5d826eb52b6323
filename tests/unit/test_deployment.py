"""What is said to those who deploy the platform: checks, the compose file, the table of the API."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from django.conf import settings
from django.core.checks import run_checks

from tests.support.platform import ROOT

KEYS = ("SECRET_KEY", "NOETL_CREDENTIAL_KEYS")


@pytest.mark.parametrize(
    ("embedded", "given", "warned"),
    [(False, KEYS, False), (False, KEYS[:1], True), (False, (), True), (True, (), False)],
)
def test_generated_keys_beside_shared_servers_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, embedded: bool, given: tuple[str, ...], warned: bool
) -> None:
    monkeypatch.setattr(settings, "NOETL_EMBEDDED", embedded)
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    for name in given:
        monkeypatch.setenv(name, "x")
    messages = run_checks(include_deployment_checks=True)
    assert ("noetl_site.W004" in {message.id for message in messages}) is warned


def test_the_compose_file_asks_for_nothing_that_the_docs_do_not_tell() -> None:
    told = (ROOT / "docs" / "operations.md").read_text().partition("## With Docker")[2].partition("\n## ")[0]
    asked = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert asked
    assert {name for name in asked if name not in told} == set()


def test_what_runs_steps_in_containers_can_give_each_a_user_of_its_own() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {name for name, service in services.items() if service.get("user") == "root"} >= {"worker", "reconciler"}
    knowing = {name for name, service in services.items() if "DATABASE_ADMIN_URL" in service.get("environment", {})}
    assert knowing == {"migrate"}


@pytest.mark.parametrize("name", [".dockerignore", ".gitignore"])
def test_files_with_keys_go_nowhere(name: str) -> None:
    assert {".env*", "*.env"} <= set((ROOT / name).read_text().split())


def test_the_table_of_the_api_has_every_path() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    paths = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())["paths"]
    assert [path for path in paths if not is_told(path, page)] == []


def is_told(path: str, page: str) -> bool:
    """Whether a path stands on the page, with words in capitals for what it holds."""
    form = re.sub(r"\\\{[^}]*\\\}", "[A-Z_a-z:]+", re.escape(path.removeprefix("/api/").strip("/")))
    return re.search(rf"(?<![\w/]){form}(?![\w/])", page) is not None


def test_the_code_says_where_it_runs() -> None:
    """And does so before anything is loaded that needs Linux."""
    program = "import sys; sys.platform = 'darwin'; sys.argv = ['manage.py', 'check']; import runpy; "
    program += f"runpy.run_path({str(ROOT / 'manage.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "NoETL runs on Linux: elsewhere use its container image, or a virtual machine\n"
