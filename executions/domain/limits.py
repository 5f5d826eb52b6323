"""Bounds on single operations of templates, and where in a template the budget of its rendering is asked.

A sandbox stops escapes, not bombs: `range(10**9)`, `'a' * 10**10`, a text that doubles forty times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.visitor import NodeTransformer

from executions.domain.budget import BUDGET, MAX_TEXT_CHARS, Budget, bounded

MAX_TEMPLATE_CHARS: Final = 64 * 1024
MAX_SEQUENCE: Final = 100_000
MAX_INTEGER_BITS: Final = 4096
MAX_WIDTH: Final = 1000
MAX_PRECISION: Final = 30
LOOKING: Final = frozenset(
    {
        *("==", "!=", "<", "<=", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan", "lt"),
        *("lower", "ne", "upper"),
    }
)
"""Tests that go through what they are given."""


class Limiter(NodeTransformer):
    """Sends every loop, every `~` and every list or map of a template through its budget.

    What is done again and again is counted each time: comparisons, tests and slices in a template that has loops.
    """

    def __init__(self, tree: nodes.Template) -> None:
        self._repeats = any(True for _ in tree.find_all((nodes.For, nodes.Macro)))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802  (jinja2 finds it by the class's name)
        """Count what is compared."""
        self.generic_visit(node)
        if self._repeats:
            node.expr = _counted(node.expr, "compare")
            for operand in node.ops:
                operand.expr = _counted(operand.expr, "search" if operand.op in ("in", "notin") else "compare")
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802  (the same)
        """Count what is tested by looking into it."""
        self.generic_visit(node)
        if self._repeats and node.name in LOOKING:
            node.node = _counted(node.node, "compare")
            node.args = [_counted(argument, "search" if node.name == "in" else "compare") for argument in node.args]
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802  (the same)
        """Count what a slice is taken of."""
        self.generic_visit(node)
        if self._repeats and isinstance(node.arg, nodes.Slice):
            node.node = _counted(node.node, "slice")
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  (jinja2 finds it by the class's name)
        """Count the rounds."""
        self.generic_visit(node)
        node.iter = _call("loop", [node.iter], node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  (the same)
        """Count the characters."""
        self.generic_visit(node)
        return _call("join", node.nodes, node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802  (the same)
        """Count the parts."""
        self.generic_visit(node)
        return _built(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802  (the same)
        """Count the parts, but not of what a loop assigns to."""
        self.generic_visit(node)
        return _built(node, node.items) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802  (the same)
        """Count the parts."""
        self.generic_visit(node)
        return _built(node, [pair.value for pair in node.items])


def _built(node: nodes.Expr, parts: list[nodes.Expr]) -> nodes.Expr:
    """The literal through the budget, unless all of it is written in the template."""
    return node if all(isinstance(part, nodes.Const) for part in parts) else _call("build", [node], node.lineno)


def _counted(node: nodes.Expr, method: str) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _call(method, [node], node.lineno)


def _call(method: str, arguments: list[Any], line: int) -> nodes.Call:
    budget = nodes.Name(BUDGET, "load", lineno=line)
    function = nodes.Getattr(budget, method, "load", lineno=line)
    return nodes.Call(function, arguments, [], None, None, lineno=line)


SAFE_METHODS: Final[dict[type, frozenset[str]]] = {
    str: frozenset(
        [
            "capitalize",
            "count",
            "endswith",
            "find",
            "isalnum",
            "isalpha",
            "isdigit",
            "islower",
            "isnumeric",
            "isspace",
            "isupper",
            "lower",
            "lstrip",
            "partition",
            "removeprefix",
            "removesuffix",
            "rpartition",
            "rsplit",
            "rstrip",
            "split",
            "splitlines",
            "startswith",
            "strip",
            "title",
            "upper",
        ]
    ),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
}
"""Methods of values that a template may call: pure ones that build nothing larger than what they are given."""


def check_call(function: Any, allowed: Mapping[str, Any]) -> None:
    """Refuse to call anything but the language's own functions and the safe methods. Raises: `SecurityError`."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, Budget) or any(function is known for known in allowed.values()):
        return
    if getattr(function, LANGUAGE_FUNCTION, False):
        return
    for kind, names in SAFE_METHODS.items():
        if isinstance(owner, kind) and getattr(function, "__name__", "") in names:
            return
    raise SecurityError(f"{getattr(function, '__name__', type(function).__name__)} cannot be called here")


LANGUAGE_FUNCTION: Final = "is_language_function"
"""Set on functions that a context hands to templates, such as `now`."""


def check_operands(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation whose result would be too large. Raises: `SecurityError`."""
    if operator == "%" and isinstance(left, str):
        raise SecurityError("use the filter `format` to format text")
    if operator == "**":
        _check_power(left, right)
    elif operator == "*":
        _check_product(left, right)
    elif operator == "+" and _length(left) + _length(right) > MAX_TEXT_CHARS:
        raise SecurityError("the sum is too long")


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 0


def _check_power(left: Any, right: Any) -> None:
    bits = left.bit_length() if isinstance(left, int) else 64
    if isinstance(right, int) and bits * abs(right) > MAX_INTEGER_BITS:
        raise SecurityError("the power is too large")


def _check_product(left: Any, right: Any) -> None:
    for sequence, times in ((left, right), (right, left)):
        if isinstance(times, int) and hasattr(sequence, "__len__") and len(sequence) * times > MAX_SEQUENCE:
            raise SecurityError("the repetition is too long")
    are_integers = isinstance(left, int) and isinstance(right, int)
    if are_integers and left.bit_length() + right.bit_length() > MAX_INTEGER_BITS:
        raise SecurityError("the number is too large")


def _format(template: str, *args: Any, **kwargs: Any) -> str:
    """Jinja's `format`, with no width past a line's."""
    template = str(template)
    if "*" in template or any(int(number[:9]) > MAX_WIDTH for number in re.findall(r"\d+", template)):
        raise SecurityError(f"a width past {MAX_WIDTH} is too large")
    text: str = template % (kwargs or args)
    return bounded(text)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    length = len(width) if isinstance(width, str) else width
    if length > MAX_WIDTH or length * (str(text).count("\n") + 1) > MAX_TEXT_CHARS:
        raise SecurityError("the indentation is too large")
    return str(JINJA_FILTERS["indent"](str(text), width, first, blank))


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    before = str(text)
    times = before.count(old) if count < 0 else min(count, before.count(old))
    if len(before) + times * len(new) > MAX_TEXT_CHARS:
        raise SecurityError(f"a text grows past {MAX_TEXT_CHARS} characters")
    return before.replace(old, new, count)


def _batch(value: Iterable[Any], count: int, fill_with: Any = None) -> list[list[Any]]:
    """Jinja's `batch`; the fill-up is bounded as well."""
    if count > MAX_SEQUENCE:
        raise SecurityError(f"a count past {MAX_SEQUENCE} is too large")
    return list(Budget().build(list(JINJA_FILTERS["batch"](value, count, fill_with))))


def _slice(value: Any, count: int, fill_with: Any = None) -> list[list[Any]]:
    """The value in `count` parts of about the same length."""
    if count > MAX_SEQUENCE:
        raise SecurityError(f"a count past {MAX_SEQUENCE} is too large")
    items = list(value)
    size, longer = divmod(len(items), count)
    parts = [items[n * size + min(n, longer) : (n + 1) * size + min(n + 1, longer)] for n in range(count)]
    if fill_with is not None and longer:
        parts = [part if len(part) > size else [*part, fill_with] for part in parts]
    return list(Budget().build(parts))


def _join(values: Iterable[Any], separator: Any = "", attribute: str | int | None = None) -> str:
    """Jinja's `join`, bounded; `attribute` names a key of maps."""
    texts = [str(value if attribute is None else value[attribute]) for value in values]
    if sum(map(len, texts)) + len(str(separator)) * len(texts) > MAX_TEXT_CHARS:
        raise SecurityError(f"a text grows past {MAX_TEXT_CHARS} characters")
    return str(separator).join(texts)


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    if abs(precision) > MAX_PRECISION:
        raise SecurityError(f"a precision past {MAX_PRECISION} is too large")
    return JINJA_FILTERS["round"](value, precision, method)


def _sum(values: Iterable[Any], attribute: str | int | None = None, start: float = 0) -> Any:
    """The sum of numbers; `attribute` names a key of maps."""
    total = start
    for value in values:
        number = value if attribute is None else value[attribute]
        if not isinstance(number, int | float) or not isinstance(total, int | float):
            raise SecurityError("only numbers can be summed")
        total += number
    return total


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "format": _format,
    "indent": _indent,
    "replace": _replace,
    "batch": _batch,
    "slice": _slice,
    "join": _join,
    "round": _round,
    "sum": _sum,
}
"""Filters of Jinja that could build something without bound, with one."""
