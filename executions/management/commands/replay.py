"""`manage.py replay`: a past execution from its log, as it was or under a changed playbook. Nothing runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.api import PlaybookInvalid, find_playbook_version, load_playbook, validate_text
from executions.api import ExecutionView, find_fold_difference, get_execution, read_log
from executions.domain.comparison import Difference, Replayed, compare, replay_recorded

EXIT_DIFFERENT = 1
EXIT_NOT_FOUND = 4


class Command(BaseCommand):
    """Fold a log again, or run its results through another playbook; exit code 1 when something differs."""

    help = (
        "Fold the log of an execution and compare with its stored state; with --playbook, run its recorded results "
        "through FILE and tell what would differ. Nothing runs. Exit code 1: something differs. `@latest` is an id."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Which execution, and which playbook."""
        parser.add_argument("execution_id", metavar="ID")
        parser.add_argument("--playbook", metavar="FILE", help="the changed playbook")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        """Read the log, compare, tell."""
        execution = get_execution(options["execution_id"])
        if options["playbook"] is None:
            differs = self._fold(execution, as_json=options["json"])
        else:
            differs = self._replay(execution, options["playbook"], as_json=options["json"])
        if differs:
            raise SystemExit(EXIT_DIFFERENT)

    def _fold(self, execution: ExecutionView, *, as_json: bool) -> bool:
        difference = find_fold_difference(int(execution.id))
        events = len(read_log(execution.id))
        if as_json:
            told = {"execution_id": execution.id, "events": events, "difference": difference or None}
            self.stdout.write(json.dumps(told))
        else:
            self.stdout.write(difference or f"the fold of {events} events is the stored state")
        return bool(difference)

    def _replay(self, execution: ExecutionView, file: str, *, as_json: bool) -> bool:
        changed = _read_playbook(file)
        recorded = read_log(execution.id)
        env = settings.NOETL_TEMPLATE_ENV_VALUES
        original = load_playbook(find_playbook_version(execution.path, execution.version).id)
        before = replay_recorded(original, recorded, env)
        after = replay_recorded(changed, recorded, env)
        differences = compare(recorded, before, after)
        if as_json:
            self.stdout.write(json.dumps(_document(execution, differences, after), default=str))
        else:
            self._tell(differences, after)
        return bool(differences)

    def _tell(self, differences: list[Difference], after: Replayed) -> None:
        for difference in differences:
            node = difference.node_id.partition(":")[2]
            self.stdout.write(f"{' '.join(filter(None, (difference.what, node)))}: {_sentence(difference)}")
        for node_id in after.would_run:
            self.stdout.write(f"would run: {node_id.partition(':')[2]}, and what hangs on it stays open")
        if not differences:
            self.stdout.write("nothing would differ")


def _read_playbook(file: str) -> Any:
    if not Path(file).is_file():
        raise CommandError(f"there is no playbook file {file}", returncode=EXIT_NOT_FOUND)
    playbook, problems = validate_text(Path(file).read_bytes().decode("utf-8", errors="surrogateescape"))
    if playbook is None:
        raise PlaybookInvalid(problems, file)
    return playbook


def _document(execution: ExecutionView, differences: list[Difference], after: Replayed) -> dict[str, Any]:
    return {
        "execution_id": execution.id,
        "status": after.engine.status,
        "differences": [asdict(difference) for difference in differences],
        "would_run": after.would_run,
    }


def _sentence(difference: Difference) -> str:
    before, after = difference.before, difference.after
    match difference.what:
        case "step" if before is None:
            return f"starts now ({after})"
        case "step" if after is None:
            return f"does not start any more (was {before})"
        case "transition":
            return f"leads to {_names(after)}, before to {_names(before)}"
        case "action":
            return "; ".join(_changes("", before, after))
    return f"{_short(before)} becomes {_short(after)}"


def _names(steps: list[str] | None) -> str:
    return "nothing" if not steps else ", ".join(steps)


def _changes(path: str, before: Any, after: Any) -> list[str]:
    """What is otherwise in an action, by the path of the value."""
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        return [
            change for key in keys for change in _changes(f"{path}.{key}".strip("."), before.get(key), after.get(key))
        ]
    return [f"{path} {_short(before)} becomes {_short(after)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:199]}…"
