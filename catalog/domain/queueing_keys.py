"""Keys that say how jobs are queued: `priority`, `pool`, `limit` of a step, `max_running_jobs` of a playbook."""

from __future__ import annotations

import re
from typing import Final

from catalog.domain.playbook import MAX_PRIORITY, POOL_PATTERN, Limit
from catalog.domain.reading import Field, Fields, Reading, Use

_LIMIT_KEYS: Final = ("key", "max")


def read_priority(reading: Reading, found: Field | None, where: str) -> int | None:
    """`priority`: a whole number from -100 to 100."""
    if found is None or found.value is None:
        return None
    value = found.value
    if isinstance(value, int) and not isinstance(value, bool) and -MAX_PRIORITY <= value <= MAX_PRIORITY:
        return value
    advice = f"make `priority` {where} a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}; higher runs first"
    reading.error("wrong_value", advice, found.pointer)
    return None


def read_pool(reading: Reading, found: Field | None, where: str) -> str | None:
    """`pool`: the name of a worker pool; no template, as who serves it must be known before."""
    if found is None or found.value is None:
        return None
    if isinstance(found.value, str) and re.fullmatch(POOL_PATTERN, found.value):
        return found.value
    advice = f"make `pool` {where} a name of 1 to 50 characters out of a-z, 0-9, `_` and `-`"
    reading.error("wrong_value", advice, found.pointer)
    return None


def take_limit(fields: Fields) -> Field | None:
    """The step's own `limit`, which is a map; anything else is the number of a loop's items, and is left."""
    if "limit" in fields and isinstance(fields["limit"].value, dict):
        return fields.pop("limit")
    return None


def read_limit(reading: Reading, found: Field | None, where: str, uses: list[Use]) -> Limit | None:
    """`limit: {key, max}`: at most `max` jobs with the same rendered key are leased at once."""
    if found is None:
        return None
    entries = reading.fields(found.value, found.pointer, f"`limit` {where}")
    key, most = entries.pop("key", None), entries.pop("max", None)
    reading.leftovers(entries, "`limit`", _LIMIT_KEYS, {}, severity="error")
    if key is None or not isinstance(key.value, str) or not key.value.strip():
        advice = f"give `key` in `limit` {where}: a text, or a template that gives one"
        reading.error("missing_argument", advice, found.pointer if key is None else key.pointer)
    else:
        reading.templates(key, f"in `limit` {where}", uses)
    count = reading.count(most, f"`max` in `limit` {where}")
    if most is None or most.value is None:
        reading.error("missing_argument", f"give `max` in `limit` {where}: how many run at once", found.pointer)
    if key is None or not isinstance(key.value, str) or count is None:
        return None
    return Limit(key=key.value, max=count)
