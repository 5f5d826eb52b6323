"""Loops: the four families of spellings to one `Loop`. Source: docs/language.md, "Loops"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from catalog.domain.children import CHILD_ELEMENT
from catalog.domain.failing import WORDS
from catalog.domain.naming import MAX_NAME_CHARS
from catalog.domain.playbook import Loop
from catalog.domain.reading import Field, Fields, Reading, Use, condition_text
from catalog.domain.saves import check_item_save, read_save
from catalog.domain.spelling import (
    ELEMENT,
    ELEMENT_RESERVED,
    FILTER,
    ITEMS,
    ITERATOR_KEYS,
    LOOP_KEYS,
    LOOP_NOT_SUPPORTED,
)
from catalog.domain.template_syntax import is_template

ITERATOR_CONCURRENCY: Final = 8
_ELEMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODES: Final[dict[str, Literal["parallel", "sequential"]]] = {
    "parallel": "parallel",
    "async": "parallel",
    "sequential": "sequential",
}


@dataclass(frozen=True, slots=True)
class Family:
    """What a loop is when its keys do not say: that of `loop`, or that of a step of `type: iterator`."""

    mode: Literal["parallel", "sequential"] = "parallel"
    concurrency: int | None = None
    on_error: Literal["fail", "continue"] = "fail"
    items_key: str = "in"
    element_key: str = "iterator"


PLAIN: Final = Family()
ITERATING: Final = Family("sequential", ITERATOR_CONCURRENCY, "continue", "collection", "element")


class LoopReader:
    """Reads the loop of one step or task. `where` names it in messages."""

    def __init__(self, reading: Reading, where: str, uses: list[Use]) -> None:
        self._reading = reading
        self._where = f"of the loop {where}"
        self._what = f"`loop` {where}"
        self._uses = uses

    def read(self, found: Field) -> Loop | None:
        """The `loop` of a step; None when it has an error."""
        fields = self._reading.fields(found.value, found.pointer, self._what)
        return self._read(fields, found.pointer, PLAIN)

    def read_below(self, under: str, found: Field | None) -> Loop | None:
        """The loop over all playbooks below a path; `loop` may say how."""
        fields: Fields = {}
        if found is not None:
            fields = self._reading.fields(found.value, found.pointer, self._what)
        for key in ITEMS:
            if (items := fields.pop(key, None)) is not None:
                advice = f"remove `{key}` {self._where}: a `path` that ends with /* says what it loops over"
                self._reading.error("invalid_argument", advice, items.pointer, key=True)
        return self._read(fields, "", PLAIN, under)

    def read_iterator(self, fields: Fields, pointer: str) -> Loop | None:
        """Take the loop of a step of `type: iterator` out of its fields; `loop` fills in what they lack."""
        found = fields.pop("loop", None)
        inner = {} if found is None else self._reading.fields(found.value, found.pointer, self._what)
        for key in tuple(fields):
            if key in ITERATOR_KEYS and key not in ("task", "run"):
                inner[key] = fields.pop(key)
        return self._read(inner, pointer, ITERATING)

    def _read(self, fields: Fields, pointer: str, family: Family, under: str | None = None) -> Loop | None:
        reading, where = self._reading, self._where
        items = None if under is not None else self._items(fields, pointer, family)
        element = self._element(fields, pointer, family, CHILD_ELEMENT if under is not None else None)
        kept = self._kept(reading.one_of(fields, FILTER, "the loop's filter"))
        order_by = self._order_by(fields.pop("order_by", None))
        limit = self._limit(fields.pop("limit", None))
        chunk = reading.count(fields.pop("chunk", None), f"`chunk` {where}")
        enumerated = reading.flag(fields.pop("enumerate", None), f"`enumerate` {where}")
        mode = self._mode(fields, family)
        concurrency = reading.count(fields.pop("concurrency", None), f"`concurrency` {where}")
        on_error = reading.choice(fields.pop("on_error", None), f"`on_error` {where}", WORDS, family.on_error)
        save = read_save(reading, fields.pop("save", None), where, self._uses)
        reading.leftovers(fields, "`loop`", LOOP_KEYS, LOOP_NOT_SUPPORTED, severity="error")
        if element is None or (items is None and under is None):
            return None
        if concurrency is None and mode == "parallel":
            concurrency = family.concurrency
        loop = Loop(
            items=items,
            items_under=under,
            element=element,
            filter=kept,
            order_by=order_by,
            limit=limit,
            chunk=chunk,
            enumerate=enumerated or False,
            mode=mode,
            concurrency=concurrency,
            on_error=on_error,
        )
        return loop.model_copy(update={"save": check_item_save(reading, save, loop, where)})

    def _items(self, fields: Fields, pointer: str, family: Family) -> Any:
        reading, where, key = self._reading, self._where, family.items_key
        found = reading.one_of(fields, ITEMS, "the loop's list")
        if found is None or found.value is None:
            reading.error("missing_argument", f"give `{key}` {where}: the list to loop over", pointer)
            return None
        text = isinstance(found.value, str)
        if not (isinstance(found.value, list) or (text and (is_template(found.value) or "[" in found.value))):
            reading.error("wrong_type", f"make `{key}` {where} a list, or a template that gives one", found.pointer)
            return None
        reading.templates(found, f"in `{key}` {where}", self._uses)
        return found.value

    def _element(self, fields: Fields, pointer: str, family: Family, default: str | None) -> str | None:
        reading, where, key = self._reading, self._where, family.element_key
        found = reading.one_of(fields, ELEMENT, "the item's name")
        if found is None:
            if default is None:
                reading.error("missing_argument", f"give `{key}` {where}: the name of the item", pointer)
            return default
        name = found.value
        plain = isinstance(name, str) and len(name) <= MAX_NAME_CHARS and _ELEMENT.fullmatch(name)
        if plain and name not in ELEMENT_RESERVED:
            return str(name)
        advice = f"make `{key}` {where} a plain name, and none of: {', '.join(sorted(ELEMENT_RESERVED))}"
        reading.error("invalid_name", advice, found.pointer)
        return None

    def _kept(self, found: Field | None) -> str | None:
        if found is None or found.value is None or str(found.value).strip() in ("", "{{}}"):
            return None
        return condition_text(self._reading.condition(found, f"`{FILTER[0]}` {self._where}", self._uses))

    def _order_by(self, found: Field | None) -> str | None:
        if found is None or found.value is None:
            return None
        if isinstance(found.value, str) and is_template(found.value):
            self._reading.templates(found, f"in `order_by` {self._where}", self._uses)
            return found.value
        advice = f"make `order_by` {self._where} a template that gives an item's key, as {{{{ item.name }}}}"
        self._reading.error("wrong_type", advice, found.pointer)
        return None

    def _limit(self, found: Field | None) -> Any:
        if found is not None and isinstance(found.value, str) and is_template(found.value):
            self._reading.templates(found, f"in `limit` {self._where}", self._uses)
            return found.value
        return self._reading.count(found, f"`limit` {self._where}")

    def _mode(self, fields: Fields, family: Family) -> Literal["parallel", "sequential"]:
        """The mode; the old `distribution: false` stands for `sequential` where there is none."""
        found, spread = fields.pop("mode", None), fields.pop("distribution", None)
        mode = self._reading.choice(found, f"`mode` {self._where}", _MODES, family.mode)
        if self._reading.flag(spread, f"`distribution` {self._where}") is False and found is None:
            assert spread is not None
            advice = "write `mode: sequential`: that is what `distribution: false` is read as"
            self._reading.warn("misspelt_key", advice, spread.pointer, key=True)
            return "sequential"
        return mode
