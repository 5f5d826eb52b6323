"""`manage.py run`: start an execution of a file or of a playbook in the catalog, and follow it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.api import PlaybookInvalid, register_playbook, split_reference, validate_text
from executions.api import ExecutionView, StepView, get_execution, list_steps, start_execution
from executors.management.following import follow
from executors.management.forecasting import tell_forecast
from executors.management.local_run import run_locally
from executors.management.platform import platform_for_this_run

EXIT_CODES = {"completed": 0, "failed": 20, "cancelled": 21}
EXIT_TIMED_OUT = 124
EXIT_NOT_FOUND = 4


class Command(BaseCommand):
    """Start an execution; with --wait or --watch, stay until it has ended."""

    help = (
        "Start an execution of FILE (registered first) or of PATH[:VERSION] in the catalog. With no live worker, "
        "--wait and --watch start the platform for this run; --local runs a FILE with none. "
        "Exit codes: 0 completed, 20 failed, 21 cancelled, 124 the wait timed out, 8 too busy."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """What to run, with which workload, and how to follow it."""
        parser.add_argument("playbook", metavar="FILE|PATH[:VERSION]")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            dest="sets",
            help="a workload key; VALUE is JSON, or text when it is no JSON",
        )
        parser.add_argument("--payload", metavar="JSON|@FILE", help="a map of workload keys")
        parser.add_argument("--merge", action="store_true", help="merge the payload's maps instead of replacing keys")
        parser.add_argument(
            "--priority", type=int, choices=range(-100, 101), metavar="N", help="from -100 to 100; higher runs first"
        )
        follow = parser.add_mutually_exclusive_group()
        follow.add_argument("--wait", action="store_true", help="wait for the end")
        follow.add_argument(
            "--watch", action="store_true", help="wait, and show the steps as they run and what they log"
        )
        parser.add_argument("--timeout", type=float, metavar="SECONDS", help="stop waiting after so long")
        parser.add_argument("--workers", type=int, default=2, help="of a platform started for this run (default 2)")
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        local = parser.add_argument_group("with no server, no database and no broker")
        local.add_argument("--local", action="store_true", help="run FILE to its end in this process")
        local.add_argument("--catalog", metavar="DIR", help="the playbooks that it may start as children")
        local.add_argument("--credentials", metavar="FILE", help="a JSON list of {name, type, data}")
        local.add_argument("--events", metavar="FILE", help="write the events into FILE, a JSON document per line")
        local.add_argument("--dry-run", action="store_true", help="tell what would run, and run nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Register, start, follow, print."""
        payload = read_payload(options["payload"], options["sets"])
        text = read_playbook_file(options["playbook"])
        if options["dry_run"] or options["local"]:
            self._without_server(options, text, payload)
            return
        if not (options["wait"] or options["watch"]):
            self._print_started(self._start(options, text, payload), options)
            return
        with platform_for_this_run(options["workers"], _pools_named(text), self.stderr):
            execution_id = self._start(options, text, payload)
            deadline = None if options["timeout"] is None else time.monotonic() + options["timeout"]
            execution = follow(execution_id, watch=options["watch"], deadline=deadline)
            self._print_end(execution, list_steps(execution.id), options)
        _exit_with(EXIT_CODES.get(execution.status, EXIT_TIMED_OUT))

    def _without_server(self, options: dict[str, Any], text: str | None, payload: dict[str, Any]) -> None:
        """`--local` and `--dry-run`: nothing but the file is needed."""
        file = options["playbook"]
        if text is None:
            raise CommandError(f"--local and --dry-run want a FILE, and {file} is none", returncode=EXIT_NOT_FOUND)
        if options["dry_run"]:
            tell_forecast(text, payload, options, self.stdout)
            return
        end = run_locally(file, text, payload, options, self.stderr)
        self._print_end(end.execution, end.steps, options)
        _exit_with(EXIT_TIMED_OUT if end.timed_out else EXIT_CODES[end.execution.status])

    def _start(self, options: dict[str, Any], text: str | None, payload: dict[str, Any]) -> int:
        path, version = split_reference(options["playbook"])
        if text is not None:
            registered = register_playbook(text, options["playbook"], "manage.py")
            path, version = registered.playbook.path, registered.playbook.version
            for problem in registered.warnings:
                self.stderr.write(problem.told_of(options["playbook"]))
        how = {"merge": options["merge"], "priority": options["priority"]}
        return start_execution(path, version, payload, **how, started_by="manage.py")

    def _print_started(self, execution_id: int, options: dict[str, Any]) -> None:
        if options["json"]:
            status = get_execution(execution_id).status
            self.stdout.write(json.dumps({"execution_id": str(execution_id), "status": status}))
        else:
            self.stdout.write(f"started execution {execution_id}")

    def _print_end(self, execution: ExecutionView, steps: list[StepView], options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(end_document(execution, steps)))
            return
        self.stdout.write(f"execution {execution.id} {execution.status}")
        if execution.error:
            self.stdout.write(f"failed at {execution.error.get('step')}: {execution.error.get('message')}")
        if execution.result is not None:
            self.stdout.write(json.dumps(execution.result, indent=2, ensure_ascii=False))


def _pools_named(text: str | None) -> set[str]:
    """The worker pools that a playbook's text names; its children are not looked at."""
    playbook = validate_text(text)[0] if text is not None else None
    if playbook is None:
        return set()
    return {pool for pool in (playbook.pool, *(step.pool for step in playbook.steps)) if pool is not None}


def _exit_with(code: int) -> None:
    if code:
        raise SystemExit(code)


def end_document(execution: ExecutionView, steps: list[StepView]) -> dict[str, Any]:
    """What `--json` prints of an execution."""
    document: dict[str, Any] = {
        "execution_id": execution.id,
        "status": execution.status,
        "result": execution.result,
        "steps": {step.name: step.status for step in steps},
    }
    if execution.error:
        document["error"] = execution.error
    return document


def read_playbook_file(name: str) -> str | None:
    """The text of a playbook's file, judged; None when the name is no file but a path in the catalog.

    Raises: `PlaybookInvalid` with all problems, `CommandError`; before anything is started.
    """
    file = Path(name)
    if not file.is_file():
        if file.suffix in (".yaml", ".yml") or file.is_dir():
            raise CommandError(f"there is no playbook file {file}", returncode=EXIT_NOT_FOUND)
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read as UTF-8 text: {error}") from None
    playbook, problems = validate_text(text)
    if playbook is None:
        raise PlaybookInvalid(problems, name)
    return text


def read_payload(text: str | None, sets: list[str]) -> dict[str, Any]:
    """The workload given on the command line. Raises: `CommandError`."""
    payload: dict[str, Any] = {}
    if text is not None:
        try:
            raw = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
            given = json.loads(raw)
        except (OSError, ValueError, RecursionError) as error:
            raise CommandError(f"--payload is no JSON that can be read: {error}", returncode=2) from None
        if not isinstance(given, dict):
            raise CommandError("--payload must be a JSON object", returncode=2)
        payload.update(given)
    for item in sets:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise CommandError(f"--set wants KEY=VALUE and got {item!r}", returncode=2)
        payload[key] = _value(value)
    return payload


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
