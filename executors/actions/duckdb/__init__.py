"""The `duckdb` kind: SQL on DuckDB files, and through them on other databases and buckets."""

from executors.actions.duckdb.kind import DuckdbAction

__all__ = ["DuckdbAction"]
