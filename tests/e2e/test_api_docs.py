"""The lines of docs/api.md, run as they are written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.inspection import query
from tests.support.platform import ROOT, running_platform, temporary_data_dir


@pytest.mark.skipif(shutil.which("curl") is None, reason="the lines are curl's: install curl")
def test_the_curl_lines_of_the_docs_do_what_they_say(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    # Their files, and nothing else of them, go to a folder of the test's own.
    script = "set -euo pipefail\n" + "\necho\n".join(blocks).replace("/tmp/", f"{tmp_path}/")
    with temporary_data_dir() as data_dir, running_platform(data_dir, "--workers", "0") as platform:
        env = {**os.environ, "URL": platform.ready["url"], "TOKEN": platform.ready["token"]}
        done = subprocess.run(["bash", "-c", script], check=False, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        registered, started, completed, execution, events = [line for line in done.stdout.splitlines() if line]
        assert json.loads(registered)["resource_path"] == "docs/hello"
        assert json.loads(completed)["judgement"] == "accepted"
        told = json.loads(execution)
        assert started == f"execution {told['id']}"
        assert (told["status"], told["result"]) == ("completed", {"text": "hello, Ada"})
        assert json.loads(events)["events"][-1]["event_type"] == "execution_completed"
        assert query(platform, "SELECT worker_id FROM lease_history") == [("by-hand",)]
