"""`manage.py executions`: what ran, what runs, and why it ended."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import IO, Any, Final, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from executions.api import (
    Approver,
    ExecutionView,
    answer_approval,
    cancel_execution,
    count_dropped_lines,
    explain_execution,
    get_execution,
    list_events,
    list_executions,
    list_steps,
    pause_execution,
    query_log,
    rerun_execution,
    resume_execution,
    send_signal,
    told_line,
)
from executions.models import ActionLog, EventLog
from executions.selectors import with_large_results

HERE = "manage.py"
"""Who does what is done on the machine itself."""

POLL_SECONDS: Final = 0.1
"""How often somebody who follows a log looks for more, as those do who follow an execution."""

STYLES = {
    "completed": "green",
    "success": "green",
    "failed": "red",
    "error": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "skipped": "dim",
    "not run": "dim",
    "running": "cyan",
}


class Command(BaseCommand):
    """List executions, show one and why it went as it did, steer it, run it again."""

    help = (
        "List executions, show one with its steps, print its events and its log, explain it; cancel, pause, resume or "
        "signal it, answer its approvals, run it again. `@latest` is an id."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """One subcommand for each."""
        doing = parser.add_subparsers(dest="doing", required=True)
        listing = doing.add_parser("ls", help="the newest executions")
        listing.add_argument("--status", choices=["pending", "running", "paused", "completed", "failed", "cancelled"])
        listing.add_argument("--path", help="only executions of this playbook")
        listing.add_argument("--limit", type=_positive, default=20)
        for name, text in (
            ("get", "one execution with its steps, result or error"),
            ("events", "the events of one execution, in order"),
            ("logs", "what the actions of one execution printed and logged"),
            ("explain", "why each step ran, did not run, or waits"),
            ("cancel", "cancel one execution"),
            ("pause", "let what runs go on to its end, and start nothing new"),
            ("resume", "let a paused execution go on"),
            ("signal", "send a signal"),
            ("approve", "answer an approval"),
            ("rerun", "start an execution again, whole or in part"),
        ):
            one = doing.add_parser(name, help=text)
            one.add_argument("execution_id", metavar="ID")
            one.add_argument("--json", action="store_true")
            if name in ("cancel", "pause"):
                one.add_argument("--reason", default="")
            elif name == "logs":
                one.add_argument("-f", "--follow", action="store_true", help="go on until the execution has ended")
                one.add_argument("--step", metavar="NAME", help="only of this step")
            elif name == "signal":
                one.add_argument("name", metavar="NAME")
                one.add_argument("--data", metavar="JSON", type=_json, help="what the wait gives as its result")
            elif name == "approve":
                one.add_argument("place", metavar="STEP", help="the step that asks, or a node of it")
                one.add_argument("--reject", action="store_true", help="refuse what is asked for")
                one.add_argument("--answer", metavar="JSON", type=_json, default={}, help="the form's fields")
            elif name == "rerun":
                part = one.add_mutually_exclusive_group()
                part.add_argument("--from", dest="from_step", metavar="STEP", help="this step and all after it run")
                part.add_argument("--failed", action="store_true", help="what succeeded in the same way is taken over")
                one.add_argument("--set", dest="values", action="append", default=[], metavar="KEY=VALUE")
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
        for event in with_large_results(list_events(execution.id)):
            if options["json"]:
                self.stdout.write(json.dumps(_event_json(event), default=str))
            else:
                self.stdout.write(
                    f"{event.seq:>5} {event.timestamp:%H:%M:%S.%f} {event.event_type:<22} "
                    f"{event.node_id.partition(':')[2] or '-':<28} {event.status}"
                )

    def _logs(self, options: dict[str, Any]) -> None:
        execution_id = get_execution(options["execution_id"]).id
        after = 0
        while True:
            # Before the lines: what was logged until the end is there when the end is seen.
            is_over = get_execution(execution_id).is_terminal
            for line in query_log(execution_id, after, options["step"]).iterator(chunk_size=1000):
                self.stdout.write(json.dumps(_line_json(line)) if options["json"] else _line_text(line))
                after = line.seq
            self.stdout.flush()
            if is_over or not options["follow"]:
                break
            connection.close_if_unusable_or_obsolete()
            time.sleep(POLL_SECONDS)
        if dropped := count_dropped_lines(execution_id):
            self.stderr.write(f"{dropped} more lines were dropped: the execution's log was full")

    def _cancel(self, options: dict[str, Any]) -> None:
        execution = get_execution(options["execution_id"])
        cancelled = cancel_execution(int(execution.id), options["reason"], "manage.py")
        status = get_execution(execution.id).status
        if options["json"]:
            self._print_json({"execution_id": execution.id, "cancelled": cancelled, "status": status})
        else:
            self.stdout.write("cancelled" if cancelled else f"nothing to cancel: it is {status}")

    def _explain(self, options: dict[str, Any]) -> None:
        told = explain_execution(options["execution_id"])
        if options["json"]:
            self._print_json([asdict(one) for one in told])
            return
        console = self._console()
        for one in told:
            items = ", ".join(f"{count} {status}" for status, count in one.items.items())
            visits = f" (visit {one.visits})" if one.visits > 1 and not items else ""
            console.print(f"{escape(one.step)}: {_styled(one.status)}{visits}{f' ({items})' if items else ''}")
            for reason in one.reasons:
                console.print(f"  {reason}", markup=False, soft_wrap=True)

    def _pause(self, options: dict[str, Any]) -> None:
        execution = get_execution(options["execution_id"])
        pause_execution(int(execution.id), options["reason"], HERE)
        self._tell(execution.id, options)

    def _resume(self, options: dict[str, Any]) -> None:
        execution = get_execution(options["execution_id"])
        resume_execution(int(execution.id), HERE)
        self._tell(execution.id, options)

    def _signal(self, options: dict[str, Any]) -> None:
        execution = get_execution(options["execution_id"])
        send_signal(int(execution.id), options["name"], options["data"], HERE)
        self._tell(execution.id, options)

    def _approve(self, options: dict[str, Any]) -> None:
        execution = get_execution(options["execution_id"])
        # Who can run this can do anything to the database: approvers are for those who come by the API.
        approver = Approver(HERE, may_answer_all=True)
        answer_approval(
            int(execution.id),
            options["place"],
            approved=not options["reject"],
            answer=options["answer"],
            approver=approver,
        )
        self._tell(execution.id, options)

    def _rerun(self, options: dict[str, Any]) -> None:
        execution = get_execution(options["execution_id"])
        new = rerun_execution(
            int(execution.id),
            from_step=options["from_step"],
            failed_only=options["failed"],
            payload=_values(options["values"]),
            started_by=HERE,
        )
        self._tell(str(new), options, rerun_of=execution.id)

    def _tell(self, execution_id: str, options: dict[str, Any], **more: str) -> None:
        status = get_execution(execution_id).status
        if options["json"]:
            self._print_json({"execution_id": execution_id, "status": status, **more})
        else:
            self.stdout.write(f"execution {execution_id} is {status}")

    def _console(self) -> Console:
        return Console(file=cast(IO[str], self.stdout), highlight=False)

    def _print_json(self, data: Any) -> None:
        self.stdout.write(json.dumps(data, default=str))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is no JSON: {error}") from None


def _values(given: list[str]) -> dict[str, Any]:
    """`KEY=VALUE`s as a payload: a value that is JSON is what it says, any other a text. Raises: `CommandError`."""
    payload: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise CommandError(f"--set wants KEY=VALUE and got {text!r}", returncode=2)
        try:
            payload[key] = json.loads(value)
        except ValueError:
            payload[key] = value
    return payload


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


def _line_json(line: ActionLog) -> dict[str, Any]:
    return {
        "execution_id": str(line.execution_id),
        "seq": line.seq,
        "timestamp": line.at.isoformat(),
        "node_id": line.node_id,
        "step": line.step,
        "attempt": line.attempt,
        "index": line.item_index,
        "stream": line.stream,
        "level": line.level,
        "text": line.text,
    }


def _line_text(line: ActionLog) -> str:
    return f"{line.at:%H:%M:%S.%f} {told_line(line.node_id, line.level, line.text)}"


def _styled(status: str) -> str:
    style = STYLES.get(status)
    return f"[{style}]{status}[/]" if style else status


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"
