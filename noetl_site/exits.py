"""How a command ends: each error of the apps as one clear line on stderr and an exit code.

The codes are part of the command line's contract (`docs/operations.md`). A surprise keeps its traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

from noetl_site.embedded import EmbeddedError

OK: Final = 0
ERROR: Final = 1
USAGE: Final = 2
NOT_AUTHENTICATED: Final = 3
NOT_FOUND: Final = 4
PLAYBOOK_INVALID: Final = 5
CONFLICT: Final = 6
UNREACHABLE: Final = 7
TOO_BUSY: Final = 8
EXECUTION_FAILED: Final = 20
CANCELLED: Final = 21
TIMED_OUT: Final = 124
INTERRUPTED: Final = 130
TERMINATED: Final = 143

EXIT_CODES: Final = {
    "playbook_not_found": NOT_FOUND,
    "execution_not_found": NOT_FOUND,
    "job_not_found": NOT_FOUND,
    "credential_not_found": NOT_FOUND,
    "user_not_found": NOT_FOUND,
    "token_not_found": NOT_FOUND,
    "playbook_invalid": PLAYBOOK_INVALID,
    "workload_invalid": USAGE,
    "credentials_unreadable": USAGE,
    "credential_invalid": USAGE,
    "credential_exists": CONFLICT,
    "start_conflict": CONFLICT,
    "outcome_recorded": CONFLICT,
    "execution_ended": CONFLICT,
    "not_pausable": CONFLICT,
    "approval_closed": CONFLICT,
    "lease_lost": CONFLICT,
    "access_error": USAGE,
    "not_authenticated": NOT_AUTHENTICATED,
    "server_unreachable": UNREACHABLE,
    "too_busy": TOO_BUSY,
}
"""By the stable code of an app's error; every other one is `ERROR`."""

NO_TABLES: Final = "the database has no tables yet: run `manage.py migrate --database admin` or `manage.py standalone`"


def run_command_line(argv: Sequence[str]) -> int:
    """Run one management command. Returns: the exit code of the process."""
    signal.signal(signal.SIGTERM, _terminate)
    _take_data_dir(argv)
    try:
        from django.core.management import execute_from_command_line

        execute_from_command_line(list(argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone; without this the interpreter complains about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except Exception as error:
        known = explain(error)
        if known is None:
            raise
        message, code = known
        # A playbook's problems begin with their place, so that editors jump to it.
        print(message if code == PLAYBOOK_INVALID else f"error: {message}", file=sys.stderr)
        return code
    return OK


def _take_data_dir(argv: Sequence[str]) -> None:
    """Let `--data-dir` of the platform's commands count for the settings, which are read before the arguments are."""
    if len(argv) < 2 or argv[1] not in {"standalone", "demo"}:
        return
    for position, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name == "--data-dir" and (equals or position + 1 < len(argv)):
            os.environ["NOETL_DATA_DIR"] = value if equals else argv[position + 1]


def explain(error: Exception) -> tuple[str, int] | None:
    """The line to print and the exit code for an error that is foreseen; None for a surprise."""
    from django.core.exceptions import ImproperlyConfigured
    from django.db import DatabaseError
    from psycopg import OperationalError
    from psycopg.errors import UndefinedTable

    from catalog.errors import CatalogError
    from executions.errors import ExecutionError
    from executors.errors import ExecutorError
    from noetl_site.access.errors import AccessError
    from queueing.errors import QueueError

    if isinstance(error, ImproperlyConfigured):
        return str(error), USAGE
    if isinstance(error, CatalogError | ExecutionError | ExecutorError | QueueError | EmbeddedError | AccessError):
        return str(error), EXIT_CODES.get(error.code, ERROR)
    # Statements that go past the ORM raise the driver's errors; the ORM's have those as their cause.
    driver_error = error.__cause__ if isinstance(error, DatabaseError) else error
    if isinstance(driver_error, UndefinedTable):
        return NO_TABLES, ERROR
    # An error of a statement has a SQLSTATE; one of connecting has none.
    if isinstance(driver_error, OperationalError) and driver_error.sqlstate is None:
        return f"the database cannot be reached: {str(error).strip()}", UNREACHABLE
    return None


def _terminate(*_: Any) -> None:
    """Leave by the normal way, so that embedded services are let go."""
    sys.exit(TERMINATED)
