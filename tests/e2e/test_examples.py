"""The examples run as their headers say, and docs/tutorial.md is right: its commands give what stands below them.

How they are read: a header's lines `# Try: COMMAND` are commands. Of the tutorial each `sh` block is a script; `gives`
right under it is followed by the result, as JSON in backquotes, of the execution that it ran last. A `sh fails` block
is run while the shop is away. Commands are run by a shell, as they stand; only the shop's address is added to them.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.inspection import wait_for
from tests.support.platform import ROOT, Platform, running_platform, temporary_data_dir

TUTORIAL: Final = (ROOT / "docs" / "tutorial.md").read_text()
EXAMPLES: Final = sorted((ROOT / "examples").glob("*.yaml"))
_BLOCK = re.compile(r"^```sh( fails)?\n(.*?)^```\n(?:gives `([^\n]*)`\n)?", re.MULTILINE | re.DOTALL)
_RUN = re.compile(r"^.*\brun (examples/\w+\.yaml)\b.*$", re.MULTILINE)


class Shop:
    """The examples' API in a process of its own, as a newcomer starts it; it comes back at the same address."""

    def __init__(self) -> None:
        self._port = "0"
        self.url = ""
        self.start()

    def start(self) -> None:
        command = [sys.executable, "examples/shop_api.py", self._port]
        self._process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        [self.url] = re.findall(r"http://[\d.:]+", self._process.stderr.readline())
        self._port = self.url.rpartition(":")[2]

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate()


@dataclass(frozen=True)
class Block:
    """A script of the tutorial, and what is told of it."""

    script: str
    fails: bool
    gives: str


BLOCKS: Final = [Block(script, bool(fails), gives) for fails, script, gives in _BLOCK.findall(TUTORIAL)]
[START] = [block.script for block in BLOCKS if "make demo" in block.script]
SETTINGS: Final = dict(word.split("=") for word in START.split() if "=" in word)
"""What the tutorial sets for the workers."""


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.stop()


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """What `make demo` leaves running, without its own playbook's run."""
    with temporary_data_dir() as data_dir, running_platform(data_dir, **SETTINGS) as running:
        registered = running.manage("register", "examples")
        assert "warning" not in registered.stdout + registered.stderr
        yield running


def run_script(script: str, platform: Platform, shop: Shop) -> subprocess.CompletedProcess[str]:
    """A script with `manage.py` in it, run by a shell in the project's folder with the platform's environment."""

    def at_the_shop(run: re.Match[str]) -> str:
        asks = "api: http" in (ROOT / run[1]).read_text()
        return f"{run[0]} --set api={shop.url}" if asks else run[0]

    manage = f"{shlex.quote(sys.executable)} manage.py"
    script = re.sub(r"(\.venv/bin/python )?manage\.py", lambda _: manage, _RUN.sub(at_the_shop, script))
    return subprocess.run(
        ["bash", "-ec", script], cwd=ROOT, env=platform.env, check=False, capture_output=True, text=True, timeout=120
    )


def result_of(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])["result"]


# -- the tutorial -----------------------------------------------------------------------------------------


def test_the_tutorial_is_right_from_its_beginning_to_its_end(platform: Platform, shop: Shop) -> None:
    walked = [block for block in BLOCKS if "manage.py" in block.script]
    assert len(walked) == len(BLOCKS) - len(["make demo", "shop_api.py"])
    assert sum(bool(block.gives) for block in walked) > 7
    for block in walked:
        if block.fails:
            shop.stop()
            assert run_script(block.script, platform, shop).returncode == 20
            shop.start()
            continue
        done = run_script(block.script, platform, shop)
        assert done.returncode == 0, block.script + done.stdout + done.stderr
        if block.gives:
            assert result_of(done) == json.loads(block.gives), block.script
        for value in ("tutorial-token", "tutorial-key"):
            assert value not in done.stdout + done.stderr
    # What the last block started again.
    wait_for(lambda: latest(platform)["status"] == "completed", 30)
    assert latest(platform)["path"] == "examples/stores"


def latest(platform: Platform) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(platform.manage("executions", "get", "@latest", "--json").stdout)
    return told


# -- the headers ------------------------------------------------------------------------------------------

RESULTS: Final[dict[str, Any]] = {
    "hello": {"loud": "HELLO, ADA!", "quiet": "hello, Ada"},
    "weather": 1461,
    "stores": {"value": 55.0, "low": ["south"], "unknown": ["west"]},
    "orders": [25, 25, 1462.5],
    "invoice": {"name": "Ada", "total": 21.6},
    "billing": {"invoices": [{"name": "Ada", "total": 27.0}, {"name": "Bob", "total": 10.0}], "sum": 37.0},
    "secrets": {"owner": "Ada", "shown": {"token": "Bearer ***", "key": "***"}},
}
"""What each example gives."""


def told_of(name: str, result: Any) -> Any:
    """What of a result is the same however often the example has run."""
    if name == "weather":
        return result["rows_read"]
    if name == "orders":
        return [result["fetched"], result["stored"]["orders"], result["stored"]["total"]]
    return result


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_runs_as_its_header_says(file: Path, platform: Platform, shop: Shop) -> None:
    commands = re.findall(r"^# Try: (.*)$", file.read_text().partition("apiVersion")[0], re.MULTILINE)
    runs = [command for command in commands if f"run examples/{file.name}" in command]
    assert runs
    for command in commands:
        done = run_script(f"{command} --json" if command in runs else command, platform, shop)
        assert done.returncode == 0, done.stdout + done.stderr
        if command in runs:
            assert told_of(file.stem, result_of(done)) == RESULTS[file.stem]
