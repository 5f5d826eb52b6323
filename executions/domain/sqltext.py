"""SQL templates: every value is escaped for the place it stands in, so that none can break out of it.

A value inside a quoted literal, a quoted identifier, a dollar quote or a comment is escaped for that place; outside
quotes numbers, booleans and null are written as literals, a text must be a plain (dotted) identifier, and a list or a
map becomes a JSON literal. `| sql` pastes raw SQL. Source: docs/language.md, "SQL is a template".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from jinja2 import TemplateError as JinjaError
from jinja2 import Undefined, pass_context
from jinja2.environment import Template

from catalog.domain.template_syntax import is_template
from executions.domain.budget import Budget
from executions.domain.limits import MAX_TEMPLATE_CHARS
from executions.domain.sqlplaces import MARK, Places
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

_VALUES: Final = "__sql_values"


@pass_context
def _set_aside(context: Any, value: Any) -> str:
    """Keep an expression's value apart and leave a mark in the text: data never meets the SQL scanner."""
    values: list[Any] = context[_VALUES]
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    values.append(value)
    return f"{MARK}{len(values) - 1}{MARK}"


_ENVIRONMENT: Final = build_environment(finalize=_set_aside)


@lru_cache(maxsize=5_000)
def _compile(source: str) -> tuple[Template, frozenset[str], frozenset[str]]:
    if len(source) > MAX_TEMPLATE_CHARS:
        raise TemplateError(source, f"the template is longer than {MAX_TEMPLATE_CHARS} characters")
    if MARK in source:
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


def render_sql(value: Any, lookup: Lookup, budget: Budget | None = None) -> Any:
    """Render an SQL argument: a text, or a list of them. Raises: `TemplateError`."""
    if isinstance(value, list | tuple):
        budget = budget or Budget()
        return [render_sql(item, lookup, budget) for item in value]
    if not (isinstance(value, str) and is_template(value)):
        return value
    template, names, steps = _compile(value)
    values: list[Any] = []
    variables = {**bind(names, steps, lookup, budget), _VALUES: values}
    try:
        text = render_bounded(template, variables)
        plain = [item if isinstance(item, RawSql) else native(item, value) for item in values]
        return Places(plain).fill(text)
    except TemplateError as error:
        # What was being filled holds marks: the template as it is written says more, and can be stored.
        raise TemplateError(value, error.reason) from None
    except Exception as error:
        # As in templating: whatever an expression's operands raise is the template's failure.
        raise TemplateError(value, describe(error)) from None
