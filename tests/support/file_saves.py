"""Saves of files by the real kind, without a platform around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any, Final

import duckdb
import pytest

from executors.actions.save.buckets import GcsStorage, S3Storage
from executors.actions.save.file import FileStorage
from executors.actions.save.kind import SaveAction
from executors.contract import ActionFailed, ActionRequest, Credential
from executors.running import Lent
from executors.stores.http_calls import CheckedCalls

ROWS: Final = [{"id": 1, "name": 'Öl, "gut"'}, {"id": 2, "name": None, "more": [1, {"a": "b"}]}]


class Saves:
    """Runs saves of one execution, `e1`; `credentials` are by name."""

    def __init__(self, data_dir: Path, networks: Sequence[str] = ("127.0.0.0/8",)) -> None:
        self.data_dir = data_dir
        self.credentials: dict[str, Credential] = {}
        self.cancelled = Event()
        calls = CheckedCalls(networks)
        self.action = SaveAction([FileStorage(), S3Storage(calls), GcsStorage(calls)])
        self.lent = self._lent()

    @property
    def files(self) -> Path:
        """The execution's folder."""
        return self.data_dir / "files" / "e1"

    def run(
        self, storage: str, place: str, data: Any, *, node: str = "s#save", timeout: float = 60, **more: Any
    ) -> Any:
        """One attempt; `place` is the path or the address."""
        named = {"path" if storage == "file" else "url": place}
        given = {"storage": storage, "spec": named, "data": data, **more}
        request = ActionRequest("save", given, {}, "e1", f"e1:{node}", "s", 1, f"e1:{node}", timeout)
        self.lent = self._lent()
        return self.action.run(request, self.lent)

    def fails(self, *given: Any, **more: Any) -> ActionFailed:
        """The failure of an attempt."""
        with pytest.raises(ActionFailed) as caught:
            self.run(*given, **more)
        return caught.value

    def names(self) -> list[str]:
        """Every file in the execution's folder, and whatever is left of a passing one."""
        found = [*self.files.rglob("*"), *(self.data_dir / "tmp").glob("*")]
        return sorted(str(path.relative_to(self.data_dir)) for path in found if path.is_file())

    def _lent(self) -> Lent:
        return Lent(self.data_dir, self.cancelled, self.credentials.__getitem__)


def parquet_rows(content: bytes, folder: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file."""
    (folder / "read.parquet").write_bytes(content)
    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_parquet(?)", [str(folder / "read.parquet")])
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
