"""What a step's DuckDB SQL may not do, told from its tokens before any of it is parsed or run.

DuckDB's own settings bound which files and buckets can be touched at all. They do not keep apart reading and writing,
and some functions ignore them: those are refused here by name. A kernel with Landlock stands behind both (`fence`).
Knows paths as text; opens nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from executors.sandbox.duckdb_tokens import Statement, Token, quoted_text

DENIED_FUNCTIONS: Final = frozenset(
    {
        # They connect wherever their arguments say, or open files past DuckDB's own checks.
        *("postgres_attach", "postgres_scan", "postgres_scan_pushdown", "postgres_configure_pool"),
        *("read_postgres_binary", "sqlite_attach", "sqlite_query", "sqlite_scan"),
        # They run text as SQL, which nobody has looked at.
        *("query", "query_table", "json_execute_serialized_sql", "import_database", "copy_database"),
        # They read memory at an address that they are given.
        *("arrow_scan", "arrow_scan_dumb", "pandas_scan", "python_map_function", "seq_scan"),
        # They write files, or change how everything after them runs.
        *("enable_logging", "disable_logging", "truncate_duckdb_logs", "enable_profiling", "enable_profile"),
        *("disable_profiling", "disable_profile", "add_parquet_key", "read_duckdb"),
        *("enable_verification", "disable_verification", "verify_external", "disable_verify_external"),
        *("verify_fetch_row", "disable_verify_fetch_row", "verify_parallelism", "disable_verify_parallelism"),
        *("verify_serializer", "disable_verify_serializer", "enable_peg_parser"),
        *("enable_object_cache", "disable_object_cache", "enable_optimizer", "disable_optimizer"),
        *("enable_checkpoint_on_shutdown", "disable_checkpoint_on_shutdown", "all_profiling_output"),
        *("enable_progress_bar", "disable_progress_bar"),
        *("enable_print_progress_bar", "disable_print_progress_bar"),
    }
)
PRAGMAS: Final = frozenset(
    {
        *("collations", "database_list", "database_size", "functions", "metadata_info", "platform", "show"),
        *("show_databases", "show_tables", "show_tables_expanded", "storage_info", "table_info", "user_agent"),
        *("version", "extension_versions", "force_checkpoint"),
    }
)
WITHIN: Final = ("json", "parquet", "icu", "core_functions")
"""Extensions that DuckDB always has."""
EXTENSION_NAMES: Final = {"postgres_scanner": "postgres", "sqlite_scanner": "sqlite", "sqlite3": "sqlite"}
READ_ONLY_OPTIONS: Final = ("read_only", "type", "duckdb", "sqlite", "true", ",", "(", ")")
LIKE_A_TABLE: Final = ("select", "from", "with", "values", "table", "pivot", "unpivot", "(")
"""First words of statements that can stand where a table can."""
NAMES_A_FILE: Final = ("filename_pattern", "file_extension")


class Refused(ValueError):
    """A statement that a step may not run; the message says why, and what to write in its place."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a step may touch. `files` is its own folder; `others` are folders and files that it may only read.

    `remote` are beginnings of addresses in buckets (`s3://bucket/`); `aliases` the databases that are attached.
    """

    files: str
    others: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    """Where relative names of other files are looked for."""
    remote: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    """Those that are loaded, by their short names."""


def check(statement: Statement, place: Place) -> Statement:
    """The statement to run: the one given, or the same with the paths of its files written out. Raises: `Refused`."""
    refuse_functions(statement.tokens)
    head = statement.head
    if head in ("explain", "prepare") and any(token.is_word("copy") for token in statement.tokens):
        raise Refused(f"{head.upper()} of a COPY is not possible in a step: run the COPY")
    if head == "pragma":
        _refuse_pragma(statement.tokens)
    elif head == "create" and _words_after_create(statement.tokens)[:1] == ["secret"]:
        raise Refused("CREATE SECRET is not possible in a step: name a credential with `auth`")
    elif head == "import":
        raise Refused("IMPORT DATABASE runs SQL from files: ATTACH the database, or COPY ... FROM its files")
    elif head == "copy":
        return _checked_copy(statement, place)
    elif head == "export":
        return _with_own_path(statement, _first_text(statement.tokens, "EXPORT DATABASE"), place)
    elif head == "attach":
        return _checked_attach(statement, place)
    return statement


def refuse_functions(tokens: Sequence[Token]) -> None:
    """Raises: `Refused` when a function is called that no step may call."""
    for token, following in pairwise(tokens):
        if token.word in DENIED_FUNCTIONS and following.is_word("(") and not token.is_text:
            raise Refused(f"{token.word}() is not possible in a step: name a database or bucket with `auth`")


def skips(statement: Statement, place: Place) -> str | None:
    """Why a statement need not run: the extension is loaded, or the database attached. None: it is to run.

    Raises: `Refused` for an extension that is not there.
    """
    name = extension_of(statement)
    if name is not None:
        if name in place.extensions or name in WITHIN:
            return "loaded from the installed wheel"
        raise Refused(
            f"the extension {name!r} cannot be loaded in a step: nothing is downloaded, and a database or bucket is"
            " attached by naming its credential with `auth`"
        )
    if statement.head == "attach":
        alias = _alias_of(statement.tokens)
        if alias in place.aliases:
            return f"{alias} is attached already"
    return None


def extension_of(statement: Statement) -> str | None:
    """The short name of the extension that a LOAD or INSTALL asks for; None for any other statement."""
    words = [token for token in statement.tokens if not token.is_word("force")]
    if not words[0].is_word("load", "install") or len(words) < 2:
        return None
    name = words[1].literal if words[1].is_text else words[1].word
    name = (name or "?").lower()
    return EXTENSION_NAMES.get(name, name)


def can_be_a_table(statement: Statement) -> bool:
    """Whether it is a query that can stand in COPY (...) TO."""
    return statement.head in LIKE_A_TABLE


def _refuse_pragma(tokens: Sequence[Token]) -> None:
    name = tokens[1].word if len(tokens) > 1 else ""
    if name not in PRAGMAS or any(token.is_word("=") for token in tokens):
        raise Refused(f"PRAGMA {name} is not possible in a step; possible are: {', '.join(sorted(PRAGMAS))}")


def _words_after_create(tokens: Sequence[Token]) -> list[str]:
    skipped = ("or", "replace", "persistent", "temporary", "temp")
    words = ["" if token.is_quoted else token.word for token in tokens[1:8]]
    return [word for word in words if word not in skipped]


def _checked_copy(statement: Statement, place: Place) -> Statement:
    if len(statement.tokens) > 1 and statement.tokens[1].is_word("from"):
        return statement  # COPY FROM DATABASE: both are attached.
    depth = 0
    for index, token in enumerate(statement.tokens):
        depth += token.is_word("(") - token.is_word(")")
        if depth == 0 and token.is_word("from"):
            return statement
        if depth == 0 and token.is_word("to"):
            _refuse_named_parts(statement.tokens[index + 1 :])
            target = statement.tokens[index + 1] if index + 1 < len(statement.tokens) else None
            return _with_own_path(statement, target, place)
    return statement


def _refuse_named_parts(options: Sequence[Token]) -> None:
    """Options that name the files that a COPY writes: names alone, no paths."""
    for token, value in pairwise(options):
        if token.word in NAMES_A_FILE and (value.literal is None or "/" in value.literal or ".." in value.literal):
            raise Refused(f"{token.word} must be a plain text in single quotes, without '/' and '..'")


def _first_text(tokens: Sequence[Token], what: str) -> Token:
    for token in tokens:
        if token.is_text:
            return token
    raise Refused(f"{what} needs a file's name in single quotes")


def _with_own_path(statement: Statement, token: Token | None, place: Place) -> Statement:
    """The statement with the path that it writes to, which must be in the step's own folder or a bucket of its own."""
    if token is None or token.literal is None:
        raise Refused("write the file's name as a plain text in single quotes: it is looked at before the SQL runs")
    name = token.literal
    if "://" in name:
        if not name.startswith(place.remote) or "?" in name or ".." in name.split("/"):
            raise Refused(f"{name!r} is in no bucket whose credential this step names with `auth`")
        return statement
    path = own_path(name, place)
    if path is None:
        raise Refused(f"{name!r} is outside of the execution's own folder, the only one that a step may write to")
    return statement.replaced(token, quoted_text(path))


def own_path(name: str, place: Place) -> str | None:
    """The full path of a file in the step's own folder; None when the name leads elsewhere."""
    if not name or name.startswith(("~", "file:")) or "\x00" in name:
        return None
    path = os.path.realpath(os.path.join(place.files, name))
    return path if is_below(path, [place.files]) and path != place.files else None


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether a full path is one of these or lies in one of them."""
    return any(f"{path}/".startswith(f"{folder.rstrip('/')}/") for folder in folders)


# -- ATTACH -------------------------------------------------------------------------------------------


def _checked_attach(statement: Statement, place: Place) -> Statement:
    at = _path_at(statement.tokens)
    token = statement.tokens[at] if at < len(statement.tokens) else None
    if token is None or token.literal is None:
        raise Refused("write what is to be attached as a plain text in single quotes")
    if token.literal == ":memory:":
        return statement
    name, options = token.literal, _options(statement.tokens[at + 1 :])
    if any(option.word in ("postgres", "mysql") or option.literal in ("postgres", "mysql") for option in options):
        raise Refused("attach a database server by naming its credential with `auth`")
    if path := own_path(name, place):
        return statement.replaced(token, quoted_text(path))
    other = _other_path(name, place)
    if other is None:
        raise Refused(f"{name!r} is neither in the execution's own folder nor a file that the step names in `read`")
    if not _only_reads(options):
        raise Refused(f"{name!r} may only be read: write ATTACH ... (READ_ONLY)")
    return statement.replaced(token, quoted_text(other))


def _path_at(tokens: Sequence[Token]) -> int:
    at = 1
    while at < len(tokens) and tokens[at].is_word("or", "replace", "database", "if", "not", "exists"):
        at += 1
    return at


def _alias_of(tokens: Sequence[Token]) -> str | None:
    for token, following in pairwise(tokens):
        if token.is_word("as"):
            return following.word
    return None


def _options(tokens: Sequence[Token]) -> Sequence[Token]:
    for index, token in enumerate(tokens):
        if token.is_word("("):
            return tokens[index:]
    return ()


def _only_reads(options: Sequence[Token]) -> bool:
    known = all(
        (option.literal or "").lower() in ("duckdb", "sqlite") or option.is_word(*READ_ONLY_OPTIONS)
        for option in options
    )
    return known and any(option.is_word("read_only") for option in options)


def _other_path(name: str, place: Place) -> str | None:
    for root in ("", *place.roots):
        path = os.path.realpath(os.path.join(root, name)) if root or os.path.isabs(name) else ""
        if path and os.path.exists(path) and is_below(path, place.others):
            return path
    return None
