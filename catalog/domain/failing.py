"""What a step does about failures: `retry` and `on_error`. Source: docs/language.md, "Failure"."""

from __future__ import annotations

from typing import Any, Final, Literal

from catalog.domain.playbook import Retry, Target
from catalog.domain.reading import Field, Fields, Reading, Use, condition_text
from catalog.domain.spelling import RETRY_KEYS
from catalog.domain.transitions import TransitionReader

JITTER: Final = 0.5
"""What `jitter: true` means."""
TRY_COUNT: Final = "attempt"
"""The name that only the conditions of `retry` see."""
OnError = Literal["fail", "continue", "route"]
WORDS: Final[dict[str, Literal["fail", "continue"]]] = {"fail": "fail", "continue": "continue"}


def read_retry(reading: Reading, fields: Fields, where: str, uses: list[Use]) -> Retry | None:
    """Take `retry` (and http's old `retry_delay`) out of the fields. Its conditions see the failed try."""
    found, delay = fields.pop("retry", None), fields.pop("retry_delay", None)
    delayed = reading.duration(delay, f"`retry_delay` {where}", zero=True)
    if found is None or found.value is None or found.value is False:
        if delay is not None:
            advice = f"give `retry` beside `retry_delay` {where}, as 3: how often to try"
            reading.error("missing_argument", advice, delay.pointer)
        return None
    given: dict[str, Any] = {"initial_delay": delayed}
    if isinstance(found.value, dict):
        given |= _read_map(reading, reading.fields(found.value, found.pointer, "`retry`"), where, uses)
    elif found.value is not True:
        given["max_attempts"] = reading.count(found, f"`retry` {where} true, a map or")
    return Retry(**{name: value for name, value in given.items() if value is not None})


def _read_map(reading: Reading, fields: Fields, where: str, uses: list[Use]) -> dict[str, Any]:
    def named(key: str) -> tuple[Field | None, str]:
        return fields.pop(key, None), f"`{key}` in `retry` {where}"

    given: dict[str, Any] = {"max_attempts": reading.count(*named("max_attempts"))}
    for key in ("initial_delay", "max_delay"):
        if (delay := reading.duration(*named(key), zero=True)) is not None:
            given[key] = delay
    given["backoff_multiplier"] = reading.number(*named("backoff_multiplier"), 1)
    jitter, what = named("jitter")
    if jitter is not None and isinstance(jitter.value, bool):
        given["jitter"] = JITTER if jitter.value else 0.0
    else:
        given["jitter"] = reading.number(jitter, f"{what} true, false or", 0, 1)
    read = list[Use]()
    for key in ("retry_when", "stop_when"):
        found, what = named(key)
        if found is not None and found.value is not None:
            given[key] = condition_text(reading.condition(found, what, read, "next"))
    uses.extend(use for use in read if use.name != TRY_COUNT)
    reading.leftovers(fields, "`retry`", RETRY_KEYS, {}, severity="error")
    return given


def read_on_error(found: Field | None, targets: TransitionReader) -> tuple[OnError, tuple[Target, ...]]:
    """`fail`, `continue`, or where a failure leads."""
    if found is None or found.value is None:
        return "fail", ()
    if (word := on_error_word(found)) is not None:
        return word, ()
    return "route", targets.targets(found)


def on_error_word(found: Field) -> Literal["fail", "continue"] | None:
    """The word it is, or None when it names steps."""
    return WORDS.get(found.value.strip().lower()) if isinstance(found.value, str) else None
