"""Following an execution on a terminal: a live table of its steps, on stderr."""

from __future__ import annotations

import time

from django.db import connection
from rich.console import Console
from rich.live import Live
from rich.table import Table

from executions.api import ExecutionView, StepView, get_execution, list_steps

POLL_SECONDS = 0.1
MARKS = {"running": "[cyan]…[/]", "success": "[green]✓[/]", "error": "[red]✗[/]", "skipped": "[dim]-[/]"}


def follow(execution_id: int, *, watch: bool, deadline: float | None) -> ExecutionView:
    """Wait until the execution has ended, or until `deadline` (monotonic); with `watch`, show its steps.

    Returns: the execution as it was seen last.
    """
    console = Console(stderr=True, highlight=False)
    if not watch or not console.is_terminal:
        return _wait(execution_id, deadline, Lines(console) if watch else None)
    with Live(console=console, refresh_per_second=10, transient=False) as live:
        return _wait(execution_id, deadline, lambda view, steps: live.update(steps_table(view, steps)))


def _wait(execution_id: int, deadline: float | None, show: object) -> ExecutionView:
    while True:
        execution = get_execution(execution_id)
        if callable(show):
            show(execution, list_steps(execution_id))
        if execution.is_terminal or (deadline is not None and time.monotonic() >= deadline):
            return execution
        connection.close_if_unusable_or_obsolete()
        time.sleep(POLL_SECONDS)


class Lines:
    """Progress as plain lines, for where there is no terminal: each change of a step once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, str] = {}

    def __call__(self, execution: ExecutionView, steps: list[StepView]) -> None:
        for step in steps:
            if self._seen.get(step.name) != step.status:
                self._seen[step.name] = step.status
                self._console.print(f"{step.name}: {step.status}", markup=False)


def steps_table(execution: ExecutionView, steps: list[StepView]) -> Table:
    """The steps of an execution as a table."""
    table = Table(title=f"{execution.path} {execution.version}: {execution.status}", title_justify="left", box=None)
    for heading in ("", "step", "items", "seconds", ""):
        table.add_column(heading)
    for step in steps:
        done = "" if step.items is None else f"{step.items[0] + step.items[1]}/{step.items[2]}"
        seconds = f"{(step.ended_at - step.started_at).total_seconds():.2f}" if step.ended_at else ""
        message = str(step.error.get("message", "")) if step.error else ""
        table.add_row(MARKS.get(step.status, "?"), step.name, done, seconds, message)
    return table
