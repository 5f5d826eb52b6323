"""Reads SQL text by PostgreSQL's lexical rules: splits it into statements and finds what they name.

Knows quotes, escape strings, quoted identifiers, dollar quotes, nested comments, `BEGIN ATOMIC` bodies and named
parameters; nothing of what statements mean. Every rule supposes `standard_conforming_strings`, which sessions keep on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Literal

_LETTER: Final = "A-Za-z_\u0080-\U0010ffff"
"""As Postgres reads it: every character beyond ASCII counts as a letter."""
_BETWEEN: Final = r"[ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:\s|--[^\n\r]*[\n\r])*"
"""Between two parts of one literal: blanks and line comments with a line's end among them."""
_ESCAPES: Final = r"'(?:[^'\\]|\\.|'')*(?:'|\Z)"

TOKEN: Final = re.compile(
    rf"""
      (?P<comment>--[^\n\r]*)
    | (?P<block>/\*)
    | (?P<escape>[eE]{_ESCAPES}(?:{_BETWEEN}{_ESCAPES})*)
    | (?P<string>'(?:[^']|'')*(?:'|\Z))
    | (?P<identifier>"(?:[^"]|"")*(?:"|\Z))
    | (?P<dollar>\$(?:[{_LETTER}][{_LETTER}0-9]*)?\$)
    | (?P<number>\$[0-9]+)
    | (?P<word>[{_LETTER}][{_LETTER}0-9$]*)
    | (?P<cast>::|:=)
    | (?P<psql>:['"]|:\{{\?|\\)
    | (?P<named>:[A-Za-z_][A-Za-z0-9_]*)
    | (?P<python>%\([^()\s]+\)s)
    | (?P<percent>%%)
    | (?P<opening>[(\[])
    | (?P<closing>[)\]])
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
BLOCK_EDGE: Final = re.compile(r"/\*|\*/")
COMMENTS: Final = ("comment", "block")
TRANSACTION_WORDS: Final = {"begin", "start", "commit", "end", "abort", "rollback", "prepare"}


class StatementUnreadable(ValueError):
    """The text is no SQL that a server could be given; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Token:
    """What stands between `start` and `end` of a text; `kind` is a group of `TOKEN`."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Bound:
    """A statement with `$1`, `$2`, ... in it, and the names of their values in that order."""

    text: str
    names: tuple[str, ...] = ()


def tokens(sql: str) -> Iterator[Token]:
    """The tokens that matter, in order; operators, plain numbers and blanks between them are left out."""
    position = 0
    while match := TOKEN.search(sql, position):
        kind = match.lastgroup
        assert kind is not None
        position = match.end()
        if kind == "block":
            position = _block_end(sql, position)
        elif kind == "dollar":
            closing = sql.find(match[0], position)
            position = len(sql) if closing < 0 else closing + len(match[0])
        yield Token(kind, match[0], match.start(), position)


def split_statements(sql: str) -> list[str]:
    """The statements in order, without their `;`; those of blanks and comments alone are left out.

    Raises: `StatementUnreadable` for what only psql reads.
    """
    statements: list[str] = []
    start, position, meaningful = 0, 0, False
    body, brackets = _AtomicBody(), 0
    for token in tokens(sql):
        meaningful = meaningful or bool(sql[position : token.start].strip())
        position = token.end
        if token.kind == "end":
            if body.open:
                continue
            if meaningful:
                statements.append(sql[start : token.start].strip())
            start, meaningful, body, brackets = position, False, _AtomicBody(), 0
        elif token.kind not in COMMENTS:
            meaningful = True
            brackets += {"[": 1, "]": -1}.get(token.text, 0)
            if token.kind == "word":
                body.see(token.text.lower())
            elif token.kind == "psql" and (brackets <= 0 or token.text == "\\"):
                raise StatementUnreadable(_psql_advice(sql, token))
    if meaningful or sql[position:].strip():
        statements.append(sql[start:].strip())
    return statements


def first_words(statement: str) -> list[str]:
    """The first two words of a statement, lower-case, comments left out."""
    words: list[str] = []
    for token in tokens(statement):
        if token.kind == "word":
            words.append(token.text.lower())
        if len(words) == 2 or token.kind not in ("word", *COMMENTS):
            break
    return words


def ends_transaction(statement: str) -> bool:
    """Whether a statement begins or ends a transaction (savepoints and prepared statements do not)."""
    words = first_words(statement)
    if not words or words[0] not in TRANSACTION_WORDS:
        return False
    following = words[1] if len(words) > 1 else ""
    if words[0] == "prepare":
        return following == "transaction"
    return not (words[0] == "rollback" and _rolls_back_to_savepoint(statement))


def copy_direction(statement: str) -> Literal["to", "from"] | None:
    """Whether a statement sends rows to its client (`COPY ... TO STDOUT`) or reads them from it."""
    depth, before = 0, ""
    for index, token in enumerate(token for token in tokens(statement) if token.kind not in COMMENTS):
        word = token.text.lower() if token.kind == "word" else ""
        if index == 0 and word != "copy":
            return None
        depth += {"opening": 1, "closing": -1}.get(token.kind, 0)
        if depth == 0 and word in ("stdin", "stdout") and before in ("to", "from"):
            return "to" if before == "to" else "from"
        before = word
    return None


def bind(statement: str, given: Collection[str]) -> Bound:
    """Put numbers for the names of parameters: `:name` and `%(name)s`, outside of quotes and comments.

    `::`, `:=` and the bounds of an array's slice stay as they are. `%%` is one `%`.
    Raises: `StatementUnreadable` for a name that is not in `given`.
    """
    names: dict[str, int] = {}
    pieces: list[str] = []
    position = brackets = 0
    for token in tokens(statement):
        brackets += {"[": 1, "]": -1}.get(token.text, 0)
        written = None
        if token.kind in ("named", "python"):
            name = token.text[1:] if token.kind == "named" else token.text[2:-2]
            if name in given:
                # Blanks around: what stands beside it must not become one token with it.
                written = f" ${names.setdefault(name, len(names) + 1)} "
            elif token.kind == "python" or brackets <= 0:
                raise StatementUnreadable(f"there is no parameter {name!r} in `params`")
        elif token.kind == "percent":
            written = "%"
        elif token.kind == "number":
            raise StatementUnreadable(f"with `params`, write :name instead of {token.text}")
        if written is not None:
            pieces += [statement[position : token.start], written]
            position = token.end
    return Bound("".join(pieces) + statement[position:], tuple(names))


class _AtomicBody:
    """Tracks `BEGIN ATOMIC ... END` of an SQL-standard function body, whose `;` end no statement."""

    def __init__(self) -> None:
        self._depth = 0
        self._previous = ""

    @property
    def open(self) -> bool:
        return self._depth > 0

    def see(self, word: str) -> None:
        if (word == "atomic" and self._previous == "begin") or (self._depth and word == "case"):
            self._depth += 1
        elif self._depth and word == "end":
            self._depth -= 1
        self._previous = word


def _rolls_back_to_savepoint(statement: str) -> bool:
    words = [token.text.lower() for token in tokens(statement) if token.kind == "word"]
    return "to" in words[1:3]


def _block_end(sql: str, position: int) -> int:
    """Where the comment that was just opened ends; PostgreSQL's nest."""
    depth = 1
    while depth and (edge := BLOCK_EDGE.search(sql, position)):
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return len(sql) if depth else position


def _psql_advice(sql: str, token: Token) -> str:
    if token.text != "\\":
        return f"{token.text!r} is psql's own way to write a variable: write :name, and give its value in `params`"
    command = re.match(r"\\[A-Za-z!?;]*", sql[token.start :])
    told = command[0] if command else "\\"
    advice = (
        "write COPY ... FROM STDIN or TO STDOUT, and name the file with `copy`" if told == "\\copy" else "leave it out"
    )
    return f"{told} is a command of psql, and no SQL: {advice}"
