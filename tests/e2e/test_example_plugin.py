"""The example plugin, installed by pip: its kind validates, runs and has a page, with no edit in the project."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "examples" / "plugin"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the plugin is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    # From a copy: a build leaves its own files beside the sources. Offline: the build's needs are installed.
    source, site = folder / "source", folder / "site"
    subprocess.run(["cp", "-r", str(PLUGIN), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": f"{site}:{ROOT}", "NOETL_DATA_DIR": str(folder / "data")}


@pytest.fixture(scope="module")
def playbook(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The README's playbook, in a file."""
    [text] = re.findall(r"```yaml\n(.*?)```", (PLUGIN / "README.md").read_text(), re.DOTALL)
    file = tmp_path_factory.mktemp("playbook") / "checksum.yaml"
    file.write_text(text)
    return str(file)


def manage(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *words], cwd=ROOT, env=env, check=False, text=True, capture_output=True
    )


def test_its_kind_validates_and_runs(env: dict[str, str], playbook: str) -> None:
    assert manage(env, "validate", playbook).returncode == 0
    ran = manage(env, "run", playbook, "--local", "--json", "--set", "text=abc")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["result"] == hashlib.sha256(b"abc").hexdigest()


def test_its_kind_has_a_page_like_the_built_in_ones(env: dict[str, str]) -> None:
    listed = manage(env, "actions").stdout
    assert "checksum     noetl-checksum 1.0.0     Gives the digest of a text." in listed
    page = manage(env, "actions", "checksum").stdout
    assert '| `algorithm` | `sha256`, `sha1`, `md5` | `"sha256"` | how it is read |' in page


def test_its_own_test_passes(env: dict[str, str]) -> None:
    test = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(PLUGIN), str(PLUGIN / "tests")]
    ran = subprocess.run(
        [*test, "-p", "no:cacheprovider", "-p", "no:django"], check=False, env=env, text=True, capture_output=True
    )
    assert ran.returncode == 0 and "4 passed" in ran.stdout, ran.stdout


def test_without_it_the_type_is_unknown(playbook: str) -> None:
    refused = manage(dict(os.environ), "validate", playbook)
    assert refused.returncode == 5 and "there is no action type `checksum`" in refused.stdout + refused.stderr
