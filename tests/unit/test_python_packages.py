"""Dependencies of python steps: refused unless allowed, installed once from wheels, imported by their step alone."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from executors.actions.python import Packages, PythonAction
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent


def make_wheel(folder: Path, name: str, version: str, code: str) -> None:
    """A wheel of one module."""
    files = {
        f"{name}.py": code,
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for place, text in files.items():
            wheel.writestr(place, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{place},sha256={digest},{len(text)}\n"
        wheel.writestr(f"{name}-{version}.dist-info/RECORD", f"{record}{name}-{version}.dist-info/RECORD,,\n")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, which is all that pip knows."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "noetl_tests_one", "1.0", "VALUE = 1")
    make_wheel(folder, "noetl_tests_one", "2.0", "VALUE = 2")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def packages(scratch: Path) -> Packages:
    # As the data folder is where steps are users of their own.
    scratch.parent.chmod(0o711)
    return Packages(scratch / "packages", ["noetl-tests.one", "noetl-tests-missing"])


@pytest.fixture
def action(packages: Packages) -> Iterator[PythonAction]:
    action = PythonAction(packages=packages)
    yield action
    action.close()


def run(action: PythonAction, code: str, dependencies: Any, isolation: str | None = None) -> Any:
    lent = Lent(Path(), Event(), lambda name: Credential(name, "generic", {}))
    arguments = {"code": code, "dependencies": dependencies, "isolation": isolation}
    return action.run(ActionRequest("python", arguments, {}, "e1", "e1:s", "s", 1, "e1:s", 60), lent)


def code_of(action: PythonAction, dependencies: Any, isolation: str | None = None) -> tuple[str, str]:
    with pytest.raises(ActionFailed) as caught:
        run(action, "def main(): pass", dependencies, isolation)
    return caught.value.code, str(caught.value)


def test_a_worker_that_allows_none_refuses_in_words() -> None:
    action = PythonAction()
    try:
        code, message = code_of(action, ["tablib==3.5"])
    finally:
        action.close()
    assert code == "dependencies_refused"
    assert "tablib==3.5" in message and "NOETL_PYTHON_DEPENDENCIES" in message


def test_a_step_imports_what_was_installed_for_it(action: PythonAction, index: Path) -> None:
    code = "import noetl_tests_one as one\ndef main(): return one.VALUE, os.access(one.__file__, os.W_OK)"
    assert run(action, code, ["noetl_tests_one == 1.0"])[0] == 1
    assert run(action, code, ["noetl-tests-one>=1,<3"]) == [2, os.geteuid() != 0]
    with pytest.raises(ActionFailed, match="No module named 'noetl_tests_one'"):
        run(action, code, None)


def test_what_is_installed_is_installed_once(packages: Packages, index: Path) -> None:
    soon = time.monotonic() + 60
    first = packages.get(["noetl_tests_one==1.0"], soon, Event())
    for wheel in index.iterdir():
        wheel.unlink()
    assert packages.get(["noetl_tests_one == 1.0"], soon, Event()) == first
    assert [place for place in first.parent.iterdir() if place != first] == [], "nothing unfinished is left"


@pytest.mark.skipif(os.geteuid() != 0, reason="steps have the worker's user")
def test_a_folder_that_steps_cannot_enter_is_told(packages: Packages, index: Path, scratch: Path) -> None:
    scratch.chmod(0o700)
    with pytest.raises(ActionFailed, match=r"steps cannot enter .*chmod o\+x"):
        packages.get(["noetl_tests_one==1.0"], time.monotonic() + 60, Event())


def test_two_at_once_install_the_same_folder(packages: Packages, index: Path) -> None:
    found: list[Path] = []
    wanted, until = ["noetl_tests_one==2.0"], time.monotonic() + 60
    threads = [threading.Thread(target=lambda: found.append(packages.get(wanted, until, Event()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and found[0] == found[1] and (found[0] / "noetl_tests_one.py").exists()


@pytest.mark.parametrize(
    "wanted",
    [
        "--index-url=http://x", "-r /etc/passwd", "./evil", "/tmp/evil", "git+https://x/y", "https://x/y.whl",
        "noetl_tests_one @ file:///etc", "noetl_tests_one; python_version>'3'", "noetl_tests_one==1.0 --pre", "",
        "noetl_tests_one\n--pre", "noetl_tests_one==1.0,", "..", "noetl_tests_one[../x]",
    ],
)  # fmt: skip
def test_only_names_and_versions_are_handed_to_pip(action: PythonAction, index: Path, wanted: str) -> None:
    assert code_of(action, [wanted])[0] == "arguments_invalid"


def test_other_packages_than_those_named_are_refused(action: PythonAction, index: Path) -> None:
    code, message = code_of(action, ["noetl_tests_one", "other"])
    assert code == "dependencies_refused" and "does not install other" in message
    assert code_of(action, ["noetl_tests_one"], "bwrap") == (
        "dependencies_refused",
        "a step inside bubblewrap can have no dependencies",
    )


def test_what_cannot_be_installed_says_why_and_leaves_nothing(action: PythonAction, index: Path, scratch: Path) -> None:
    code, message = code_of(action, ["noetl-tests-missing==1"])
    assert code == "dependencies_failed" and "No matching distribution" in message
    assert list((scratch / "packages").iterdir()) == []


def test_installing_ends_with_the_job(packages: Packages, index: Path) -> None:
    cancelled = Event()
    cancelled.set()
    for until, event, code in ((time.monotonic(), Event(), "timeout"), (time.monotonic() + 60, cancelled, "cancelled")):
        with pytest.raises(ActionFailed) as caught:
            packages.get(["noetl_tests_one==1.0"], until, event)
        assert caught.value.code == code


def test_the_password_of_an_index_is_not_told(
    action: PythonAction, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", "http://ada:1ndex-p4ss@127.0.0.1:1/ http://bad:1ndex-p4ss@[::1/")
    code, message = code_of(action, ["noetl-tests-missing==1"])
    assert code == "dependencies_failed" and "1ndex-p4ss" not in message
