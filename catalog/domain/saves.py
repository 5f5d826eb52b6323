"""`save`: what is written somewhere when a work has ended, out of all its spellings. Source: docs/language.md, "Save".

Which storages there are, and what they take and need, is told by the schema of the action kind `save`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, Literal

from catalog.domain.action_schemas import KindSchema
from catalog.domain.credentials import fold_credential
from catalog.domain.failing import TRY_COUNT, WORDS, read_retry
from catalog.domain.parser import join_pointer
from catalog.domain.playbook import Action, Loop, Save
from catalog.domain.reading import Field, Fields, Phase, Reading, Use, condition_text, shown, suggestion
from catalog.domain.spelling import SAVE_KEYS
from catalog.domain.template_syntax import names_read, secrets_read

KIND: Final = "save"
STORAGES: Final = "x-noetl-storages"
"""In the schema of the kind, at `storage`: name -> `{takes, needs}`. Each of `needs` is a list of arguments, one of
which has to be there; a `spec` beside them is the schema of what stands there, and `modes` are all that there are."""
DEFAULT_STORAGE: Final = "event_log"
DEFAULT_CHUNK: Final = 100
MAX_CHUNK: Final = 10_000
_ALIASES: Final = {"event": "event_log", "postgresql": "postgres"}
_DOCUMENTED: Final = frozenset(
    {
        *("event_log", "postgres", "duckdb", "file", "s3", "gcs", "http", "python"),
        *("bigquery", "snowflake", "kv", "vector", "graph"),
    }
)
"""Storages that playbooks of the original may name."""
_MODES: Final = {name: name for name in ("append", "overwrite", "update", "upsert")}
_FORMATS: Final = {name: name for name in ("csv", "json", "jsonl", "parquet")}
_ONS: Final[dict[str, Literal["success", "error", "always"]]] = {
    "success": "success",
    "error": "error",
    "always": "always",
}
_KEYED: Final = ("update", "upsert")
_OF_WORK: Final = frozenset({"this", "data", "result", "status", "error"})
_OF_LOOP: Final = frozenset({"items", "errors", "count"})
_PER_ITEM: Final = ("data", "params")
_ON_THE_STEP: Final = ("when", "on", "on_error", "retry", "timeout", "concurrency")
_PARAM: Final = re.compile(r"\{\{\s*params\.([A-Za-z_]\w*)\s*\}\}")
_QUOTED_PARAM: Final = re.compile(rf"'{_PARAM.pattern}'")
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True, slots=True)
class SaveRead:
    """A save as read, with the places of its keys."""

    save: Save
    places: Mapping[str, str]


def read_save(
    reading: Reading, found: Field | None, where: str, uses: list[Use], *, looped: bool = False
) -> SaveRead | None:
    """The `save` of a step, a task or a loop; None when there is none, or when it has an error.

    `looped`: it is of a loop as a whole, and sees what that came to.
    """
    if found is None or found.value is None:
        return None
    read = _Reader(reading, found, where, "next")
    save = read.block()
    uses.extend(use for use in read.uses if not (looped and use.name in _OF_LOOP))
    return None if save is None else SaveRead(save, read.places)


def read_save_action(
    reading: Reading, found: Field | None, where: str, pointer: str, uses: list[Use], phase: Phase
) -> Action | None:
    """The action of a step of `type: save`, out of its map `save`; None when it has an error."""
    if found is None or found.value is None:
        reading.error("missing_argument", f"give `save` {where}: a map with `storage` and `data`", pointer)
        return None
    read = _Reader(reading, found, where, phase)
    action = read.alone()
    uses.extend(read.uses)
    return action


def check_item_save(reading: Reading, read: SaveRead | None, loop: Loop, where: str) -> Save | None:
    """The save of each item of a loop: but for its data, it is the same for all of them."""
    if read is None:
        return None
    arguments, problems = read.save.action.arguments, list[tuple[str, str]]()
    own = {loop.element, "index", "batch", "_loop", *_OF_WORK}
    for name, value in arguments.items():
        if name in _PER_ITEM:
            if secrets_read(value):
                problems.append((name, f"take the secret out of `{name}`: the data of many items holds none"))
        elif name in read.save.action.verbatim:
            continue
        elif read_of_item := sorted(names_read(value) & own):
            problems.append((name, f"take `{read_of_item[0]}` out of `{name}`: it is the same for all items"))
    if arguments.get("mode") == "overwrite":
        problems.append(("mode", "overwrite in `save` of the step, with `results`: here each would overwrite others"))
    for name, advice in problems:
        reading.error("save_of_items", f"{advice} ({where})", read.places.get(name, read.places[""]))
    return None if problems else read.save


class _Reader:
    """One reading of one `save`."""

    def __init__(self, reading: Reading, found: Field, where: str, phase: Phase) -> None:
        self._reading = reading
        self._found = found
        self._where = f"in `save` {where}"
        self._phase = phase
        self.uses: list[Use] = []
        self.places = {"": found.pointer}

    def block(self) -> Save | None:
        """A save beside a work."""
        before = self._errors()
        fields = self._fields()
        if fields is None:
            return None
        when = fields.pop("when", None)
        condition = None if when is None else self._condition(when)
        words = self._reading.choice(fields.pop("on", None), f"`on` {self._where}", _ONS, "success")
        on_error = self._reading.choice(fields.pop("on_error", None), f"`on_error` {self._where}", WORDS, "continue")
        retried = list[Use]()
        retry = read_retry(self._reading, fields, self._where, retried)
        self.uses.extend(use for use in retried if use.name != TRY_COUNT)
        timeout = self._reading.duration(fields.pop("timeout", None), f"`timeout` {self._where}")
        concurrency = self._reading.count(fields.pop("concurrency", None), f"`concurrency` {self._where}")
        action, chunk = self._action(fields, "{{ data }}")
        if action is None or self._errors() > before:
            return None
        return Save(
            action=action,
            when=condition,
            on=words,
            on_error=on_error,
            retry=retry,
            timeout_seconds=timeout,
            chunk_size=chunk,
            concurrency=concurrency,
        )

    def alone(self) -> Action | None:
        """A save that is the work itself."""
        before = self._errors()
        fields = self._fields()
        if fields is None:
            return None
        for name in _ON_THE_STEP:
            if (given := fields.pop(name, None)) is not None:
                advice = f"move `{name}` out of `save`, to the step: here saving is its work"
                if name in ("on", "concurrency"):
                    advice = f"remove `{name}` {self._where}: here saving is the step's work"
                self._reading.error("misplaced_key", advice, given.pointer, key=True)
        if "data" not in fields and "statement" not in fields:
            advice = f"give `data` {self._where}: a step that only saves has no result of its own to save"
            self._reading.error("missing_argument", advice, self._found.pointer)
        action, _ = self._action(fields, None)
        return None if self._errors() > before else action

    # -- parts ------------------------------------------------------------------------------------------

    def _errors(self) -> int:
        return sum(problem.severity == "error" for problem in self._reading.problems)

    def _fields(self) -> Fields | None:
        value = self._found.value
        if isinstance(value, list):
            advice = f"give one map {self._where}: for more, add steps of `type: save`"
            self._reading.error("wrong_type", advice, self._found.pointer)
            return None
        if not isinstance(value, dict):
            self._reading.error("wrong_type", f"make `save` a map {self._where}", self._found.pointer)
            return None
        return self._reading.fields(value, self._found.pointer, "`save`")

    def _condition(self, found: Field) -> str | None:
        return condition_text(self._reading.condition(found, f"`when` {self._where}", self.uses, self._phase))

    def _action(self, fields: Fields, data: str | None) -> tuple[Action | None, int]:
        """The kind's action, and how many items one job of it saves. `data` is what is saved when nothing is given."""
        reading = self._reading
        schema = reading.schemas[KIND] if KIND in reading.schemas else KindSchema(KIND, {})
        storage = self._storage(fields.pop("storage", None), schema)
        if "auth" in schema.arguments:
            fold_credential(reading, fields, schema, self._where)
        chunk = self._chunk(fields)
        arguments: dict[str, Any] = {} if storage is None else {"storage": storage}
        for name, words in (("mode", _MODES), ("format", _FORMATS)):
            if (found := fields.pop(name, None)) is not None and found.value is not None:
                self.places[name] = found.pointer
                arguments[name] = reading.choice(found, f"`{name}` {self._where}", words, next(iter(words)))
        for name in ("auth", "use_auth", "spec", "table", "key", "data", "statement", "params", "code"):
            if (found := fields.pop(name, None)) is not None and found.value is not None:
                self.places[name] = found.pointer
                arguments[name] = self._statement(found) if name == "statement" else found.value
                if name in schema.verbatim:
                    continue
                read = list[Use]()
                reading.templates(found, f"in `{name}` {self._where}", read, self._phase)
                self.uses.extend(use for use in read if not (name == "statement" and use.name == "params"))
        reading.leftovers(fields, "`save`", SAVE_KEYS, {}, severity="error")
        takes = _storages(schema)[storage].get("takes", ()) if storage is not None else ()
        is_bound = "statement" in takes and "statement" in arguments and "params" in arguments
        if data is not None and "data" not in arguments and not is_bound:
            arguments["data"] = data
        if chunk is not None:
            arguments["chunk_size"] = chunk
        self._check(arguments, storage, schema)
        if storage is None:
            return None, DEFAULT_CHUNK
        verbatim, sql = (tuple(name for name in names if name in arguments) for names in (schema.verbatim, schema.sql))
        return Action(kind=KIND, arguments=arguments, verbatim=verbatim, sql=sql), chunk or DEFAULT_CHUNK

    def _storage(self, found: Field | None, schema: KindSchema) -> str | None:
        known = _storages(schema)
        if found is not None:
            self.places["storage"] = found.pointer
        given = None if found is None else found.value
        if isinstance(given, dict):
            advice = "write `storage: NAME`, and `auth`, `spec` and the rest beside it: a map was its early form"
            self._reading.error("not_supported", f"{advice} ({self._where})", self._place("storage"))
            return None
        if given is not None and not isinstance(given, str):
            self._reading.error("wrong_type", f"make `storage` {self._where} a text", self._place("storage"))
            return None
        name = (given or DEFAULT_STORAGE).strip().lower()
        name = _ALIASES.get(name, name)
        if name in known:
            return name
        there = f"use one of: {', '.join(sorted(known))}" if known else "no storage is installed"
        if name in _DOCUMENTED:
            message = f"the storage `{name}` is not available here; {there}"
        else:
            message = f"there is no storage `{shown(name)}`; {suggestion(name, known) or there}"
        self._reading.error("unknown_storage", message, self._place("storage"))
        return None

    def _chunk(self, fields: Fields) -> int | None:
        """`chunk_size`; without `batch` it is one at a time."""
        batch = self._reading.flag(fields.pop("batch", None), f"`batch` {self._where}")
        given = fields.pop("chunk_size", None)
        size = self._reading.count(given, f"`chunk_size` {self._where}", MAX_CHUNK)
        if batch is False and given is not None and size != 1:
            advice = f"keep one of `batch: false` and `chunk_size` {self._where}: without batches it is one at a time"
            self._reading.error("invalid_argument", advice, given.pointer, key=True)
        return 1 if batch is False else size

    def _statement(self, found: Field) -> Any:
        """SQL in which `{{ params.name }}` is `:name`: bound, whatever its value is."""
        text = found.value
        if not isinstance(text, str):
            return text
        bound = _PARAM.sub(r":\1", _QUOTED_PARAM.sub(r":\1", text))
        inside = any(_PARAM.search(quoted) for quoted in _QUOTED.findall(_QUOTED_PARAM.sub("", text)))
        if inside or "params" in names_read(bound):
            advice = (
                f"write `{{{{ params.NAME }}}}` or `:NAME` by itself in `statement` {self._where}: it is bound there"
            )
            self._reading.error("invalid_argument", advice, found.pointer)
        return bound

    def _check(self, arguments: dict[str, Any], storage: str | None, schema: KindSchema) -> None:
        reading = self._reading
        for problem in schema.check(arguments):
            at = reduce(join_pointer, problem.path[1:], self._place(str(problem.path[0]) if problem.path else ""))
            named = f"`{problem.path[0]}` " if problem.path else ""
            reading.error(problem.code, f"correct {named}{self._where}: {problem.message}", at)
        for code, message, name in self._conflicts(arguments, storage, schema):
            reading.error(code, f"{message} ({self._where})", self._place(name))
        if storage is not None:
            self._check_spec(storage, arguments.get("spec", {}), _storages(schema)[storage].get("spec"))

    def _check_spec(self, storage: str, spec: Any, schema: Mapping[str, Any] | None) -> None:
        """What a storage reads in `spec`, if it tells; a template of a whole map is seen when it is rendered."""
        if schema is None or not isinstance(spec, dict):
            return
        reading, told = self._reading, KindSchema(storage, schema)
        at = self._place("spec")
        if (missing := told.missing(spec)) is not None:
            advice = f"give {missing} in `spec` {self._where}: the storage {storage} needs it"
            reading.error("missing_argument", advice, at)
        for name in sorted(spec.keys() - {*told.arguments}):
            advice = suggestion(name, told.arguments) or f"use {', '.join(told.arguments)}"
            message = f"the storage {storage} reads no `{shown(name)}` in `spec` {self._where}; {advice}"
            reading.error("unknown_argument", message, join_pointer(at, name), key=True)
        for problem in told.check(spec):
            place = reduce(join_pointer, problem.path, at)
            reading.error(problem.code, f"correct `spec` {self._where}: {problem.message}", place)

    def _conflicts(
        self, arguments: Mapping[str, Any], storage: str | None, schema: KindSchema
    ) -> Iterator[tuple[str, str, str]]:
        """What does not go together: the code, the advice, and the key it is about."""
        if "statement" in arguments:
            for name in ("table", "mode", "key"):
                if name in arguments:
                    yield "invalid_argument", f"keep one of `statement` and `{name}`: a statement says it all", name
        elif arguments.get("mode") in _KEYED and not arguments.get("key"):
            yield "missing_argument", f"give `key`: mode {arguments['mode']} finds rows by it", "mode"
        if storage is None:
            return
        told = _storages(schema)[storage]
        modes = told.get("modes") or _MODES
        if "mode" in arguments and arguments["mode"] not in modes:
            yield "invalid_argument", f"use one of {', '.join(modes)}: the storage {storage} has no other mode", "mode"
        for choice in told.get("needs", ()):
            if not any(arguments.get(name) not in (None, "") for name in choice):
                names = " or ".join(f"`{name}`" for name in choice)
                yield "missing_argument", f"give {names}: the storage {storage} needs it", "storage"
        for name in sorted(self.places.keys() - {"", "storage", *told.get("takes", ())}):
            place = self.places[name]
            advice = f"remove `{name}` {self._where}: the storage {storage} does not read it"
            self._reading.warn("unused_argument", advice, place)

    def _place(self, name: str) -> str:
        return self.places.get(name, self.places[""])


def _storages(schema: KindSchema) -> Mapping[str, Mapping[str, Any]]:
    told: Mapping[str, Mapping[str, Any]] = schema.schema.get("properties", {}).get("storage", {}).get(STORAGES, {})
    return told
