"""Splits SQL text into statements by PostgreSQL's lexical rules, without changing a character inside one.

Knows quotes, escape strings, quoted identifiers, dollar quotes, nested comments and `BEGIN ATOMIC` bodies;
nothing of what statements mean.
"""

from __future__ import annotations

import re

TOKEN = re.compile(
    r"""
      (?P<comment>--[^\n]*)
    | (?P<block>/\*)
    | (?P<escape>\b[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))
    | (?P<string>'(?:[^']|'')*(?:'|\Z))
    | (?P<identifier>"(?:[^"]|"")*(?:"|\Z))
    | (?P<dollar>(?<![\w$])\$(?:[^\W\d]\w*)?\$)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
BLOCK_EDGE = re.compile(r"/\*|\*/")
TRANSACTION_WORDS = {"begin", "start", "commit", "end", "abort", "rollback", "prepare"}


def split_statements(sql: str) -> list[str]:
    """The statements in order, without their `;`; those of blanks and comments alone are left out."""
    statements: list[str] = []
    start, position, meaningful = 0, 0, False
    body = _AtomicBody()
    while match := TOKEN.search(sql, position):
        meaningful = meaningful or bool(sql[position : match.start()].strip())
        position = match.end()
        if match.lastgroup == "block":
            position = _block_end(sql, position)
        elif match.lastgroup == "end":
            if body.open:
                continue
            if meaningful:
                statements.append(sql[start : match.start()].strip())
            start, meaningful, body = position, False, _AtomicBody()
        elif match.lastgroup != "comment":
            meaningful = True
            if match.lastgroup == "dollar":
                closing = sql.find(match[0], position)
                position = len(sql) if closing < 0 else closing + len(match[0])
            elif match.lastgroup == "word":
                body.see(match[0].lower())
    if meaningful or sql[position:].strip():
        statements.append(sql[start:].strip())
    return statements


def first_words(statement: str) -> list[str]:
    """The first two words of a statement, lower-case, comments left out."""
    words: list[str] = []
    position = 0
    while len(words) < 2 and (match := TOKEN.search(statement, position)):
        position = _block_end(statement, match.end()) if match.lastgroup == "block" else match.end()
        if match.lastgroup == "word":
            words.append(match[0].lower())
    return words


def ends_transaction(statement: str) -> bool:
    """Whether a statement begins or ends a transaction (savepoints and prepared statements do not)."""
    words = first_words(statement)
    if not words or words[0] not in TRANSACTION_WORDS:
        return False
    following = words[1] if len(words) > 1 else ""
    if words[0] == "prepare":
        return following == "transaction"
    return not (words[0] == "rollback" and following == "to")


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


def _block_end(sql: str, position: int) -> int:
    """Where the comment that was just opened ends; PostgreSQL's nest."""
    depth = 1
    while depth and (edge := BLOCK_EDGE.search(sql, position)):
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return len(sql) if depth else position
