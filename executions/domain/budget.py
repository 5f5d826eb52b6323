"""What one rendering may cost: rounds of its loops, what its operations go through, and what they make.

A sandbox stops escapes, not bombs: each operation may be small, and there may be a hundred thousand of them. What is
counted is characters and parts, and not time, so that a template does the same wherever it is rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Self

from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

MAX_TEXT_CHARS: Final = 1024 * 1024
MAX_ROUNDS: Final = 100_000
MAX_PARTS: Final = 1_000_000
"""Of a list or map that a template builds; what is in it twice counts twice, as it would be written twice."""
MAX_WORK: Final = 100_000_000
"""Characters that operations go through; a part of a list or map counts for some. It is a second or so."""
MAX_MADE: Final = 12_000_000
"""Characters and parts that operations make: what can be in memory at one time."""
PART_WORK: Final = 10
CALL_WORK: Final = 800
"""What a call counts for, be there nothing to go through."""
ITEM_WORK: Final = 300
"""What an item counts for that goes through a filter."""
WEIGH_WORK: Final = 60

BUDGET: Final = "budget__"
"""The name under which a template's operations reach their budget."""

_VIEWS: Final[tuple[type, ...]] = (type({}.keys()), type({}.values()), type({}.items()))


class Budget:
    """What is left to one rendering, of one template or of all that a step has. Raises: `SecurityError` throughout."""

    def __init__(self) -> None:
        self._rounds = MAX_ROUNDS
        self._work = MAX_WORK
        self._made = MAX_MADE
        # By the id of a value, which is kept so that no other gets its id: a part that many share is counted once.
        self._sizes: dict[int, tuple[Any, int]] = {}
        self._weights: dict[int, tuple[Any, int]] = {}

    def begin(self) -> Self:
        """Another template: it has all rounds to itself."""
        self._rounds = MAX_ROUNDS
        return self

    def loop(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, as long as rounds are left."""
        for item in items:
            self._rounds -= 1
            if self._rounds < 0:
                raise SecurityError(f"its loops make more than {MAX_ROUNDS} rounds")
            yield item

    def build(self, value: Any) -> Any:
        """A list or map that was built (`[a, a]`, `a + a`), of bounded size: one that doubles is soon too large."""
        if isinstance(value, list | tuple | dict):
            self._size(value)
        return value

    def join(self, *parts: Any) -> str:
        """The parts as one text of bounded length (`a ~ b`)."""
        text: str = self.made(bounded("".join(_within(parts))))
        return text

    def spend(self, work: int, call: int = CALL_WORK) -> None:
        """Count something to go through."""
        self._work -= call + work
        if self._work < 0:
            raise SecurityError("it goes through too much, time and again: make its texts, lists or loops smaller")

    def made(self, value: Any) -> Any:
        """What an operation made."""
        if isinstance(value, str | list | tuple | dict):
            self._made -= work_of(value)
            if self._made < 0:
                raise SecurityError("it makes too much of its texts and lists: make them smaller")
        return value

    def slice(self, value: Any) -> Any:
        """A value of which a part is taken, all of it maybe."""
        self.spend(0)
        return self.made(value)

    def compare(self, value: Any) -> Any:
        """A value that is compared with another."""
        self.spend(self.weigh(value))
        return value

    def search(self, value: Any) -> Any:
        """A value in which another is looked for; most parts are seen to be another at once, and maps need no look."""
        self.spend(0 if isinstance(value, dict) else self.weigh(value) // 4)
        return value

    def each(self, items: Iterable[Any], more: int, weight: int) -> Iterator[Any]:
        """The items, each gone through; `more` is what is gone through with each."""
        for item in items:
            self.spend(weight * (work_of(item) + more), ITEM_WORK)
            yield item

    def weigh(self, value: Any) -> int:
        """How much there is to go through in a value and in all of its parts, as to compare it with an equal one."""
        if not isinstance(value, list | tuple | dict):
            return work_of(value)
        known = self._weights.get(id(value))
        if known is None:
            # To weigh it is work, too.
            self.spend(WEIGH_WORK * len(value))
            parts = value.values() if isinstance(value, dict) else value
            known = self._weights[id(value)] = (value, work_of(value) + sum(map(self.weigh, parts)))
        return known[1]

    def _size(self, value: Any) -> int:
        if not isinstance(value, list | tuple | dict):
            return 1
        known = self._sizes.get(id(value))
        if known is None:
            size = 1
            for part in value.values() if isinstance(value, dict) else value:
                size += self._size(part)
                if size > MAX_PARTS:
                    raise SecurityError(f"a value has more than {MAX_PARTS} parts")
            known = self._sizes[id(value)] = (value, size)
        return known[1]


def work_of(value: Any) -> int:
    """How much there is to go through in a value, its parts not looked into."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list | tuple | dict | range) or type(value) in _VIEWS:
        return PART_WORK * len(value)
    return 0


WEIGHTS: Final = {
    **dict.fromkeys(("default", "d", "first", "last", "length", "count"), 0),
    **dict.fromkeys(("fromjson", "sum", "slice"), 5),
    **dict.fromkeys(("striptags", "wordcount", "format"), 10),
    **dict.fromkeys(("batch", "urlencode"), 40),
}
"""What goes through a value more slowly than the others, or not at all."""
ITEM_BY_ITEM: Final = frozenset({"map", "reject", "rejectattr", "select", "selectattr"})
COMPARING: Final = frozenset({"sort", "groupby", "dictsort", "unique", "min", "max"})


def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose work is counted: what it is given, and what it gives."""
    passed = getattr(getattr(function, "jinja_pass_arg", None), "name", "")
    weight = WEIGHTS.get(name, 1)

    def run(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget: Budget = context.parent[BUDGET]
        beside = sum(map(work_of, args))
        if isinstance(value, Iterator) or (name in ITEM_BY_ITEM and value):
            value = budget.each(value, beside, weight)
        elif name in COMPARING:
            budget.spend(budget.weigh(value) + ITEM_WORK * work_of(value) // PART_WORK)
        elif weight:
            budget.spend(weight * work_of(value) + beside)
        first = {"context": context, "environment": context.environment, "eval_context": context.eval_ctx}
        handed = (first[passed],) if passed else ()
        return budget.made(function(*handed, value, *args, **kwargs))

    return pass_context(run)


def bounded(text: str) -> str:
    """The text. Raises: `SecurityError` when it is too long."""
    if len(text) > MAX_TEXT_CHARS:
        raise SecurityError(f"a text grows past {MAX_TEXT_CHARS} characters")
    return text


def _within(parts: Iterable[Any]) -> Iterator[str]:
    size = 0
    for part in parts:
        text = str(part)
        size += len(text)
        if size > MAX_TEXT_CHARS:
            raise SecurityError(f"a text grows past {MAX_TEXT_CHARS} characters")
        yield text
