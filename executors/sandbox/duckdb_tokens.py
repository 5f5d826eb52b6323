"""DuckDB SQL as tokens, cut into statements by DuckDB's own lexer, without changing a character.

Knows words, literals and where they stand; nothing of what statements mean or may do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

# Not the `duckdb` package: importing that one starts a thread, and a zygote must not have any.
import _duckdb as duckdb

WORD: Final = re.compile(rb"[A-Za-z_\x80-\xff][\w$\x80-\xff]*")
QUOTED: Final = re.compile(rb'"((?:[^"]|"")*)"')
# Nothing but blanks and comments may follow: the lexer joins literals that are only parted by a line's end.
LITERAL: Final = re.compile(rb"'((?:[^']|'')*)'[^']*", re.DOTALL)
ODD_BLANKS: Final = frozenset({"Zs", "Zl", "Zp", "Cf"})


class TextRefused(ValueError):
    """SQL that is not read as it looks; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `start` and `end` are its bytes in the text, blanks and comments after it counted with it."""

    start: int
    end: int
    word: str
    """An identifier or key word in lower case, without its quotes; otherwise the mark itself, or empty."""
    is_quoted: bool
    literal: str | None
    """The value of a plain literal, `'...'`; None for all else, other spellings of text among it."""
    is_text: bool
    """Some literal, plain or not."""

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words without quotes, or one of these marks."""
        return not self.is_quoted and not self.is_text and self.word in words


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a text, as it was written, and its tokens, whose places count from its own beginning."""

    text: str
    tokens: tuple[Token, ...]

    @property
    def head(self) -> str:
        """Its first word."""
        return "" if self.tokens[0].is_quoted else self.tokens[0].word

    def replaced(self, token: Token, text: str) -> Statement:
        """The same with another text in the place of one token; its tokens are the earlier ones."""
        data = self.text.encode()
        return replace(self, text=(data[: token.start] + text.encode() + b" " + data[token.end :]).decode())


def split(text: str) -> list[Statement]:
    """The statements in order, those of blanks and comments alone left out. Raises: `TextRefused`."""
    if "\x00" in text:
        raise TextRefused("the SQL holds a NUL character")
    data = text.encode()
    starts = [(start, kind) for start, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment]
    ends = [start for start, _ in starts[1:]] + [len(data)]
    statements: list[Statement] = []
    begin, tokens = 0, list[Token]()
    for (start, kind), end in zip(starts, ends, strict=True):
        token = _token(data, start, end, kind)
        if not token.is_word(";"):
            tokens.append(token)
            continue
        if tokens:
            statements.append(_statement(data, begin, start, tokens))
        begin, tokens = end, []
    if tokens:
        statements.append(_statement(data, begin, len(data), tokens))
    return statements


def quoted_text(value: str) -> str:
    """A text as a literal."""
    return "'" + value.replace("'", "''") + "'"


def quoted_name(value: str) -> str:
    """A name as an identifier."""
    return '"' + value.replace('"', '""') + '"'


def _statement(data: bytes, begin: int, end: int, tokens: Sequence[Token]) -> Statement:
    first = tokens[0].start
    moved = tuple(replace(token, start=token.start - first, end=min(token.end, end) - first) for token in tokens)
    # Comments before the first token say nothing to DuckDB; those after the last one may hold the text's end.
    return Statement(data[first:end].decode().rstrip(), moved)


def _token(data: bytes, start: int, end: int, kind: Any) -> Token:
    raw = data[start:end]
    if kind == duckdb.token_type.string_const:
        plain = LITERAL.fullmatch(raw)
        value = plain[1].decode().replace("''", "'") if plain else None
        return Token(start, end, "", False, value, True)
    if quoted := QUOTED.match(raw):
        return Token(start, end, quoted[1].decode().replace('""', '"').lower(), True, None, False)
    if found := WORD.match(raw):
        word = found[0].decode()
        if any(unicodedata.category(character) in ODD_BLANKS for character in word):
            # The parser takes them for blanks, the lexer for letters.
            raise TextRefused("outside of quotes, write plain blanks: the SQL holds others, or invisible characters")
        return Token(start, end, word.lower(), False, None, False)
    return Token(start, end, raw[:1].decode(errors="replace"), False, None, False)
