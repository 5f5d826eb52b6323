"""What the readers of a playbook's parts share: the document, the problems found so far, the names read.

Knows how a problem gets its place. Knows no key of the language.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal, TypeVar

from catalog.domain.action_schemas import ActionSchemas
from catalog.domain.durations import MAX_SECONDS, seconds_of
from catalog.domain.parser import MAX_PROBLEMS, Document, join_pointer, texts_in
from catalog.domain.template_syntax import check, is_template, names_read, step_secrets_used
from catalog.errors import Problem

Phase = Literal["workload", "start", "next"]

Word = TypeVar("Word", bound=str)

MAX_SHOWN: Final = 60
MAX_NUMBER: Final = 1e9


@dataclass(frozen=True, slots=True)
class Field:
    """A value of the document and its JSON pointer; they travel together through every overlay."""

    value: Any
    pointer: str


Fields = dict[str, Field]


@dataclass(frozen=True, slots=True)
class Use:
    """A name that a template reads: where it stands, and when it is rendered."""

    name: str
    pointer: str
    phase: Phase


class Reading:
    """One reading of one document."""

    def __init__(self, document: Document, schemas: ActionSchemas) -> None:
        self.document = document
        self.schemas = schemas
        self.problems: list[Problem] = list(document.problems)
        self.credential_aliases: dict[str, str] = {}
        """What the playbook calls its credentials -> the names they are stored under."""
        self.step_secrets: list[tuple[str, str]] = []
        """Names before `secret_value`, in templates that do something with it, and their pointers."""
        self.graph_is_whole = True
        """Whether every step and transition was read; if not, nothing can be said of what leads where."""

    def error(self, code: str, message: str, pointer: str, *, key: bool = False) -> None:
        """Refuse the playbook, for what stands at the pointer (or for its key)."""
        line, column = self.document.place(pointer, key=key)
        self.problems.append(Problem(code, message, pointer, line, column))

    def warn(self, code: str, message: str, pointer: str, *, key: bool = False) -> None:
        """Tell of something that is read, but likely not as it is meant."""
        line, column = self.document.place(pointer, key=key)
        self.problems.append(Problem(code, message, pointer, line, column, "warning"))

    @contextmanager
    def shaping_the_graph(self) -> Iterator[None]:
        """An error inside leaves a hole in the graph."""
        before = len(self.problems)
        yield
        if any(problem.severity == "error" for problem in self.problems[before:]):
            self.graph_is_whole = False

    # -- values -----------------------------------------------------------------------------------------

    def fields(self, value: Any, pointer: str, what: str) -> Fields:
        """The entries of a map; anything else is an error and gives none."""
        if isinstance(value, dict):
            return {key: Field(item, join_pointer(pointer, key)) for key, item in value.items()}
        if value is not None:
            self.error("wrong_type", f"make {what} a map", pointer)
        return {}

    def text(self, found: Field | None, what: str) -> str:
        """A text that is no template; anything else is an error and gives ''."""
        if found is None or found.value is None:
            return ""
        if isinstance(found.value, str):
            return found.value
        self.error("wrong_type", f"make {what} a text; put quotes around a number", found.pointer)
        return ""

    def choice(self, found: Field | None, what: str, words: Mapping[str, Word], default: Word) -> Word:
        """One of a few words, in any case."""
        if found is None or found.value is None:
            return default
        word = found.value.strip().lower() if isinstance(found.value, str) else ""
        if word in words:
            return words[word]
        self.error("wrong_value", f"make {what} one of: {', '.join(words)}", found.pointer)
        return default

    def count(self, found: Field | None, what: str, most: int = 2**31 - 1) -> int | None:
        """A whole number from 1 to `most`."""
        if found is None or found.value is None:
            return None
        if isinstance(found.value, int) and not isinstance(found.value, bool) and 1 <= found.value <= most:
            return found.value
        upto = "" if most == 2**31 - 1 else f" to {most}"
        self.error("wrong_value", f"make {what} a whole number from 1{upto}", found.pointer)
        return None

    def flag(self, found: Field | None, what: str) -> bool | None:
        """True or false."""
        if found is None or found.value is None:
            return None
        if isinstance(found.value, bool):
            return found.value
        self.error("wrong_value", f"make {what} true or false", found.pointer)
        return None

    def number(self, found: Field | None, what: str, least: float, most: float = MAX_NUMBER) -> float | None:
        """A number from `least` to `most`."""
        if found is None or found.value is None:
            return None
        value = found.value
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return float(value)
        upto = "" if most == MAX_NUMBER else f" to {most:g}"
        self.error("wrong_value", f"make {what} a number from {least:g}{upto}", found.pointer)
        return None

    def one_or_more(self, found: Field | None) -> list[Field]:
        """The items of a list, or the value itself; nothing for null."""
        if found is None or found.value is None:
            return []
        if not isinstance(found.value, list):
            return [found]
        return [Field(value, join_pointer(found.pointer, index)) for index, value in enumerate(found.value)]

    def duration(self, found: Field | None, what: str, *, zero: bool = False) -> float | None:
        """Seconds, given as a number or as `90s`, `5m`, `2h`. `zero`: none at all may be meant."""
        if found is None or found.value is None:
            return None
        seconds = seconds_of(found.value)
        if seconds is not None and (0 < seconds <= MAX_SECONDS or (zero and seconds == 0)):
            return seconds
        advice = f"make {what} a number of seconds, or a text as 90s, 5m or 2h; at most a century"
        self.error("wrong_value", advice, found.pointer)
        return None

    def condition(self, found: Field, what: str, uses: list[Use], phase: Phase = "start") -> Any:
        """A condition: a template, or a literal. A list, a map or nothing is an error and gives None."""
        value = found.value
        if isinstance(value, bool | int | float):
            return value
        if not isinstance(value, str):
            self.error("wrong_type", f"make {what} a template, true or false", found.pointer)
            return None
        if not is_template(value):
            advice = f"put {{{{ }}}} around {what} if it is an expression: as a plain text it is not evaluated"
            self.warn("condition_not_a_template", advice, found.pointer)
        self.templates(found, f"in {what}", uses, phase)
        return value

    # -- templates --------------------------------------------------------------------------------------

    def templates(self, found: Field, where: str, uses: list[Use], phase: Phase = "start") -> None:
        """Check every template in a value, and note what it reads."""
        for text, pointer in texts_in(found.value, found.pointer):
            if not is_template(text):
                continue
            problem = check(text)
            if problem is not None:
                line, column = self.document.place_inside(pointer, problem.line)
                message = f"correct the template {where}: {problem.message}"
                self.problems.append(Problem("template_syntax", message, pointer, line, column))
            self.step_secrets.extend((name, pointer) for name in sorted(step_secrets_used(text)))
            uses.extend(Use(name, pointer, phase) for name in sorted(names_read(text)))

    # -- keys -------------------------------------------------------------------------------------------

    def one_of(self, fields: Fields, spellings: tuple[str, ...], what: str) -> Field | None:
        """Take the field out of its spellings, the winner first; two that differ give a warning."""
        given = [(name, fields.pop(name)) for name in spellings if name in fields]
        if not given:
            return None
        winner, found = given[0]
        for loser, other in given[1:]:
            if other.value != found.value:
                message = f"keep one spelling of {what}: `{winner}` counts, `{loser}` is ignored"
                self.warn("spelling_conflict", message, other.pointer, key=True)
        return found

    def leftovers(
        self,
        fields: Fields,
        where: str,
        known: Collection[str],
        refused: Mapping[str, str],
        *,
        severity: Literal["error", "warning"] = "warning",
    ) -> None:
        """Tell of keys that nothing has read: refused ones are errors, unknown ones as `severity` says.

        Past a bound it is no slip any more: the rest is one error, so that nothing more is looked for.
        """
        for place, (name, found) in enumerate(fields.items()):
            if place >= MAX_PROBLEMS:
                message = f"{where} has {len(fields) - place} more keys that are not known here; remove them"
                self.error("unknown_key", message, found.pointer, key=True)
                return
            if name in refused:
                self.error("not_supported", f"`{name}` {refused[name]}", found.pointer, key=True)
                continue
            likely = suggestion(name, known)
            # A slip would drop what it says; a key of somebody else's only says nothing here.
            tell = self.error if severity == "error" or likely else self.warn
            advice = likely or f"remove it: {where} has no such key"
            tell("unknown_key", f"`{shown(name)}` is not known here; {advice}", found.pointer, key=True)


def condition_text(value: Any) -> str | None:
    """A condition as a text that is judged the same way; a literal becomes `true` or `false`."""
    return value if value is None or isinstance(value, str) else str(bool(value)).lower()


def suggestion(name: str, known: Collection[str]) -> str:
    """`did you mean ...?` for a likely slip, else ''."""
    close = get_close_matches(name[:MAX_SHOWN], sorted(known), n=1, cutoff=0.75)
    return f"did you mean `{close[0]}`?" if close else ""


def shown(text: str) -> str:
    """A text of the document, short enough for a message."""
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
