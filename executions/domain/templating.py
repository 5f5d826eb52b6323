"""Templates: compiled once, rendered in a sandbox, to native values.

Knows how a template is rendered from a context of names; knows nothing of steps' places or the log. A text that
is one whole `{{ expression }}` keeps the native type of its value; any other stays text. Data is never a template:
only texts of a playbook may come here.
"""

from __future__ import annotations

import ast
import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, nodes
from jinja2 import TemplateError as JinjaError
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from catalog.domain.template_syntax import ALLOWED_FILTERS, ALLOWED_TESTS, is_template
from executions.domain.budget import BUDGET, MAX_TEXT_CHARS, Budget, counted, work_of
from executions.domain.limits import FILTERS, MAX_TEMPLATE_CHARS, Limiter, check_call, check_operands
from executions.domain.results import MISSING, StepResult
from executions.domain.values import Unstorable, plain
from executions.errors import TemplateError, shorten

_PROXY: Final = "proxied__"
_VALUE: Final = "__value"
ALL_STEPS: Final = ""
"""Among the steps that a template names: it reads the results of all."""


@dataclass(frozen=True, slots=True)
class RawSql:
    """Text that a playbook's author asked to paste into SQL as it is (`| sql`)."""

    text: str

    def __str__(self) -> str:
        return self.text


class _Unknown(StrictUndefined):
    """What is not there: it may be reached into, so that `a.b | default(x)` works, and fails when it is used."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: Any) -> Any:
        return self


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox: keys before methods, step results through their proxy, no unbounded arithmetic."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, StepResult):
            found = obj.attribute(attribute)
            return self.getattr(obj.data, attribute) if found is MISSING else found
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        if isinstance(obj, Mapping) and not isinstance(obj, dict):
            # All results at once: what has no result here is a step that has not run, or does not lead here.
            return self.undefined(f"the step {attribute!r} has no result here", name=attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, StepResult):
            if isinstance(argument, str):
                return self.getattr(obj, argument)
            return super().getitem(obj.data, argument)
        return super().getitem(obj, argument)

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        check_call(function, self.globals)
        owner = getattr(function, "__self__", None)
        if isinstance(owner, Budget):
            # It counts by itself.
            return super().call(context, function, *args, **kwargs)
        budget: Budget = context.parent[BUDGET]
        budget.spend((0 if isinstance(owner, dict) else budget.weigh(owner) // 4) + sum(map(work_of, args)))
        return _built(context, super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        check_operands(operator, left, right)
        return _built(context, super().call_binop(context, operator, left, right))


def _built(context: Any, value: Any) -> Any:
    """A value that a call or an operation built, through the rendering's budget."""
    budget: Budget = context.parent[BUDGET]
    return budget.build(budget.made(value))


def _json_text(value: Any, indent: int | None = None) -> str:
    text_indent = None if indent is None else min(indent, 8)
    # Maps have no order: a value that was stored meanwhile must give the same text.
    return json.dumps(plain(_plain(value)), ensure_ascii=False, sort_keys=True, indent=text_indent)


def _plain(value: Any) -> Any:
    """A value as it leaves a template: a step's result stands for its data."""
    return value.data if isinstance(value, StepResult) else value


def _encode_base64(value: Any) -> str:
    return base64.b64encode(str(value).encode()).decode()


def _decode_base64(value: Any) -> str:
    return base64.b64decode(str(value)).decode()


_OWN_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "tojson": _json_text,
    "to_json": _json_text,
    "fromjson": json.loads,
    "b64encode": _encode_base64,
    "b64decode": _decode_base64,
    "sql": lambda value: RawSql(str(value)),
}


def build_environment(finalize: Callable[..., Any] | None = None) -> ImmutableSandboxedEnvironment:
    """A sandbox with the language's own filters, tests and globals, and nothing else."""
    environment = _Environment(undefined=_Unknown, autoescape=False, finalize=finalize, keep_trailing_newline=True)
    # Constants are not folded: an expression must cost nothing before it is rendered.
    environment.optimized = False
    environment.filters.update({**FILTERS, **_OWN_FILTERS})
    for name, function in environment.filters.items():
        environment.filters[name] = counted(name, function)
    for known, allowed in ((environment.filters, ALLOWED_FILTERS), (environment.tests, ALLOWED_TESTS)):
        for name in set(known) - set(allowed):
            del known[name]
    safe_range = environment.globals["range"]
    environment.globals.clear()
    environment.globals.update(range=safe_range, dict=dict, namespace=Namespace, tojson=_json_text)
    return environment


_ENVIRONMENT: Final = build_environment()


UNCOMPILABLE: Final = (SyntaxError, RecursionError, ValueError, OverflowError, MemoryError)
"""What Python's own compiler says to a template that is nested too deeply or too long."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled template. `names` are the root names it reads; `operands` the dotted paths in it.

    `steps` are the step names it reaches as `steps.NAME`; `own_attributes` maps a root name to the attributes
    taken from it; `expression` tells that its value is native.
    """

    source: str
    names: frozenset[str]
    steps: frozenset[str]
    operands: tuple[tuple[str, ...], ...]
    template: Template
    expression: bool
    path: tuple[str, ...] | None = None


def rewrite(tree: nodes.Template) -> frozenset[str]:
    """Send `name.attribute` of every name that comes from outside through the name's proxy.

    A bare name stays the plain value, so that filters, comparisons and loops see native data. Loops and joined texts
    are sent through the rendering's budget. Returns: the outside names, without the proxies.
    """
    for name in tree.find_all(nodes.Name):
        if name.name.startswith((_PROXY, BUDGET)) or name.name == _VALUE:
            raise TemplateSyntaxError(f"the name {name.name} is the renderer's own", name.lineno)
    outside = find_undeclared_variables(tree)
    stored = {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
    for node in _accesses(tree):
        root = node.node
        if isinstance(root, nodes.Name) and root.name in outside and root.name not in stored:
            node.node = nodes.Name(_PROXY + root.name, "load", lineno=node.lineno)
    Limiter(tree).visit(tree)
    return frozenset(outside)


def _accesses(tree: nodes.Template) -> Iterator[nodes.Getattr | nodes.Getitem]:
    yield from tree.find_all(nodes.Getattr)
    # Jinja slices without asking the environment, so a slice is taken from the plain value.
    yield from (item for item in tree.find_all(nodes.Getitem) if not isinstance(item.arg, nodes.Slice))


def operand_paths(tree: nodes.Template) -> tuple[tuple[str, ...], ...]:
    """The longest dotted paths of an expression, for explaining its value."""
    inner: set[int] = set()
    paths: dict[tuple[str, ...], None] = {}
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Name)):
        path = _path_of(node)
        if path is None:
            continue
        if isinstance(node, nodes.Getattr | nodes.Getitem):
            inner.add(id(node.node))
        if id(node) not in inner:
            paths[path] = None
    return tuple(paths)


def steps_named(operands: Iterable[tuple[str, ...]]) -> frozenset[str]:
    """The steps that dotted paths reach as `steps.NAME` or `results.NAME`; `ALL_STEPS` for `results` by itself."""
    return frozenset(path[1] if len(path) > 1 else ALL_STEPS for path in operands if path[0] in ("steps", "results"))


def _path_of(node: nodes.Node) -> tuple[str, ...] | None:
    if isinstance(node, nodes.Name):
        return (node.name,) if node.ctx == "load" else None
    if isinstance(node, nodes.Getattr):
        head = _path_of(node.node)
        return None if head is None else (*head, node.attr)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        head = _path_of(node.node)
        return None if head is None else (*head, node.arg.value)
    return None


@lru_cache(maxsize=20_000)
def compile_template(source: str) -> Compiled:
    """Compile a template's text. Raises: `TemplateError`."""
    if len(source) > MAX_TEMPLATE_CHARS:
        raise TemplateError(source, f"the template is longer than {MAX_TEMPLATE_CHARS} characters")
    try:
        tree = _ENVIRONMENT.parse("" if source.strip() == "{{}}" else source)
        operands = operand_paths(tree)
        steps = steps_named(operands)
        expression = _whole_expression(tree, source)
        path = None
        if expression is not None:
            path = _path_of(expression)
        names = rewrite(tree)
        if expression is not None:
            tree.body = [nodes.Assign(nodes.Name(_VALUE, "store"), _whole_expression(tree, source), lineno=1)]
        template = Template.from_code(_ENVIRONMENT, _compile(tree), dict(_ENVIRONMENT.globals))
    except JinjaError as error:
        raise TemplateError(source, str(error.message or error)) from None
    except UNCOMPILABLE as error:
        raise TemplateError(source, f"the template cannot be compiled: {describe(error)}") from None
    return Compiled(source, names, steps, operands, template, expression is not None, path)


def _compile(tree: nodes.Template) -> Any:
    code: Any = _ENVIRONMENT.compile(tree)
    return code


def _whole_expression(tree: nodes.Template, source: str) -> nodes.Expr | None:
    """The expression, when the whole text is one `{{ expression }}`."""
    text = source.strip()
    if not (text.startswith("{{") and text.endswith("}}")):
        return None
    parts = [
        node
        for output in tree.body
        for node in (output.nodes if isinstance(output, nodes.Output) else [output])
        if not (isinstance(node, nodes.TemplateData) and not node.data.strip())
    ]
    if len(parts) == 1 and isinstance(parts[0], nodes.Expr) and not isinstance(parts[0], nodes.TemplateData):
        return parts[0]
    return None


Lookup = Callable[[str], Any]
"""Gives the value of a root name, a `StepResult` for a step's, or `MISSING`."""


def bind(names: frozenset[str], steps: frozenset[str], lookup: Lookup, budget: Budget | None = None) -> dict[str, Any]:
    """The variables of a template: each name's plain value, and its proxy.

    Of `steps` and `results` only the entries in `steps` are there: they were looked up before rendering began. An
    input of such a name is a value as any other.
    """
    variables: dict[str, Any] = {BUDGET: (budget or Budget()).begin()}
    for name in names:
        value = lookup(name)
        if name in ("steps", "results") and isinstance(value, Mapping) and not isinstance(value, dict):
            value = {step: value[step] for step in (value if ALL_STEPS in steps else steps) if step in value}
        if value is not MISSING:
            variables[name] = _plain(value)
            variables[_PROXY + name] = value
    return variables


Coerce = Callable[[str], Any]
"""What becomes of a text that a template gave."""


def render(value: Any, lookup: Lookup, coerce: Coerce | None = None, budget: Budget | None = None) -> Any:
    """Render every template in a JSON-like value; maps' keys are not rendered. Raises: `TemplateError`.

    All of them together have one budget.
    """
    if isinstance(value, str):
        if not is_template(value):
            return value
        rendered = render_text(value, lookup, budget)
        return coerce(rendered) if coerce is not None and isinstance(rendered, str) else rendered
    if isinstance(value, Mapping):
        budget = budget or Budget()
        return {key: render(item, lookup, coerce, budget) for key, item in value.items()}
    if isinstance(value, list | tuple):
        budget = budget or Budget()
        return [render(item, lookup, coerce, budget) for item in value]
    return value


def coerce_literals(text: str) -> Any:
    """`coerce: legacy`: a text that looks like a literal is one: `007` is 7, `[1]` a list, `none` null."""
    stripped = text.strip()
    word = _LEGACY_WORDS.get(stripped.lower(), stripped)
    if word is not stripped:
        return word
    for read in (json.loads, ast.literal_eval, int, float):
        try:
            return plain(read(stripped))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text


_LEGACY_WORDS: Final = {"true": True, "false": False, "none": None, "null": None}


def render_text(source: str, lookup: Lookup, budget: Budget | None = None) -> Any:
    """Render one template's text, on a budget of its own if none is handed in. Raises: `TemplateError`."""
    compiled = compile_template(source)
    if compiled.path is not None:
        return _resolve(compiled, lookup)
    variables = bind(compiled.names, compiled.steps, lookup, budget)
    try:
        if not compiled.expression:
            return native(render_bounded(compiled.template, variables), source)
        context = compiled.template.new_context(variables)
        for _ in compiled.template.root_render_func(context):
            pass
        return native(context.vars[_VALUE], source)
    except TemplateError:
        raise
    except Exception as error:
        # An expression may fail in any way its operands allow (types, keys, limits): all are the template's.
        raise TemplateError(source, describe(error)) from None


def native(value: Any, source: str) -> Any:
    """A template's value as plain JSON that can be stored. Raises: `TemplateError`."""
    if isinstance(value, Undefined):
        raise TemplateError(source, _without_proxies(value._undefined_message))
    if isinstance(value, RawSql):
        raise TemplateError(source, "the filter `sql` only works inside an SQL argument")
    try:
        return plain(_plain(value))
    except Unstorable as error:
        raise TemplateError(source, str(error)) from None


def render_bounded(template: Template, variables: dict[str, Any]) -> str:
    """The template's text. Raises: `SecurityError` when it grows past its bound."""
    pieces: list[str] = []
    size = 0
    for piece in template.root_render_func(template.new_context(variables)):
        size += len(piece)
        if size > MAX_TEXT_CHARS:
            raise SecurityError(f"the text grows past {MAX_TEXT_CHARS} characters")
        pieces.append(piece)
    return "".join(pieces)


def _resolve(compiled: Compiled, lookup: Lookup) -> Any:
    """The value of a plain `{{ a.b.c }}`, without Jinja's machinery."""
    assert compiled.path is not None
    value = lookup(compiled.path[0])
    if value is MISSING:
        raise TemplateError(compiled.source, f"{compiled.path[0]!r} is undefined")
    for key in compiled.path[1:]:
        value = _ENVIRONMENT.getattr(value, key)
    return native(value, compiled.source)


def resolve_path(path: tuple[str, ...], lookup: Lookup) -> Any:
    """The value of a dotted path, or `MISSING`; for showing the operands of a condition."""
    value = lookup(path[0])
    for key in path[1:]:
        if value is MISSING or isinstance(value, Undefined):
            return MISSING
        value = _ENVIRONMENT.getattr(value, key)
    if isinstance(value, Undefined) or callable(value):
        return MISSING
    return _plain(value)


def describe(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error) or type(error).__name__
    return shorten(_without_proxies(text))


def _without_proxies(message: str) -> str:
    """Jinja's message with the names as the playbook has them."""
    return message.replace(_PROXY, "")
