"""YAML text to plain values and their places, in one pass over libyaml's events.

Knows YAML: its bounds, its scalars (YAML 1.2, so `NO`, `22:22` and dates stay text) and where every key and
value stands. Knows nothing of playbooks. No loader and no composer ever sees the text: both recurse in C and
crash on deep nesting, while events are flat and can be stopped at any bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from catalog.errors import Problem

MAX_TEXT_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 64
MAX_NODES: Final = 200_000
MAX_WEIGHT: Final = 4 * 1024 * 1024
"""Characters of all scalars, those reached by aliases counted each time."""
MAX_DIRECTIVES: Final = 16
MAX_NUMBER_CHARS: Final = 300
MAX_PROBLEMS: Final = 200
MAX_SHOWN: Final = 60

_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_CONSTANTS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_TEXT_TAGS: Final = (None, "!", "tag:yaml.org,2002:str")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a node begins, both from 1; `style` is a scalar's YAML style (`|`, `>`, a quote or nothing)."""

    line: int
    column: int
    style: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed text: its value (None when the YAML is unusable), the places in it, what is wrong with it.

    `keys` and `values` are by JSON pointer; below an alias only the alias itself has a place.
    """

    value: Any
    problems: tuple[Problem, ...] = ()
    keys: dict[str, Mark] = field(default_factory=dict, repr=False)
    values: dict[str, Mark] = field(default_factory=dict, repr=False)
    lines: tuple[str, ...] = field(default=(), repr=False)

    def place(self, pointer: str, *, key: bool = False) -> tuple[int, int]:
        """Line and column of the value (or its key) at a pointer, or of the nearest thing around it."""
        while True:
            mark = (self.keys.get(pointer) if key else None) or self.values.get(pointer)
            if mark is not None:
                return mark.line, mark.column
            if not pointer:
                return 1, 1
            pointer = pointer.rpartition("/")[0]

    def place_inside(self, pointer: str, text_line: int) -> tuple[int, int]:
        """Line and column of a text's line (from 1): exact in literal blocks, else where the text begins."""
        mark = self.values.get(pointer)
        if mark is None or mark.style != "|":
            return self.place(pointer)
        line = mark.line + text_line
        if line > len(self.lines):
            return mark.line, mark.column
        source = self.lines[line - 1]
        return line, len(source) - len(source.lstrip()) + 1


def join_pointer(pointer: str, key: str | int) -> str:
    """The JSON pointer one level down."""
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


def parse(text: str) -> Document:
    """Parse one YAML document. Never raises: what is wrong stands in `problems`."""
    refused = _refuse_before_parsing(text)
    if refused is not None:
        return Document(None, (refused,))
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.take(event)
    except _Stopped:
        return Document(None, tuple(builder.problems))
    except yaml.YAMLError as error:
        builder.problems.append(_syntax_problem(error, text))
        return Document(None, tuple(builder.problems))
    value = builder.root if builder.started else None
    return Document(value, tuple(builder.problems), builder.keys, builder.values, tuple(text.split("\n")))


def _refuse_before_parsing(text: str) -> Problem | None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line, column = _line_and_column(text, error.start)
        return Problem("yaml_character", "remove the character that is no valid Unicode", "", line, column)
    if size > MAX_TEXT_BYTES:
        return Problem("yaml_too_large", f"keep the text below {MAX_TEXT_BYTES} bytes; it has {size}", "", 1, 1)
    # libyaml compares every %TAG directive with all before it.
    directives = text.startswith("%") + len(re.findall(r"[\r\n\x85\u2028\u2029]%", text))
    if directives > MAX_DIRECTIVES:
        return Problem("yaml_directives", "remove the YAML directives (lines that begin with %)", "", 1, 1)
    return None


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    told = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    if mark is not None:
        line, column = mark.line + 1, mark.column + 1
    else:
        line, column = _line_and_column(text, int(getattr(error, "position", 0) or 0))
    return Problem("yaml_syntax", f"correct the YAML here: {told}", "", line, column)


def _line_and_column(text: str, index: int) -> tuple[int, int]:
    before = text[:index]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _Stopped(Exception):
    """A bound was passed: what follows is not read."""


@dataclass(slots=True)
class _Frame:
    """A list or map that is being read. `key` is the pending key of a map, `skip` drops its value."""

    value: Any
    pointer: str
    anchor: str | None
    height: int = 0
    nodes_before: int = 0
    weight_before: int = 0
    key: str | None = None
    skip: bool = False


@dataclass(frozen=True, slots=True)
class _Anchored:
    """A finished node with an anchor, and what an alias of it costs."""

    value: Any
    nodes: int
    weight: int
    height: int


class _Builder:
    """Puts values together from events. Keeps its own stack, so depth costs no recursion."""

    def __init__(self) -> None:
        self.root: Any = None
        self.started = False
        self.problems: list[Problem] = []
        self.keys: dict[str, Mark] = {}
        self.values: dict[str, Mark] = {}
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchored] = {}
        self._nodes = 0
        self._weight = 0

    def take(self, event: Any) -> None:
        """Read the next event. Raises: `_Stopped` when a bound is passed; the problem is in the list."""
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.MappingStartEvent():
                self._open(event, {})
            case yaml.SequenceStartEvent():
                self._open(event, [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.DocumentStartEvent():
                if self.started:
                    self._stop("yaml_documents", "keep one document per text: remove this `---`", event)
                self.started = True

    # -- nodes ------------------------------------------------------------------------------------------

    def _scalar(self, event: Any) -> None:
        self._count(1, len(event.value), event)
        self._check_tag(event)
        if self._wants_key():
            self._take_key(event)
            return
        pointer = self._pointer()
        self.values[pointer] = _mark(event)
        value = self._scalar_value(event, pointer)
        if event.anchor:
            self._anchors[event.anchor] = _Anchored(value, 1, len(event.value), 0)
        self._put(value, 0)

    def _scalar_value(self, event: Any, pointer: str) -> Any:
        text: str = event.value
        if any(char == "\x00" or "\ud800" <= char <= "\udfff" for char in text):
            self._problem("yaml_character", "remove the escape: NUL and surrogates cannot be stored", event, pointer)
            return ""
        plain = not event.style and event.tag is None
        if not plain:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        return self._number(text, event, pointer)

    def _number(self, text: str, event: Any, pointer: str) -> Any:
        """A number as YAML 1.2 spells it. With leading zeros, or as octal, it is an identifier: a text."""
        integer = _INTEGER.fullmatch(text)
        if not (integer or _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text)):
            return text
        if len(text) <= MAX_NUMBER_CHARS and not _NOT_FINITE.fullmatch(text):
            value = int(text, 16 if text.startswith("0x") else 10) if integer else float(text)
            if math.isfinite(value):
                return value
        self._problem("yaml_number", "put quotes around it: JSON has no such number", event, pointer)
        return text

    def _alias(self, event: Any) -> None:
        if self._wants_key():
            self._stop("yaml_complex_key", "write the key itself instead of an alias", event)
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            self._stop("yaml_alias", f"define the anchor &{event.anchor} before this alias, and not around it", event)
            return
        if len(self._stack) + anchored.height > MAX_DEPTH:
            self._stop("yaml_too_deep", f"nest at most {MAX_DEPTH} levels, aliases included", event)
        self._count(anchored.nodes, anchored.weight, event)
        self.values[self._pointer()] = _mark(event)
        self._put(anchored.value, anchored.height)

    def _open(self, event: Any, value: Any) -> None:
        if self._wants_key():
            self._stop("yaml_complex_key", "put quotes around {{ ... }}: unquoted it is a map, not a text", event)
        if len(self._stack) >= MAX_DEPTH:
            self._stop("yaml_too_deep", f"nest at most {MAX_DEPTH} levels", event)
        self._check_tag(event)
        pointer = self._pointer()
        self.values[pointer] = _mark(event)
        frame = _Frame(value, pointer, event.anchor, nodes_before=self._nodes, weight_before=self._weight)
        self._count(1, 0, event)
        if event.anchor:
            self._anchors.pop(event.anchor, None)  # An alias inside its own anchor would never end.
        self._stack.append(frame)

    def _close(self) -> None:
        frame = self._stack.pop()
        height = frame.height + 1
        if frame.anchor:
            nodes, weight = self._nodes - frame.nodes_before, self._weight - frame.weight_before
            self._anchors[frame.anchor] = _Anchored(frame.value, nodes, weight, height)
        self._put(frame.value, height)

    # -- places -----------------------------------------------------------------------------------------

    def _wants_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None

    def _take_key(self, event: Any) -> None:
        frame = self._stack[-1]
        key: str = event.value
        frame.key = key
        frame.skip = True
        pointer = join_pointer(frame.pointer, key)
        if any(char == "\x00" or "\ud800" <= char <= "\udfff" for char in key):
            self._problem("yaml_character", "remove the escape: NUL and surrogates cannot be stored", event, pointer)
        elif key == "<<" and not event.style:
            self._problem("yaml_merge_key", "write the keys out: merge keys (<<) are not read", event, pointer)
        elif key in frame.value:
            first = self.keys[pointer]
            message = f"remove one of the two `{_short(key)}`: the first is in line {first.line}"
            self._problem("duplicate_key", message, event, pointer)
        else:
            frame.skip = False
            self.keys[pointer] = _mark(event)

    def _pointer(self) -> str:
        if not self._stack:
            return ""
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            return join_pointer(frame.pointer, len(frame.value))
        # A dropped value gets a pointer of its own, so that it hides no place of the one that is kept.
        return join_pointer(frame.pointer, frame.key or "") + ("/\x00dropped" if frame.skip else "")

    def _put(self, value: Any, height: int) -> None:
        if not self._stack:
            self.root = value
            return
        frame = self._stack[-1]
        frame.height = max(frame.height, height)
        if isinstance(frame.value, list):
            frame.value.append(value)
            return
        if not frame.skip:
            frame.value[frame.key] = value
        frame.key = None
        frame.skip = False

    # -- bounds -----------------------------------------------------------------------------------------

    def _count(self, nodes: int, weight: int, event: Any) -> None:
        self._nodes += nodes
        self._weight += weight
        if self._nodes > MAX_NODES or self._weight > MAX_WEIGHT:
            self._stop("yaml_too_large", "make the document smaller, or use fewer aliases", event)

    def _check_tag(self, event: Any) -> None:
        if event.tag not in _TEXT_TAGS:
            self._problem("yaml_tag", f"remove the tag {_short(event.tag)}: only !!str is read", event, self._pointer())

    def _problem(self, code: str, message: str, event: Any, pointer: str) -> None:
        mark = _mark(event)
        self.problems.append(Problem(code, message, pointer.removesuffix("/\x00dropped"), mark.line, mark.column))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Stopped

    def _stop(self, code: str, message: str, event: Any) -> None:
        self._problem(code, message, event, "")
        raise _Stopped


def _mark(event: Any) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1, getattr(event, "style", "") or "")


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def texts_in(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON-like value with its pointer; keys are left out."""
    stack = [(value, pointer)]
    while stack:
        found, at = stack.pop()
        if isinstance(found, str):
            yield found, at
        elif isinstance(found, dict):
            stack.extend((item, join_pointer(at, key)) for key, item in reversed(found.items()))
        elif isinstance(found, list):
            stack.extend((item, join_pointer(at, index)) for index, item in reversed(list(enumerate(found))))
