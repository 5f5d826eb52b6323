"""`run --dry-run`: what would run, told on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.management.base import OutputWrapper

from catalog.api import validate_text
from executions.api import Forecast, Unknown, forecast

LINE_CHARS = 160


def tell_forecast(text: str, payload: dict[str, Any], options: Mapping[str, Any], stdout: OutputWrapper) -> None:
    """Tell what a valid playbook's text would run. Raises: `WorkloadInvalid`."""
    playbook, _ = validate_text(text)
    assert playbook is not None
    steps = forecast(playbook, payload, settings.NOETL_TEMPLATE_ENV_VALUES, merge=options["merge"])
    if options["json"]:
        document = {"playbook": playbook.path, "steps": [_as_json(step) for step in steps]}
        stdout.write(json.dumps(document, indent=2))
        return
    for step in steps:
        for line in _lines(step):
            stdout.write(line)


def _as_json(step: Forecast) -> dict[str, Any]:
    told: dict[str, Any] = {
        "step": step.name,
        "kind": step.kind,
        "starts_at_once": bool(step.status),
        "reached": step.reached,
        "work": _plain(step.work),
    }
    if step.status:
        told |= {"status": step.status, "rendered": step.rendered}
    if step.items is not None:
        told["items"] = step.items
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, Unknown):
        return {"unknown": value.template, "reads": list(value.reads)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _lines(step: Forecast) -> list[str]:
    first = {"running": "starts at once", "skipped": "is skipped"}.get(step.status, "passed through")
    told = first if step.status else "; or ".join(step.reached)
    lines = [f"{step.name}  [{step.kind}]  {told}"]
    if step.items is not None:
        lines.append(f"    items: {step.items}")
    works = [_told_action(action) for action in step.rendered] or [step.work]
    for number, work in enumerate(works):
        prefix = f"{number}: " if len(works) > 1 else ""
        lines += [f"    {prefix}{key}: {_shown(value)}" for key, value in work.items()]
    return lines


def _told_action(action: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {"inputs": action["inputs"]} if action.get("inputs") else {}
    rest = {key: value for key, value in action.items() if key not in ("kind", "arguments", "inputs")}
    return {**rest, **inputs, **action.get("arguments", {})}


def _shown(value: Any) -> str:
    if isinstance(value, Unknown):
        return f"unknown: {_one_line(str(value.template))}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return _one_line(value)
    return _one_line(json.dumps(_plain(value), ensure_ascii=False))


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= LINE_CHARS else joined[: LINE_CHARS - 1] + "…"
