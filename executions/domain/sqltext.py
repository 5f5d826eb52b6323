"""SQL templates: every value is escaped for the place it stands in, so that none can break out of it.

A value inside a quoted literal, a quoted identifier, a dollar quote or a comment is escaped for that place; outside
quotes numbers, booleans and null are written as literals, a text must be a plain (dotted) identifier, and a list or a
map becomes a JSON literal. `| sql` pastes raw SQL. Source: docs/language.md, "SQL is a template".
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final

from jinja2 import TemplateError as JinjaError
from jinja2 import Undefined, pass_context
from jinja2.environment import Template

from catalog.domain.template_syntax import is_template
from executions.domain.limits import MAX_TEMPLATE_CHARS
from executions.domain.templating import (
    UNCOMPILABLE,
    Lookup,
    RawSql,
    bind,
    build_environment,
    describe,
    native,
    operand_paths,
    render_bounded,
    rewrite,
    steps_named,
)
from executions.errors import TemplateError

_MARK: Final = "\x00"
_VALUES: Final = "__sql_values"
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_DOLLAR_TAG: Final = re.compile("\\$(?:[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*)?\\$")
"""As Postgres reads it: every character beyond ASCII counts as a letter."""


@pass_context
def _set_aside(context: Any, value: Any) -> str:
    """Keep an expression's value apart and leave a mark in the text: data never meets the SQL scanner."""
    values: list[Any] = context[_VALUES]
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    values.append(value)
    return f"{_MARK}{len(values) - 1}{_MARK}"


_ENVIRONMENT: Final = build_environment(finalize=_set_aside)


@lru_cache(maxsize=5_000)
def _compile(source: str) -> tuple[Template, frozenset[str], frozenset[str]]:
    if len(source) > MAX_TEMPLATE_CHARS:
        raise TemplateError(source, f"the template is longer than {MAX_TEMPLATE_CHARS} characters")
    if _MARK in source:
        raise TemplateError(source, "SQL may not hold the character NUL")
    try:
        tree = _ENVIRONMENT.parse(source)
        steps = steps_named(operand_paths(tree))
        names = rewrite(tree)
        code: Any = _ENVIRONMENT.compile(tree)
    except JinjaError as error:
        raise TemplateError(source, str(error.message or error)) from None
    except UNCOMPILABLE as error:
        raise TemplateError(source, f"the template cannot be compiled: {describe(error)}") from None
    return Template.from_code(_ENVIRONMENT, code, dict(_ENVIRONMENT.globals)), names, steps


def render_sql(value: Any, lookup: Lookup) -> Any:
    """Render an SQL argument: a text, or a list of them. Raises: `TemplateError`."""
    if isinstance(value, list | tuple):
        return [render_sql(item, lookup) for item in value]
    if not (isinstance(value, str) and is_template(value)):
        return value
    template, names, steps = _compile(value)
    values: list[Any] = []
    variables = {**bind(names, steps, lookup), _VALUES: values}
    try:
        text = render_bounded(template, variables)
        plain = [item if isinstance(item, RawSql) else native(item, value) for item in values]
        return _fill(text, plain)
    except TemplateError as error:
        # What was being filled holds marks: the template as it is written says more, and can be stored.
        raise TemplateError(value, error.reason) from None
    except Exception as error:
        # As in templating: whatever an expression's operands raise is the template's failure.
        raise TemplateError(value, describe(error)) from None


def _fill(text: str, values: list[Any]) -> str:
    """Replace every mark by its value, escaped for the place that the SQL around it makes."""
    out: list[str] = []
    at = 0
    # Whether an E'...' has just closed: a literal in the next line goes on in its mode.
    continued = False
    while at < len(text):
        char = text[at]
        after_escapes, continued = continued, False
        if char == _MARK:
            at = _fill_bare(text, at, values, out)
        elif char in "'\"":
            continued = char == "'" and (after_escapes or _is_escape_string(text, at))
            at = _fill_quoted(text, at, values, out, char, continued)
        elif char == "$" and (tag := _DOLLAR_TAG.match(text, at)) and not _inside_word(text, at):
            at = _fill_until(text, at, len(tag[0]), tag[0], values, out)
        elif text.startswith("--", at):
            continued = after_escapes
            at = _fill_until(text, at, 2, "\n", values, out)
        elif text.startswith("/*", at):
            continued = after_escapes
            at = _fill_comment(text, at, values, out)
        else:
            continued = after_escapes and char.isspace()
            out.append(char)
            at += 1
    return "".join(out)


def _fill_bare(text: str, at: int, values: list[Any], out: list[str]) -> int:
    """A value outside quotes; it may not touch what would make another token of it."""
    at, value = _read_mark(text, at, values)
    written = _bare(value)
    before = out[-1][-1:] if out else ""
    if written.startswith("'") and (before.isalnum() or (before and before in "_$&'")):
        raise TemplateError(text, "a list or a map may not stand directly behind a word or a quote")
    if isinstance(value, str) and text[at : at + 1] in ("'", '"', "&"):
        raise TemplateError(text, "a name may not stand directly before a quote")
    out.append(written)
    return at


def _read_mark(text: str, at: int, values: list[Any]) -> tuple[int, Any]:
    end = text.index(_MARK, at + 1)
    return end + 1, values[int(text[at + 1 : end])]


def _inside_word(text: str, at: int) -> bool:
    """Whether a `$` here belongs to an identifier and opens no quote."""
    return at > 0 and (text[at - 1].isalnum() or text[at - 1] in "_$" or text[at - 1] == _MARK)


def _is_escape_string(text: str, at: int) -> bool:
    """Whether the quote at `at` opens an `E'...'` string, in which a backslash escapes."""
    return at > 0 and text[at - 1] in "eE" and not (at > 1 and (text[at - 2].isalnum() or text[at - 2] == "_"))


def _fill_quoted(text: str, at: int, values: list[Any], out: list[str], quote: str, backslashes: bool) -> int:
    out.append(quote)
    at += 1
    while at < len(text):
        char = text[at]
        if char == _MARK:
            at, value = _read_mark(text, at, values)
            written = _as_text(value).replace(quote, quote * 2)
            out.append(written.replace("\\", "\\\\") if backslashes else written)
            continue
        out.append(char)
        at += 1
        if backslashes and char == "\\" and at < len(text):
            if text[at] == _MARK:
                raise TemplateError(text, "a value may not follow a backslash inside E'...'")
            out.append(text[at])
            at += 1
        elif char == quote:
            if text[at : at + 1] != quote:
                return at
            out.append(quote)
            at += 1
    return at


def _fill_until(text: str, at: int, skip: int, end: str, values: list[Any], out: list[str]) -> int:
    """A dollar quote or a line comment: no value may hold what ends it."""
    out.append(text[at : at + skip])
    at += skip
    while at < len(text):
        if text.startswith(end, at):
            out.append(end)
            return at + len(end)
        if text[at] == _MARK:
            at, value = _read_mark(text, at, values)
            written = _as_text(value)
            if end == "\n":
                written = " ".join(written.splitlines())
            elif "$" in written:
                raise TemplateError(text, "a value inside a dollar quote may not hold a dollar sign")
            out.append(written)
            continue
        out.append(text[at])
        at += 1
    return at


def _fill_comment(text: str, at: int, values: list[Any], out: list[str]) -> int:
    depth = 0
    while at < len(text):
        if text.startswith("/*", at):
            depth += 1
            out.append("/*")
            at += 2
        elif text.startswith("*/", at):
            depth -= 1
            out.append("*/")
            at += 2
            if depth == 0:
                return at
        elif text[at] == _MARK:
            at, value = _read_mark(text, at, values)
            out.append(_as_text(value).replace("*", " ").replace("/", " "))
        else:
            out.append(text[at])
            at += 1
    return at


def _as_text(value: Any) -> str:
    """The characters of a value inside quotes."""
    if isinstance(value, RawSql):
        raise TemplateError(value.text, "the filter `sql` works outside quotes only")
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if _MARK in text:
        raise TemplateError(text, "a value in SQL may not hold the character NUL")
    return text


def _bare(value: Any) -> str:
    """A value outside quotes."""
    if isinstance(value, RawSql):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int | float):
        text = repr(value)
        if not text.lstrip("-").replace(".", "", 1).replace("e", "", 1).replace("+", "").replace("-", "").isdigit():
            raise TemplateError(text, "only a finite number can stand in SQL")
        # A sign could make a comment of two dashes with what stands before it.
        return f"({text})" if text.startswith("-") else text
    if isinstance(value, str):
        if _IDENTIFIER.fullmatch(value):
            return value
        raise TemplateError(
            value,
            "a text outside quotes must be a plain identifier; put it in quotes, or bind it with `params`",
        )
    literal = json.dumps(value, ensure_ascii=False).replace("'", "''")
    if _MARK in literal:
        raise TemplateError(literal, "a value in SQL may not hold the character NUL")
    return f"'{literal}'"
