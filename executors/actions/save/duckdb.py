"""The storage `duckdb`: rows into a table of a DuckDB file, or a statement for each of them, in one transaction.

The file is the execution's own, or one of the folder `databases`, as of duckdb steps; SQL reaches nothing else.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from executors.actions.save.arguments import SaveArguments
from executors.actions.save.storage import SaveContext, Storage
from executors.actions.save.tables import NEEDS, TAKES, batches, bound_statement, keys_of, told
from executors.contract import ActionFailed
from executors.stores.duckdb_store import MEMORY, DuckDbChanges, DuckDbSink, DuckDbWriting
from executors.stores.places import Places
from executors.stores.rows import Row
from executors.stores.watching import LOOK_SECONDS, Watch


class DuckDbStorage(Storage):
    """Writes into a DuckDB file."""

    name: ClassVar[str] = "duckdb"
    takes: ClassVar[frozenset[str]] = TAKES
    needs: ClassVar[tuple[tuple[str, ...], ...]] = (NEEDS,)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def save(self, rows: Sequence[Any], spec: SaveArguments, context: SaveContext) -> dict[str, Any]:
        """`{saved: "duckdb", table, task_result: {status, row_count}}`; of a statement without `table`."""
        watch = Watch(context.deadline, context.lent.cancelled)
        if spec.statement is not None:
            statement, values = bound_statement(spec)
            with self._alone(watch), DuckDbChanges(_file(spec, context), watch) as changes:
                return _all(changes, spec, context, lambda: changes.run(statement, values))
        key, some = keys_of(spec), batches(rows, spec)
        with (
            self._alone(watch),
            DuckDbSink(_file(spec, context), spec.table or "", watch, mode=spec.mode, key=key) as sink,
        ):
            return _all(sink, spec, context, lambda: _write(sink, some))

    @contextlib.contextmanager
    def _alone(self, watch: Watch) -> Iterator[None]:
        """One save of this process at a time: of two transactions at once that change one row DuckDB ends the second.

        Other processes wait at the file.
        """
        while not self._lock.acquire(timeout=min(LOOK_SECONDS, watch.seconds_left)):
            watch.check()
        try:
            yield
        finally:
            self._lock.release()


def _file(spec: SaveArguments, context: SaveContext) -> Path:
    """The file to write into, which is there already. Raises: `ActionFailed`."""
    if unknown := sorted(spec.spec.keys() - {"database"}):
        raise ActionFailed("arguments_invalid", f"spec: duckdb takes no {unknown[0]!r}")
    named = spec.spec.get("database")
    if named is not None and (not isinstance(named, str) or named == MEMORY):
        raise ActionFailed("arguments_invalid", "spec: database is the name of a file")
    path = Path(Places(context.lent.data_dir, (), context.request.execution_id).database(named))
    if not path.is_file():
        shown = "of the execution" if named is None else repr(named)
        raise ActionFailed(
            "target_failed", f"duckdb: there is no database {shown}: a duckdb step makes it with its tables"
        )
    return path


def _all(
    writing: DuckDbWriting, spec: SaveArguments, context: SaveContext, write: Callable[[], None]
) -> dict[str, Any]:
    """Write, or tell what an attempt before has written. The modes beside `append` write the same again."""
    note = f"save:{context.effect_key}" if spec.mode == "append" else None
    if note is not None and (before := writing.read_note(note)) is not None:
        return dict(json.loads(before))
    write()
    result = told(DuckDbStorage.name, spec, writing.changed)
    if note is not None and not writing.swap_note(note, None, json.dumps(result)):
        raise ActionFailed("target_failed", "duckdb: another attempt of this save has written meanwhile")
    writing.commit()
    return result


def _write(sink: DuckDbSink, some: Sequence[Sequence[Row]]) -> None:
    sink.begin()
    for batch in some:
        sink.write(batch)
