"""What is printed beside a live table, and where there is none."""

from __future__ import annotations

import io

from rich.console import Console
from rich.live import Live

from executors.management.following import print_line

LONG = "s | [bold]" + "x" * 200


def test_a_line_is_printed_as_it_is() -> None:
    out = io.StringIO()
    print_line(Console(file=out, width=80), LONG)
    assert out.getvalue() == f"{LONG}\n"


def test_a_line_above_a_live_table_leaves_the_table_its_colours() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with Live("[green]running[/]", console=console, auto_refresh=False):
        print_line(console, "s | [bold]text")
    assert "s | [bold]text" in out.getvalue()
    assert "running" in out.getvalue() and "[green]" not in out.getvalue()
