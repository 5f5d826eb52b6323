"""Rows of an object of S3, in one of the formats of files; through boto3 (the extra `aws`).

An object goes through a file of the worker, so that nothing is in memory whole. Its keys are the credential's alone:
what boto3 would find on the worker is the worker's, and no step's.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from executors.contract import ActionFailed, Credential
from executors.stores.file_store import FileSink, FileSource, Format
from executors.stores.rows import Row
from executors.stores.watching import Watch

URL: Final = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)")
DEFAULT_REGION: Final = "us-east-1"
MAX_SECONDS: Final = 60.0


class S3Object:
    """One object and the keys to it."""

    def __init__(self, url: str, credential: Credential, watch: Watch) -> None:
        """Raises: `ActionFailed` (`arguments_invalid`, `credential_invalid`)."""
        found = URL.fullmatch(url)
        if found is None:
            raise ActionFailed("arguments_invalid", f"{url!r} is no place of S3: write s3://BUCKET/KEY")
        fields = credential.data
        if credential.type != "s3" or not (fields.get("access_key_id") and fields.get("secret_access_key")):
            raise ActionFailed(
                "credential_invalid", f"{credential.name!r} is no credential of the type s3 with its keys"
            )
        self._bucket, self.key = found["bucket"], found["key"]
        self._credential, self._watch = credential, watch

    def download(self, path: Path) -> None:
        """Into a file. Raises: `ActionFailed`."""
        with self._client("source_failed") as client:
            client.download_file(self._bucket, self.key, str(path), Callback=self._look)

    def upload(self, path: Path) -> None:
        """Out of a file; it is there whole or not at all. Raises: `ActionFailed`."""
        with self._client("target_failed") as client:
            client.upload_file(str(path), self._bucket, self.key, Callback=self._look)

    def _look(self, _: int) -> None:
        self._watch.check()

    @contextlib.contextmanager
    def _client(self, code: str) -> Iterator[Any]:
        self._watch.check()
        try:
            import boto3
            from boto3.exceptions import Boto3Error
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise ActionFailed("extra_missing", "install noetl[aws] on this worker: S3 needs boto3") from None
        fields = self._credential.data
        seconds = min(MAX_SECONDS, self._watch.seconds_left)
        config = Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 2})
        try:
            yield boto3.session.Session().client(
                "s3",
                region_name=fields.get("region") or DEFAULT_REGION,
                endpoint_url=fields.get("endpoint") or None,
                aws_access_key_id=fields["access_key_id"],
                aws_secret_access_key=fields["secret_access_key"],
                aws_session_token=fields.get("session_token"),
                config=config,
            )
        except ClientError as error:
            self._watch.check()
            told = str(error.response.get("Error", {}).get("Code", ""))
            raise ActionFailed(code, f"s3: {self.key!r} of {self._bucket!r}: {told}") from None
        except (BotoCoreError, Boto3Error, OSError, ValueError) as error:
            self._watch.check()
            raise ActionFailed(code, f"s3: {self.key!r} of {self._bucket!r}: {type(error).__name__}") from None


class S3Source:
    """The rows of one object, in its order. `work` is a folder for the file that it goes through."""

    def __init__(self, place: S3Object, format_: Format, work: Path, watch: Watch) -> None:
        self._place, self._format, self._work, self._watch = place, format_, work, watch
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._work.mkdir(parents=True, exist_ok=True)
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="s3-", dir=self._work)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def batches(self, size: int, key: str | None = None, after: Any = None) -> Iterator[list[Row]]:
        """As `rows.Source` has it."""
        path = self._folder / "rows"
        self._place.download(path)
        with FileSource(path, self._format, self._watch) as source:
            yield from source.batches(size, key, after)


class S3Sink:
    """An object of the rows, which is there with `commit`; after that nothing more is written."""

    def __init__(self, place: S3Object, format_: Format, work: Path, watch: Watch) -> None:
        self._place, self._format, self._work, self._watch = place, format_, work, watch
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._work.mkdir(parents=True, exist_ok=True)
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="s3-", dir=self._work))
        self._path = Path(folder) / "rows"
        self._file = self._stack.enter_context(FileSink(self._path, self._format, self._watch))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def begin(self) -> None:
        """Nothing: an object is always written anew."""

    def write(self, rows: Sequence[Row]) -> None:
        """As `rows.Sink` has it."""
        self._file.write(rows)

    def commit(self) -> None:
        """As `rows.Sink` has it."""
        self._file.commit()
        self._place.upload(self._path)
