"""Plugins bring action kinds by their entry points, and one that cannot be used takes nothing else along."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from executors.registry import Installed, argument_schemas, build_registry, find_kinds
from noetl_site.checks import check_plugins
from tests.support.kinds import settings_with

KIND = """
    from executors.contract import ActionKind, Arguments

    class GreetArguments(Arguments):
        whom: str

    class Greet(ActionKind):
        \"\"\"Greets.\"\"\"
        name = "greet"
        Arguments = GreetArguments

        def run(self, request, context):
            return {"said": "hello " + GreetArguments.check(request.arguments).whom}
"""
Install = Callable[..., Installed]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with one entry point, as pip leaves it behind, and look for kinds anew."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(code: str, point: str = "greet = greeting:Greet", name: str = "noetl-greeting") -> Installed:
        [module] = {point.partition("= ")[2].partition(":")[0]}
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(code))
        folder = tmp_path / f"{name.replace('-', '_')}-2.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
        (folder / "entry_points.txt").write_text(f"[noetl.actions]\n{point}\n")
        forget()
        return find_kinds()

    yield put
    monkeypatch.undo()
    forget()


def forget() -> None:
    find_kinds.cache_clear()
    argument_schemas.cache_clear()


def test_an_installed_kind_is_there_with_its_schema_and_its_origin(install: Install) -> None:
    found = install(KIND)
    assert found.broken == () and check_plugins(None) == []
    assert found.kinds["greet"].origin == "noetl-greeting 2.1"
    assert argument_schemas()["greet"]["required"] == ["whom"]
    assert build_registry(settings_with())["greet"].name == "greet"
    out = StringIO()
    call_command("actions", "greet", stdout=out)
    assert (
        "Greets.\n\nFrom noetl-greeting 2.1." in out.getvalue() and "| `whom` | text | required |  |" in out.getvalue()
    )


@pytest.mark.parametrize(
    ("code", "point", "problem"),
    [
        ("1 / 0", "greet = broken_one:Greet", "ZeroDivisionError"),
        (KIND, "greet = broken_two:Missing", "AttributeError"),
        ("Greet = 3", "greet = broken_three:Greet", "no subclass of executors.contract.ActionKind"),
        (KIND, "other = broken_four:Greet", "must be the entry point's"),
        (KIND.replace('"greet"', '"Greet!"'), "Greet! = broken_five:Greet", "must be the entry point's"),
        (KIND.replace("def run", "def walk"), "greet = broken_six:Greet", "lacks run"),
        (KIND.replace("(Arguments)", ""), "greet = broken_seven:Greet", "no subclass of executors.contract.Arguments"),
        (KIND.replace('"greet"', '"http"'), "http = broken_eight:Greet", "there is such a kind already (built in)"),
    ],
)
def test_what_is_no_usable_kind_is_told_and_left_out(install: Install, code: str, point: str, problem: str) -> None:
    found = install(code, point)
    assert set(found.kinds) >= {"python", "http", "postgres", "duckdb"}
    assert found.kinds["http"].origin == "built in" and "greet" not in found.kinds
    [broken] = found.broken
    assert problem in broken.problem and broken.origin == "noetl-greeting 2.1"
    [warning] = check_plugins(None)
    assert warning.id == "noetl_site.W003" and problem in warning.msg
    out, err = StringIO(), StringIO()
    call_command("actions", stdout=out, stderr=err)
    assert problem in err.getvalue() and "built in" in out.getvalue()


def test_of_two_plugins_with_one_kind_the_first_by_name_counts(install: Install) -> None:
    install(KIND, "greet = greeting_b:Greet", name="b-greeting")
    found = install(KIND, "greet = greeting_a:Greet", name="a-greeting")
    assert found.kinds["greet"].origin == "a-greeting 2.1"
    assert [(broken.origin, "such a kind already (a-greeting 2.1)" in broken.problem) for broken in found.broken] == [
        ("b-greeting 2.1", True)
    ]


def test_an_unknown_kind_has_no_page() -> None:
    with pytest.raises(CommandError, match="there is no kind 'cobol' here; known: ") as refused:
        call_command("actions", "cobol")
    assert refused.value.returncode == 4
