"""How values look in the console: words, pills, links, JSON. Everything is escaped; nothing is marked safe.

Knows no table; of models only their labels, for addresses and permissions.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import AnonymousUser, User
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.timezone import localtime

Viewer = User | AnonymousUser

NOTHING: Final = "-"
MAX_CHARACTERS: Final = 20_000
"""Of one value on a page; the rest is told, not shown."""

COLOURS: Final = {
    **dict.fromkeys(("running", "leased", "held"), "info"),
    **dict.fromkeys(("completed", "success", "done", "ready"), "success"),
    **dict.fromkeys(("failed", "error", "dead", "lost"), "danger"),
    **dict.fromkeys(("paused", "cancelled", "released", "warning"), "warning"),
}
"""The pill of a status word; every other one is grey."""


def show_pill(word: str | None) -> str:
    """A status word in its colour."""
    if not word:
        return NOTHING
    return render_to_string("unfold/helpers/label.html", {"text": word, "variant": COLOURS.get(word, "default")})


def may_view(user: Viewer, label: str) -> bool:
    """Whether the user may see the rows of a model, by its label (`queueing.job`)."""
    app, _, model = label.partition(".")
    return user.has_perm(f"{app}.view_{model}")


def page_of(label: str, key: Any) -> str:
    """The address of a row's page."""
    return reverse(f"admin:{label.replace('.', '_')}_change", args=[key])


def list_of(label: str, **lookups: Any) -> str:
    """The address of a model's list, filtered."""
    return reverse(f"admin:{label.replace('.', '_')}_changelist", query=lookups or None)


def show_link(user: Viewer, label: str, key: Any, text: Any) -> str:
    """A link to a row's page; only the text for a user who may not see it."""
    if not may_view(user, label):
        return format_html("{}", text)
    return format_html('<a href="{}" class="text-link console-link">{}</a>', page_of(label, key), text)


def show_node(node_id: str) -> str:
    """A node id without its execution's id, which stands beside it; the whole of it in the title."""
    return format_html('<span title="{}">{}</span>', node_id, node_id.partition(":")[2] or "whole execution")


def show_code(text: str) -> str:
    """A text line by line; only the beginning of a very long one."""
    left = len(text) - MAX_CHARACTERS
    if left <= 0:
        return format_html('<pre class="console-code">{}</pre>', text)
    return format_html(
        '<pre class="console-code">{}</pre><p class="console-rest">{} more characters are not shown here.</p>',
        text[:MAX_CHARACTERS],
        f"{left:,}",
    )


def show_json(value: Any) -> str:
    """A JSON value, indented."""
    return show_code(json.dumps(value, indent=2, ensure_ascii=False))


def describe_duration(seconds: float | None) -> str:
    """A duration in the two units that matter: `120 ms`, `4.2 s`, `3 min 4 s`, `2 d 5 h`."""
    if seconds is None:
        return NOTHING
    # As they are rounded: never 1000 ms, never 60.0 s.
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(whole.days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next(place for place, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def describe_error(error: Any) -> str:
    """An error in words: where it came from, what it says, its code."""
    if not error:
        return ""
    where = f"Step {error['step']} failed: " if error.get("step") else ""
    code = f" ({error['code']})" if error.get("code") else ""
    return f"{where}{error.get('message', 'no message')}{code}"


def show_time(moment: datetime) -> str:
    """A moment as everywhere in the console, which says that it is UTC."""
    return str(localize(localtime(moment)))
