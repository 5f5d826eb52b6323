"""Values put into SQL, each escaped for the place that the text around it makes.

Knows PostgreSQL's lexical rules (DuckDB has the same) with `standard_conforming_strings` on. A value stands in the text
as a mark, so that data never meets the scanner: what it is cannot change how the text around it is read.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import Any, Final

from executions.domain.templating import RawSql
from executions.errors import TemplateError

MARK: Final = "\x00"
_LETTER: Final = "A-Za-z_\u0080-\U0010ffff"
"""As Postgres reads it: every character beyond ASCII counts as a letter."""
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_WORD: Final = re.compile(f"[{_LETTER}][{_LETTER}0-9$]*")
_PARAMETER: Final = re.compile(r"\$[0-9]+")
_DOLLAR_TAG: Final = re.compile(f"\\$(?:[{_LETTER}][{_LETTER}0-9]*)?\\$")
_TOUCHES: Final = re.compile(f"[{_LETTER}0-9]*(?:\\$|&?['\"])")
"""What may not stand directly behind a value outside quotes: with it, the value could open a quote of another kind."""
_LINE_END: Final = re.compile(r"[\r\n]")
_CODE_OF: Final = re.compile(r"do|create (?:or replace )?(?:function|procedure)")
_MOST_WORDS: Final = 4


class _Quote(Enum):
    """How a quoted text reads its backslashes."""

    PLAIN = "as themselves"
    ESCAPES = "E'...': the next character is no end"
    UNICODE = "U&'...': a number of a character follows"


class Places:
    """Fills one text. `in_dollars`: it is the body of a dollar quote, which no value may end."""

    def __init__(self, values: list[Any], *, in_dollars: bool = False) -> None:
        self._values = values
        self._in_dollars = in_dollars
        self._out: list[str] = []
        self._words: list[str] = []
        self._closed: _Quote | None = None
        """The literal that has just ended: one in the next line goes on in its way."""

    def fill(self, text: str) -> str:
        """The text with every mark replaced by its value. Raises: `TemplateError`."""
        at = 0
        while at < len(text):
            closed, self._closed = self._closed, None
            char = text[at]
            if char == MARK:
                at = self._bare(text, at, after_literal=closed is not None)
            elif char == "'":
                self._closed = closed or _Quote.PLAIN
                at = self._quoted(text, at, self._closed)
            elif char == '"':
                at = self._quoted(text, at, _Quote.PLAIN)
            elif char == "$" and (tag := _DOLLAR_TAG.match(text, at)):
                at = self._dollars(text, at, tag[0])
            elif text.startswith("--", at):
                self._closed = closed
                at = self._line(text, at)
            elif text.startswith("/*", at):
                at = self._block(text, at)
            elif word := _WORD.match(text, at):
                at = self._word(text, at, word[0])
            else:
                at = self._other(text, at, closed)
        return "".join(self._out)

    # -- outside quotes -------------------------------------------------------------------------------

    def _other(self, text: str, at: int, closed: _Quote | None) -> int:
        char = text[at]
        if char.isspace():
            self._closed = closed
        if char == ";":
            self._words = []
        parameter = _PARAMETER.match(text, at)
        self._out.append(parameter[0] if parameter else char)
        return parameter.end() if parameter else at + 1

    def _word(self, text: str, at: int, word: str) -> int:
        """A word, with the quote that it may be the first letter of."""
        self._out.append(word)
        at += len(word)
        letter = word.lower()
        if letter == "e" and text[at : at + 1] == "'":
            self._closed = _Quote.ESCAPES
            return self._quoted(text, at, _Quote.ESCAPES)
        if letter == "u" and text[at : at + 2] in ("&'", '&"'):
            self._out.append("&")
            self._closed = _Quote.UNICODE if text[at + 1] == "'" else None
            return self._quoted(text, at + 1, _Quote.UNICODE)
        self._words.append(letter)
        return at

    def _bare(self, text: str, at: int, *, after_literal: bool) -> int:
        """A value outside quotes; it may not touch what would make another token of it."""
        at, value = self._read(text, at)
        written = self._literal(value)
        before = self._out[-1][-1:] if self._out else ""
        if written.startswith("'") and (after_literal or before.isalnum() or (before and before in "_&'")):
            raise TemplateError(text, "a list or a map may not stand directly behind a word or a quote")
        if before == "$":
            raise TemplateError(text, "a value outside quotes may not stand directly behind a dollar sign")
        if _TOUCHES.match(text, at):
            raise TemplateError(text, "a value outside quotes may not touch a quote or a dollar sign behind it")
        self._out.append(written)
        return at

    def _literal(self, value: Any) -> str:
        if isinstance(value, RawSql):
            return value.text
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None:
            return "null"
        if isinstance(value, int | float):
            return _number(value)
        if isinstance(value, str):
            if _IDENTIFIER.fullmatch(value):
                return value
            raise TemplateError(
                value,
                "a text outside quotes must be a plain identifier; put it in quotes, or bind it with `params`",
            )
        return "'" + self._text(value).replace("'", "''") + "'"

    # -- inside quotes --------------------------------------------------------------------------------

    def _quoted(self, text: str, at: int, kind: _Quote) -> int:
        quote = text[at]
        is_code = quote == "'" and self._is_code()
        self._out.append(quote)
        at += 1
        while at < len(text):
            char = text[at]
            if char == MARK:
                if is_code:
                    raise TemplateError(text, "a value may not stand in code in single quotes; write it in $$ ... $$")
                at, value = self._read(text, at)
                written = self._text(value).replace(quote, quote * 2)
                self._out.append(written if kind is _Quote.PLAIN else written.replace("\\", "\\\\"))
                continue
            self._out.append(char)
            at += 1
            if kind is _Quote.ESCAPES and char == "\\" and at < len(text):
                if text[at] == MARK:
                    raise TemplateError(text, "a value may not follow a backslash inside E'...'")
                self._out.append(text[at])
                at += 1
            elif kind is _Quote.UNICODE and char == "\\" and text[at : at + 1] == MARK:
                raise TemplateError(text, "a value may not follow a backslash inside U&'...'")
            elif char == quote:
                if text[at : at + 1] != quote:
                    return at
                self._out.append(quote)
                at += 1
        return at

    def _dollars(self, text: str, at: int, tag: str) -> int:
        """A dollar quote. Code in it has places of its own; no other value may hold what could end it."""
        at += len(tag)
        end = text.find(tag, at)
        closing = "" if end < 0 else tag
        body = text[at:] if end < 0 else text[at:end]
        if MARK in body:
            # Also what the text itself has: a value that is empty could bring two halves of an end together.
            filled = Places(self._values, in_dollars=True)._body(body, is_code=self._is_code())
            if (filled + tag).find(tag) != len(filled):
                raise TemplateError(text, "a value inside a dollar quote may not make an end of it")
            body = filled
        self._out += [tag, body, closing]
        return len(text) if end < 0 else end + len(tag)

    def _body(self, body: str, *, is_code: bool) -> str:
        return self.fill(body) if is_code else self._replaced(body, str)

    def _is_code(self) -> bool:
        """Whether a quoted text here is code: of `DO`, of a function, or of an `EXECUTE` in one of them."""
        if self._in_dollars and "execute" in self._words:
            # What `USING` hands over is bound.
            return "using" not in self._words
        begun = " ".join(self._words[:_MOST_WORDS])
        found = _CODE_OF.match(begun)
        return found is not None and (found[0] == "do" or self._words[-1] == "as")

    # -- comments -------------------------------------------------------------------------------------

    def _line(self, text: str, at: int) -> int:
        found = _LINE_END.search(text, at)
        end = found.start() if found else len(text)
        self._out.append(self._replaced(text[at:end], lambda value: " ".join(value.splitlines())))
        return end

    def _block(self, text: str, at: int) -> int:
        """A comment, with those in it. A blank for nothing: two characters around it may not come together."""
        depth, begun = 0, at
        while at < len(text):
            pair = text[at : at + 2]
            depth += {"/*": 1, "*/": -1}.get(pair, 0)
            at += 2 if pair in ("/*", "*/") else 1
            if depth == 0:
                break
        self._out.append(self._replaced(text[begun:at], lambda value: value.replace("*", " ").replace("/", " ") or " "))
        return at

    # -- values ---------------------------------------------------------------------------------------

    def _replaced(self, text: str, write: Any) -> str:
        """The text with its marks replaced, and nothing else looked at."""
        parts, at = [], 0
        while (found := text.find(MARK, at)) >= 0:
            parts.append(text[at:found])
            at, value = self._read(text, found)
            parts.append(write(self._text(value)))
        return "".join([*parts, text[at:]])

    def _read(self, text: str, at: int) -> tuple[int, Any]:
        end = text.index(MARK, at + 1)
        return end + 1, self._values[int(text[at + 1 : end])]

    def _text(self, value: Any) -> str:
        """The characters of a value inside quotes."""
        if isinstance(value, RawSql):
            raise TemplateError(value.text, "the filter `sql` works outside quotes only")
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None:
            return ""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if MARK in text:
            raise TemplateError(text, "a value in SQL may not hold the character NUL")
        if self._in_dollars and "$" in text:
            raise TemplateError(text, "a value inside a dollar quote may not hold a dollar sign")
        return text


def _number(value: float) -> str:
    text = repr(value)
    if not text.lstrip("-").replace(".", "", 1).replace("e", "", 1).replace("+", "").replace("-", "").isdigit():
        raise TemplateError(text, "only a finite number can stand in SQL")
    # A sign could make a comment of two dashes with what stands before it.
    return f"({text})" if text.startswith("-") else text
