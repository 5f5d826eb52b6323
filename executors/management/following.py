"""Following an execution on a terminal: a live table of its steps, and what its actions log, on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.db import connection
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from executions.api import (
    ExecutionView,
    StepView,
    count_dropped_lines,
    get_execution,
    list_steps,
    query_log,
    told_line,
)

POLL_SECONDS = 0.1
LINES_AT_ONCE = 1000
MARKS = {"running": "[cyan]…[/]", "success": "[green]✓[/]", "error": "[red]✗[/]", "skipped": "[dim]-[/]"}

Show = Callable[[ExecutionView, list[StepView]], None]


def follow(execution_id: int, *, watch: bool, deadline: float | None) -> ExecutionView:
    """Wait until the execution has ended, or until `deadline` (monotonic); with `watch`, show its steps and its log.

    Returns: the execution as it was seen last.
    """
    console = Console(stderr=True, highlight=False)
    if not watch:
        return _wait(execution_id, deadline, lambda view: None)
    log = _Log(execution_id, console)
    if not console.is_terminal:
        return _watch(execution_id, deadline, log, Lines(console))
    with Live(console=console, refresh_per_second=10, transient=False) as live:
        return _watch(execution_id, deadline, log, lambda view, steps: live.update(steps_table(view, steps)))


def _watch(execution_id: int, deadline: float | None, log: _Log, show: Show) -> ExecutionView:
    def look(execution: ExecutionView) -> None:
        # The lines first: a step logs before it ends.
        log.tell_news()
        show(execution, list_steps(execution_id))

    execution = _wait(execution_id, deadline, look)
    log.tell_dropped()
    return execution


def _wait(execution_id: int, deadline: float | None, look: Callable[[ExecutionView], None]) -> ExecutionView:
    while True:
        # Before anything else is looked at: what was there at the end is seen with it.
        execution = get_execution(execution_id)
        look(execution)
        if execution.is_terminal or (deadline is not None and time.monotonic() >= deadline):
            return execution
        connection.close_if_unusable_or_obsolete()
        time.sleep(POLL_SECONDS)


class _Log:
    """The execution's log, from where it was read last."""

    def __init__(self, execution_id: int, console: Console) -> None:
        self._execution_id = execution_id
        self._console = console
        self._after = 0

    def tell_news(self) -> None:
        """Print the lines that are new."""
        for line in query_log(self._execution_id, self._after).iterator(chunk_size=LINES_AT_ONCE):
            print_line(self._console, told_line(line.node_id, line.level, line.text))
            self._after = line.seq

    def tell_dropped(self) -> None:
        """Say how many lines there was no room for."""
        if dropped := count_dropped_lines(self._execution_id):
            print_line(self._console, f"{dropped} more lines were dropped: the execution's log was full")


def print_line(console: Console, text: str) -> None:
    """Print a line as it is; above a live table, when there is one.

    How a line is printed holds for that table, too: so nothing is said of markup, and long lines are broken there.
    """
    console.print(Text(text), soft_wrap=not console.is_terminal)


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
