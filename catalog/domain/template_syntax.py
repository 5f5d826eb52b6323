"""What a template may say: the syntax, the allowed names, and which names a template reads.

Knows Jinja's grammar and nothing of values: nothing is ever rendered, and nothing is computed while checking
(constant folding would run `'a' | indent(10000000000)` here). Rendering lives in `executions`, which builds
its environment from the lists below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NoReturn

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes, pass_context
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEMPLATE_CHARS: Final = 64 * 1024

ALLOWED_FILTERS: Final = frozenset(
    {
        *(
            "abs",
            "batch",
            "capitalize",
            "count",
            "d",
            "default",
            "dictsort",
            "filesizeformat",
            "first",
            "float",
        ),
        *(
            "format",
            "groupby",
            "indent",
            "int",
            "items",
            "join",
            "last",
            "length",
            "list",
            "lower",
            "map",
            "max",
        ),
        *(
            "min",
            "reject",
            "rejectattr",
            "replace",
            "reverse",
            "round",
            "select",
            "selectattr",
            "slice",
            "sort",
        ),
        *("string", "striptags", "sum", "title", "trim", "truncate", "unique", "upper", "urlencode"),
        *("wordcount", "tojson", "to_json", "fromjson", "b64encode", "b64decode", "sql"),
    }
)
"""Jinja's pure filters and the language's own; none that makes markup or reads attributes or addresses."""

ALLOWED_TESTS: Final = frozenset(
    {
        *(
            "boolean",
            "defined",
            "divisibleby",
            "eq",
            "equalto",
            "even",
            "false",
            "float",
            "ge",
            "greaterthan",
        ),
        *(
            "gt",
            "in",
            "integer",
            "iterable",
            "le",
            "lessthan",
            "lower",
            "lt",
            "mapping",
            "ne",
            "none",
            "number",
        ),
        *("odd", "sameas", "sequence", "string", "true", "undefined", "upper"),
        *("==", "!=", "<", "<=", ">", ">="),
    }
)

ALLOWED_GLOBALS: Final = frozenset({"now", "tojson", "range", "dict", "namespace"})

_FORBIDDEN: Final[dict[type[nodes.Node], str]] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "import",
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
}
_BY_FILTER_NAME: Final = frozenset({"map"})
_BY_TEST_NAME: Final = frozenset({"select", "reject"})
SECRET: Final = "secret"  # noqa: S105  (a word of the language, no secret)
"""The name that references to secrets begin with."""
SECRET_VALUE: Final = "secret_value"  # noqa: S105  (a word of the language, no secret)
"""The key of a secret's reference in the result of a step that has fetched one."""
_STEP_MAPS: Final = frozenset({"steps", "results"})
_ENV: Final = frozenset({"env"})


@dataclass(frozen=True, slots=True)
class SyntaxProblem:
    """What is wrong with a template, and in which line of its text (from 1)."""

    message: str
    line: int


def is_template(text: str) -> bool:
    """Whether a text is rendered; any other is taken as it is."""
    return "{{" in text or "{%" in text


def check(text: str) -> SyntaxProblem | None:
    """What is wrong with a template's text, or None; a text that is no template is right."""
    return _analyse(text).problem if is_template(text) else None


def names_read(value: Any) -> set[str]:
    """The root names that the templates in a JSON-like value read; `steps.X` and `results.X` also give X.

    A template with an error reads nothing.
    """
    return {name for text in _templates_in(value) for name in _analyse(text).names}


def secrets_read(value: Any) -> set[str]:
    """The names of the secrets that the templates in a JSON-like value read."""
    return {name for text in _templates_in(value) for name in _analyse(text).secrets}


def step_secrets_used(text: str, *, anywhere: bool = False) -> set[str]:
    """The names before `secret_value` where a template does not show it by itself, or anywhere at all."""
    found = _analyse(text) if is_template(text) else _Analysis(None)
    return set(found.step_secrets if anywhere else found.step_secrets_used)


def env_read(value: Any) -> set[str]:
    """The names that the templates in a JSON-like value read as `env.NAME`."""
    return {name for text in _templates_in(value) for name in _analyse(text).env}


def _templates_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if is_template(value):
            yield value
        return
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for item in value:
        yield from _templates_in(item)


@dataclass(frozen=True, slots=True)
class _Analysis:
    problem: SyntaxProblem | None
    names: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    env: frozenset[str] = frozenset()
    step_secrets: frozenset[str] = frozenset()
    step_secrets_used: frozenset[str] = frozenset()


@pass_context
def _never_called(context: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """Stands for every filter and test. As it asks for the context, Jinja folds no call of it."""
    raise AssertionError("templates are not rendered here")


class _Environment(ImmutableSandboxedEnvironment):
    """A sandbox that parses; intercepted operators are not folded."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    intercepted_unops = frozenset({"+", "-"})


def _build_environment() -> ImmutableSandboxedEnvironment:
    environment = _Environment(undefined=StrictUndefined, autoescape=False)
    environment.filters.clear()
    environment.filters.update(dict.fromkeys(ALLOWED_FILTERS, _never_called))
    environment.tests.clear()
    environment.tests.update(dict.fromkeys(ALLOWED_TESTS, _never_called))
    environment.globals.clear()
    return environment


_ENVIRONMENT: Final = _build_environment()


@lru_cache(maxsize=20_000)
def _analyse(text: str) -> _Analysis:
    if text.strip() == "{{}}":
        return _Analysis(None)
    if len(text) > MAX_TEMPLATE_CHARS:
        return _Analysis(SyntaxProblem(f"keep a template below {MAX_TEMPLATE_CHARS} characters", 1))
    try:
        tree = _ENVIRONMENT.parse(text)
        for problem in _forbidden_in(tree):
            return _Analysis(problem)
        names = frozenset(find_undeclared_variables(tree) | set(_entries_named(tree, _STEP_MAPS)))
        secrets = frozenset(name for _, name in _secrets_shown(tree))
        all_, used = _step_secrets(tree)
        return _Analysis(None, names, secrets, frozenset(_entries_named(tree, _ENV)), all_, used)
    except TemplateSyntaxError as error:
        return _Analysis(SyntaxProblem(_sentence(error), error.lineno))
    except RecursionError:
        return _Analysis(SyntaxProblem("nest the expression less deeply", 1))
    except (ValueError, OverflowError):
        return _Analysis(SyntaxProblem("write a smaller number", 1))


def _sentence(error: TemplateSyntaxError) -> str:
    text = (error.message or "it cannot be read").strip().rstrip(".")
    return text[:300]


def _forbidden_in(tree: nodes.Template) -> Iterator[SyntaxProblem]:
    followed: set[int] = set()
    shown = {id(node) for node, _ in _secrets_shown(tree)}
    for node in tree.find_all(nodes.Node):
        if type(node) in _FORBIDDEN:
            yield SyntaxProblem(f"`{_FORBIDDEN[type(node)]}` is not part of the language", node.lineno)
        elif isinstance(node, nodes.Filter):
            yield from _check_names(node, "filter", ALLOWED_FILTERS)
        elif isinstance(node, nodes.Test):
            yield from _check_names(node, "test", ALLOWED_TESTS)
        elif isinstance(node, nodes.For) and node.recursive:
            yield SyntaxProblem("a recursive `for` is not part of the language", node.lineno)
        elif isinstance(node, nodes.Getattr | nodes.Getitem) and _reads_step_map(node.node):
            followed.add(id(node.node))
            yield from _check_step_access(node)
        elif isinstance(node, nodes.Name) and node.name == "steps" and id(node) not in followed:
            yield SyntaxProblem("name the step, as in steps.load: `steps` alone has no value", node.lineno)
        elif isinstance(node, nodes.Name) and node.name == SECRET and id(node) not in shown:
            told = "write a secret by itself, as {{ secret.NAME }}: it is a reference, and nothing can be done with it"
            yield SyntaxProblem(told, node.lineno)


def _secrets_shown(tree: nodes.Template) -> Iterator[tuple[nodes.Name, str]]:
    """The secrets that stand by themselves in `{{ }}`: the node of the word, and the secret's name."""
    for output in tree.find_all(nodes.Output):
        for node in output.nodes:
            name: Any = None
            if isinstance(node, nodes.Getattr):
                name = node.attr
            elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
                name = node.arg.value
            if isinstance(name, str) and isinstance(node, nodes.Getattr | nodes.Getitem):
                word = node.node
                if isinstance(word, nodes.Name) and word.name == SECRET:
                    yield word, name


def _step_secrets(tree: nodes.Template) -> tuple[frozenset[str], frozenset[str]]:
    """The names before `.secret_value`: of all, and of those that do not stand by themselves in `{{ }}`."""
    shown = {id(node) for output in tree.find_all(nodes.Output) for node in output.nodes}
    every: set[str] = set()
    used: set[str] = set()
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        path = _dotted(node)
        if len(path) > 1 and path[-1] == SECRET_VALUE:
            name = path[1] if path[0] in _STEP_MAPS else path[0]
            every.add(name)
            if id(node) not in shown:
                used.add(name)
    return frozenset(every), frozenset(used)


def _dotted(node: nodes.Node) -> tuple[str, ...]:
    """The parts of a path as `a.b['c']`; empty when it is none."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        part: Any = node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        part = node.arg.value
    else:
        return ()
    head = _dotted(node.node)
    return (*head, part) if head and isinstance(part, str) else ()


def _check_names(node: nodes.Filter | nodes.Test, what: str, allowed: frozenset[str]) -> Iterator[SyntaxProblem]:
    if node.name not in allowed:
        yield SyntaxProblem(f"there is no {what} `{node.name}`", node.lineno)
    first = node.args[0] if node.args else None
    if not (isinstance(node, nodes.Filter) and isinstance(first, nodes.Const)):
        return
    if node.name in _BY_FILTER_NAME and first.value not in ALLOWED_FILTERS:
        yield SyntaxProblem(f"there is no filter `{first.value}`", node.lineno)
    if node.name in _BY_TEST_NAME and first.value not in ALLOWED_TESTS:
        yield SyntaxProblem(f"there is no test `{first.value}`", node.lineno)


def _reads_step_map(node: nodes.Node) -> bool:
    return _is_one_of(node, _STEP_MAPS)


def _is_one_of(node: nodes.Node, names: frozenset[str]) -> bool:
    return isinstance(node, nodes.Name) and node.name in names and node.ctx == "load"


def _check_step_access(node: nodes.Getattr | nodes.Getitem) -> Iterator[SyntaxProblem]:
    """Results are loaded before a template is rendered, so the steps' names must stand in its text."""
    if isinstance(node, nodes.Getattr):
        return
    assert isinstance(node.node, nodes.Name)
    # `results` may also be an input that holds a list: a plain index cannot mean a step.
    literal = (str, int) if node.node.name == "results" else (str,)
    if not (isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, literal)):
        yield SyntaxProblem(f"write the step's name as a literal in {node.node.name}[...]", node.lineno)


def _entries_named(tree: nodes.Template, maps: frozenset[str]) -> Iterator[str]:
    """The entries of these maps that a template names, as in `steps.load` or `env['HOME']`."""
    for dotted in tree.find_all(nodes.Getattr):
        if _is_one_of(dotted.node, maps):
            yield dotted.attr
    for item in tree.find_all(nodes.Getitem):
        if _is_one_of(item.node, maps) and isinstance(item.arg, nodes.Const) and isinstance(item.arg.value, str):
            yield item.arg.value
