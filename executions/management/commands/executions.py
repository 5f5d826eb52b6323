"""`manage.py executions`: what ran, what runs, and why it ended."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from executions.api import (
    Approver,
    ExecutionView,
    answer_approval,
    cancel_execution,
    explain_execution,
    get_execution,
    list_events,
    list_executions,
    list_steps,
    pause_execution,
    rerun_execution,
    resume_execution,
    send_signal,
)
from executions.models import EventLog

STYLES = {
    "completed": "green",
    "success": "green",
    "failed": "red",
    "error": "red",
    "cancelled": "yellow",
    "skipped": "dim",
    "running": "cyan",
}


class Command(BaseCommand):
    """List executions, show and explain one, print its events, steer it, run it again."""

    help = (
        "List executions, show one with its steps, explain it, print its events, cancel, pause or resume it, send it a "
        "signal, answer an approval, or run it again. `@latest` is an id."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """`ls`, `get`, `explain`, `events`, and what steers an execution."""
        doing = parser.add_subparsers(dest="doing", required=True)
        listing = doing.add_parser("ls", help="the newest executions")
        listing.add_argument("--status", choices=["pending", "running", "paused", "completed", "failed", "cancelled"])
        listing.add_argument("--path", help="only executions of this playbook")
        listing.add_argument("--limit", type=_positive, default=20)
        for name, text in (
            ("get", "one execution with its steps, result or error"),
            ("events", "the events of one execution, in order"),
            ("explain", "why each step ran, did not run, or waits"),
            ("cancel", "cancel one execution"),
            ("pause", "let what runs end, and start nothing new"),
            ("resume", "let a paused execution go on"),
            ("signal", "send a signal: the first wait for it gets the data"),
            ("approve", "answer an approval"),
            ("rerun", "start it again, linked to the old one"),
        ):
            one = doing.add_parser(name, help=text)
            one.add_argument("execution_id", metavar="ID")
            one.add_argument("--json", action="store_true")
            _add_own_arguments(one, name)
        listing.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked."""
        getattr(self, f"_{options['doing']}")(options)

    def _ls(self, options: dict[str, Any]) -> None:
        found = list_executions(options["status"], options["path"], options["limit"])
        if options["json"]:
            self._print_json([_as_json(execution) for execution in found])
            return
        if not found:
            chosen = options["status"] or options["path"]
            advice = "none like that" if chosen else "none yet; start one with `manage.py run FILE`"
            self.stdout.write(f"no executions: {advice}")
            return
        table = Table("id", "playbook", "status", "started", "seconds", box=None, pad_edge=False)
        for execution in found:
            table.add_row(
                execution.id, f"{execution.path}:{execution.version}", _styled(execution.status),
                f"{execution.created_at:%Y-%m-%d %H:%M:%S}", _seconds(execution.duration_seconds),
            )  # fmt: skip
        self._console().print(table)

    def _get(self, options: dict[str, Any]) -> None:
        execution = get_execution(options["execution_id"])
        steps = list_steps(execution.id)
        if options["json"]:
            self._print_json({**_as_json(execution), "steps": [asdict(step) for step in steps]})
            return
        console = self._console()
        console.print(f"{execution.path}:{execution.version}  {execution.id}  {_styled(execution.status)}")
        table = Table("step", "status", "items", "seconds", "error", box=None, pad_edge=False)
        for step in steps:
            seconds = (step.ended_at - step.started_at).total_seconds() if step.ended_at else None
            items = f"{sum(step.items[:2])}/{step.items[2]}" if step.items else ""
            message = step.error.get("message", "") if step.error else ""
            table.add_row(step.name, _styled(step.status), items, _seconds(seconds), message)
        console.print(table)
        if execution.error:
            console.print(f"failed at {execution.error.get('step')}: {execution.error.get('message')}", markup=False)
        if execution.result is not None:
            console.print_json(json.dumps(execution.result))

    def _events(self, options: dict[str, Any]) -> None:
        execution = get_execution(options["execution_id"])
        for event in list_events(execution.id):
            if options["json"]:
                self.stdout.write(json.dumps(_event_json(event), default=str))
            else:
                self.stdout.write(
                    f"{event.seq:>5} {event.timestamp:%H:%M:%S.%f} {event.event_type:<22} "
                    f"{event.node_id.partition(':')[2] or '-':<28} {event.status}"
                )

    def _cancel(self, options: dict[str, Any]) -> None:
        execution = get_execution(options["execution_id"])
        cancelled = cancel_execution(int(execution.id), options["reason"], "manage.py")
        status = get_execution(execution.id).status
        if options["json"]:
            self._print_json({"execution_id": execution.id, "cancelled": cancelled, "status": status})
        else:
            self.stdout.write("cancelled" if cancelled else f"nothing to cancel: it is {status}")

    def _explain(self, options: dict[str, Any]) -> None:
        execution = get_execution(options["execution_id"])
        explained = explain_execution(execution.id)
        if options["json"]:
            self._print_json([asdict(step) for step in explained])
            return
        for step in explained:
            self.stdout.write(f"{step.step}: {step.status}")
            for reason in step.reasons:
                self.stdout.write(f"    {reason}")

    def _pause(self, options: dict[str, Any]) -> None:
        id_ = get_execution(options["execution_id"]).id
        pause_execution(int(id_), options["reason"], "manage.py")
        self._print_status(id_, options)

    def _resume(self, options: dict[str, Any]) -> None:
        id_ = get_execution(options["execution_id"]).id
        resume_execution(int(id_), "manage.py")
        self._print_status(id_, options)

    def _signal(self, options: dict[str, Any]) -> None:
        id_ = get_execution(options["execution_id"]).id
        send_signal(int(id_), options["name"], _json_or_text(options["data"]), "manage.py")
        self._print_status(id_, options)

    def _approve(self, options: dict[str, Any]) -> None:
        """Whoever may run commands on the machine may answer every approval."""
        id_ = get_execution(options["execution_id"]).id
        answer_approval(
            int(id_),
            options["step"],
            approved=not options["reject"],
            answer=_json_or_text(options["answer"]),
            approver=Approver("manage.py", may_answer_all=True),
        )
        self._print_status(id_, options)

    def _rerun(self, options: dict[str, Any]) -> None:
        id_ = get_execution(options["execution_id"]).id
        payload = dict(_key_and_value(item) for item in options["sets"])
        new = rerun_execution(
            int(id_),
            from_step=options["from_step"],
            failed_only=options["failed"],
            payload=payload,
            started_by="manage.py",
        )
        if options["json"]:
            self._print_json({"execution_id": str(new), "rerun_of": id_, "status": get_execution(new).status})
        else:
            self.stdout.write(f"started execution {new}, which repeats {id_}")

    def _print_status(self, execution_id: str, options: dict[str, Any]) -> None:
        status = get_execution(execution_id).status
        if options["json"]:
            self._print_json({"execution_id": execution_id, "status": status})
        else:
            self.stdout.write(status)

    def _console(self) -> Console:
        return Console(file=cast(IO[str], self.stdout), highlight=False)

    def _print_json(self, data: Any) -> None:
        self.stdout.write(json.dumps(data, default=str))


def _add_own_arguments(parser: CommandParser, name: str) -> None:
    """What only one of the sub-commands takes."""
    if name in ("cancel", "pause"):
        parser.add_argument("--reason", default="")
    elif name == "signal":
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--data", metavar="JSON", help="what the wait gives; text when it is no JSON")
    elif name == "approve":
        parser.add_argument("step", metavar="STEP", help="the step, or the node, that asks")
        parser.add_argument("--reject", action="store_true", help="say no")
        parser.add_argument("--answer", metavar="JSON", help="the form's fields")
    elif name == "rerun":
        part = parser.add_mutually_exclusive_group()
        part.add_argument("--from", dest="from_step", metavar="STEP", help="this step and all after it run anew")
        part.add_argument("--failed", action="store_true", help="take over what succeeded and is asked for alike")
        parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")


def _json_or_text(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def _key_and_value(item: str) -> tuple[str, Any]:
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise CommandError(f"--set wants KEY=VALUE and got {item!r}", returncode=2)
    return key, _json_or_text(value)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _as_json(execution: ExecutionView) -> dict[str, Any]:
    data = asdict(execution)
    return {"execution_id": data.pop("id"), **data, "duration_seconds": execution.duration_seconds}


def _event_json(event: EventLog) -> dict[str, Any]:
    return {
        "event_id": str(event.event_id),
        "execution_id": str(event.execution_id),
        "seq": event.seq,
        "event_type": event.event_type,
        "node_id": event.node_id,
        "node_name": event.node_name,
        "node_type": event.node_type,
        "status": event.status,
        "timestamp": event.timestamp.isoformat(),
        "duration": event.duration,
        "context": event.context,
        "result": event.result,
        "error": event.error,
        "stack_trace": event.stack_trace,
        "metadata": event.meta,
        "loop_name": event.loop_name,
        "current_index": event.current_index,
        "worker_id": event.worker_id,
    }


def _styled(status: str) -> str:
    style = STYLES.get(status)
    return f"[{style}]{status}[/]" if style else status


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"
