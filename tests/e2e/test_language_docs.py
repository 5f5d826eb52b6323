"""docs/language.md is right: every playbook in it is checked and run as it stands, its tables of codes are complete.

How the document is read: a `yaml` block with a `workflow` is a playbook (the head is added when it has none). Right
under it stand `started with`, `signalled with`, and `gives` or `fails with`, each followed by JSON in backquotes. A
`yaml refused` block must be refused with what the `text` block below it says, a `yaml fragment` is only parsed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import pytest
import yaml

from catalog.api import validate_text
from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.language_schema import build_language_schema
from catalog.domain.parser import parse
from executors.contract import ActionKind, Credential
from executors.local import LocalCatalog, LocalRun
from executors.local.run import Running
from executors.registry import argument_schemas, build_registry
from tests.support.answering import answering
from tests.support.clouds import GoogleCloud, bucket_of_s3
from tests.support.kinds import settings_with

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "language.md").read_text()
HEAD = "apiVersion: noetl.io/v1\nkind: Playbook\nname: example\npath: docs/example\n"
ENV = {"REGION": "north"}
SHOP_TOKEN = Credential("shop_token", "", {"value": "s3cr3t-t0ken"})
_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_TOLD = re.compile(r"(started with|signalled with|gives|fails with) `(.*)`\n")


@dataclass
class Example:
    """A playbook of the document, with what is told of it below."""

    title: str
    line: int
    kind: str
    text: str
    told: dict[str, Any] = field(default_factory=dict)
    problems_told: list[str] = field(default_factory=list)

    @property
    def whole(self) -> str:
        """The playbook's text, with its head."""
        return self.text if self.text.startswith("apiVersion") else HEAD + self.text

    @property
    def problems(self) -> list[str]:
        """Its problems as `validate` prints them, without the file; lines count in the block."""
        added = self.whole.count("\n") - self.text.count("\n")
        lines = (problem.told_of("").removeprefix(":") for problem in validate_text(self.whole)[1])
        return [f"{int(line.partition(':')[0]) - added}:{line.partition(':')[2]}" for line in lines]


def _examples() -> Iterator[Example]:
    outside = _FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), DOCUMENT)
    headings = [(found.start(), found[1]) for found in _HEADING.finditer(outside)]
    example, section = None, 0
    for fence in _FENCE.finditer(DOCUMENT):
        heading, title = max(item for item in headings if item[0] < fence.start())
        if fence[1] == "yaml":
            line = DOCUMENT.count("\n", 0, fence.start()) + 1
            example, section = Example(title, line, fence[2].strip() or "playbook", fence[3]), heading
            at = fence.end() + 1
            while told := _TOLD.match(DOCUMENT, at):
                example.told[told[1]] = json.loads(told[2])
                at = told.end()
            yield example
        elif fence[1] == "text" and example is not None and heading == section:
            example.problems_told = fence[3].splitlines()


EXAMPLES = list(_examples())


def of_kind(kind: str) -> list[Any]:
    return [pytest.param(it, id=f"{it.line}-{it.title[:40]}") for it in EXAMPLES if it.kind == kind]


class Shop(BaseHTTPRequestHandler):
    """The API of the document's examples."""

    stock = {"north": 12, "south": 3}

    def do_GET(self) -> None:
        place, _, name = self.path.strip("/").partition("/")
        if place == "stores":
            self._answer(200, [{"id": "north"}, {"id": "south"}, {"id": "west"}])
        elif place == "stock" and name in self.stock:
            self._answer(200, {"id": name, "units": self.stock[name]})
        elif place.startswith("orders"):
            self._answer(200, {"orders": [9]} if place.endswith("?after=b") else {"orders": [7, 8], "next": "b"})
        elif place == "whoami":
            self._answer(200, {"authorization": self.headers["Authorization"]})
        else:
            self._answer(404, {"detail": f"nothing is known of {name or place}"})

    def do_POST(self) -> None:
        self._answer(201, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def credentials() -> Iterator[dict[str, Credential]]:
    """Those that the examples name, with a bucket at each of the two clouds."""
    keys = {"access_key_id": "an-id", "secret_access_key": "a-s3cr3t-key"}
    cloud = GoogleCloud("archive")
    with bucket_of_s3("lake", **keys) as endpoint, answering(cloud.answer) as google:
        lake = Credential("lake", "s3", {**keys, "endpoint": endpoint})
        yield {"shop_token": SHOP_TOKEN, "lake": lake, "archive": cloud.account(google.url)}


@pytest.fixture(scope="module")
def kinds() -> Iterator[dict[str, ActionKind]]:
    registry = build_registry(settings_with(NOETL_HTTP_ALLOWED_NETWORKS=("127.0.0.0/8",)))
    yield registry
    for kind in registry.values():
        kind.close()


@pytest.fixture(scope="module")
def catalog() -> LocalCatalog:
    catalog = LocalCatalog()
    for example in EXAMPLES:
        if example.kind == "playbook" and example.text.startswith("apiVersion"):
            catalog.add_text(example.text, f"line {example.line}")
    return catalog


def run(
    example: Example, api: str, kinds: dict[str, ActionKind], catalog: LocalCatalog, credentials: dict[str, Credential]
) -> LocalRun:
    """Run a playbook of the document to its end; a signal is sent when a step waits."""
    playbook, _ = validate_text(example.whole)
    assert playbook is not None
    payload = dict(example.told.get("started with", {}))
    if "api" in playbook.workload:
        payload["api"] = api
    signals = [example.told["signalled with"]] if "signalled with" in example.told else []

    def tell(running: Running) -> None:
        waits = [event for event in running.engine.log.events if event.type == "wait_started"]
        if signals and waits:
            sent = signals.pop()
            approval = waits[0].context["kind"] == "approval"
            local.signal(sent.get("name", ""), sent["data"], node_id=waits[0].node_id if approval else "")

    local = LocalRun(
        playbook,
        payload,
        kinds=kinds,
        catalog=catalog,
        env=ENV,
        credentials=credentials,
        workers=4,
        takes_signals=bool(signals),
        on_change=tell,
    )
    local.run()
    return local


@pytest.mark.parametrize("example", of_kind("playbook"))
def test_a_playbook_gives_what_is_said_below_it(
    example: Example,
    api: str,
    kinds: dict[str, ActionKind],
    catalog: LocalCatalog,
    credentials: dict[str, Credential],
) -> None:
    assert example.problems == []
    assert ("gives" in example.told) != ("fails with" in example.told)
    engine = run(example, api, kinds, catalog, credentials).root.engine
    if "gives" in example.told:
        assert (engine.status, engine.error) == ("completed", None)
        assert engine.result == example.told["gives"]
    else:
        told = example.told["fails with"]
        assert engine.status == "failed"
        assert {key: engine.error.get(key) for key in told} == told


@pytest.mark.parametrize("example", of_kind("playbook"))
def test_the_editors_schema_accepts_it(example: Example) -> None:
    schema = build_language_schema(ActionSchemas(argument_schemas()))
    jsonschema.Draft202012Validator(schema).validate(parse(example.whole).value)


@pytest.mark.parametrize("example", of_kind("refused"))
def test_it_is_refused_with_what_is_said_below_it(example: Example) -> None:
    assert validate_text(example.whole)[0] is None
    assert example.problems == example.problems_told


@pytest.mark.parametrize("example", of_kind("fragment"))
def test_a_fragment_is_yaml(example: Example) -> None:
    assert yaml.safe_load(example.text)


def test_every_block_is_of_a_known_kind() -> None:
    assert {example.kind for example in EXAMPLES} == {"playbook", "refused", "fragment"}
    assert len([example for example in EXAMPLES if example.kind == "playbook"]) > 30


# -- the tables of codes ----------------------------------------------------------------------------------


def codes_told(heading: str) -> set[str]:
    """The codes in the first column of the tables below a heading."""
    section = re.split(r"^##+ ", DOCUMENT.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    found = [code for row in rows for code in re.findall(r"`([a-z_0-9]+)`", row)]
    assert len(found) == len(set(found))
    return set(found)


def _calls(folder: str) -> Iterator[ast.Call]:
    for file in (ROOT / folder).rglob("*.py"):
        yield from (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _texts(node: ast.AST) -> set[str]:
    """The texts that an expression may be, one of them; of `f"missing_{key}"` both."""
    if isinstance(node, ast.JoinedStr):
        assert ast.unparse(node) == "f'missing_{key}'"
        return {"missing_name", "missing_path"}
    if isinstance(node, ast.IfExp):
        return _texts(node.body) | _texts(node.orelse)
    return {str(node.value)} if isinstance(node, ast.Constant) else set()


TELLING = {
    **dict.fromkeys(("error", "warn", "tell", "_problem", "_stop", "Problem", "ArgumentProblem"), 0),
    "_named_parts": 3,
}
"""What tells of a problem in the catalog, and which of its arguments is the code."""


def test_the_table_of_registration_codes_is_complete() -> None:
    raised: set[str] = set()
    for call in _calls("catalog/domain"):
        at = TELLING.get(_name(call))
        if at is not None and len(call.args) > at:
            raised |= _texts(call.args[at])
    assert codes_told("Problems at registration") == raised


def _coded_maps(folder: str) -> Iterator[str]:
    """The codes of errors written as maps, and of error classes."""
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "code":
                        yield from _texts(value)
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code":
                yield from _texts(node.value)


OTHERS = {
    *("template_error", "workload_invalid", "too_busy", "lease_exhausted"),
    *("child_failed", "child_cancelled", "child_not_found", "child_too_deep"),
}
"""Codes that are not written as such in the executions' domain."""


def test_the_table_of_codes_at_run_time_is_complete() -> None:
    assert codes_told("Errors at run time") == {*_coded_maps("executions/domain"), *OTHERS}


def test_the_table_of_actions_codes_is_complete() -> None:
    raised = {"output_invalid", "unknown_action", "action_crashed", "auth_invalid"}
    raised |= {"credential_not_found", "credential_unreadable", "credential_out_of_scope"}
    for folder in ("executors/actions", "executors/sandbox", "executors"):
        for call in _calls(folder):
            if _name(call) in ("ActionFailed", "JobFailure", "failure") and call.args:
                raised |= _texts(call.args[0])
    assert codes_told("Errors of actions") == raised
