"""Connections of the postgres kind: every way to name one, what wins over what, and what is kept between jobs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executors.actions.postgres import ForbiddenTarget, PostgresAction
from executors.stores import postgres_session
from executors.stores.postgres_pool import Pool
from tests.support.database_steps import PASSWORD, ROLE, Step, step_socket

PID = "select pg_backend_pid()"


@pytest.fixture(scope="module")
def socket_folder() -> str:
    return step_socket()


@pytest.fixture
def step(socket_folder: str, tmp_path: Path) -> Iterator[Step]:
    step = Step(socket_folder, tmp_path)
    yield step
    step.action.close()


@pytest.fixture
def watcher(socket_folder: str, tmp_path: Path) -> Iterator[Step]:
    """Looks at the server beside the step."""
    watcher = Step(socket_folder, tmp_path)
    yield watcher
    watcher.action.close()


def dsn(host: str) -> str:
    return f"host={host} user={ROLE} dbname={ROLE} password='{PASSWORD}' service=nope"


# -- ways to name one ---------------------------------------------------------------------------------


def test_fields_among_the_inputs(step: Step) -> None:
    step.inputs = {**step.fields, "db_port": 5432, "rows": [1], "user": "somebody else"}
    assert step.value("select current_user", auth=None) == ROLE and step.asked == []


def test_fields_of_the_step(step: Step) -> None:
    assert step.value("select current_database()", auth=None, **step.fields, db_port="5432") == ROLE


@pytest.mark.parametrize("name", ["db_conn_string", "dsn"])
def test_a_dsn(step: Step, socket_folder: str, name: str) -> None:
    assert step.value("select 1", auth=None, **{name: dsn(socket_folder)}) == 1
    step.inputs = {name: dsn(socket_folder)}
    assert step.value("select 1", auth=None) == 1
    step.fields = {name: dsn(socket_folder)}
    assert step.value("select 1") == 1


def test_a_dsn_wins_over_the_fields_beside_it(step: Step, socket_folder: str) -> None:
    beside = {"db_host": "/nowhere", "db_port": "1", "db_user": "nobody", "db_password": "x", "db_name": "none"}
    told = {**beside, "db_port": "5432", "db_conn_string": dsn(socket_folder)}
    assert step.value("select current_user", auth=None, **told) == ROLE


@pytest.mark.parametrize(
    "names",
    [
        ("host", "port", "user", "password", "database"),
        ("host", "port", "username", "password", "dbname"),
        ("db_host", "db_port", "db_user", "db_password", "db_name"),
    ],
)
def test_spellings_of_a_credentials_fields(step: Step, socket_folder: str, names: tuple[str, ...]) -> None:
    step.fields = dict(zip(names, [socket_folder, "5432", ROLE, PASSWORD, ROLE], strict=True))
    assert step.value("select current_user") == ROLE


@pytest.mark.parametrize(
    ("auth", "asked"),
    [
        ("pg", "pg"),
        ({"pg": {"type": "postgres", "key": "pg_main"}}, "pg_main"),
        ({"pg": "pg_main"}, "pg_main"),
        ({"type": "postgres", "credential": "pg_main"}, "pg_main"),
        ({"source": "credential", "key": "pg_main"}, "pg_main"),
        ({"source": "credential", "name": "pg_main", "service": "postgres"}, "pg_main"),
        ({"provider": "credential_store", "type": "postgres", "key": "pg_main"}, "pg_main"),
    ],
)
def test_forms_of_auth(step: Step, auth: Any, asked: str) -> None:
    assert step.value("select 1", auth=auth) == 1
    assert step.asked == [asked]


def test_several_aliases(step: Step) -> None:
    several = {"one": {"type": "postgres", "key": "pg_one"}, "two": {"type": "postgres", "key": "pg_two"}}
    assert step.value("select 1", auth=several, use_auth="two") == 1 and step.asked == ["pg_two"]
    assert "use_auth" in str(step.fails("select 1", auth=several))
    assert "pg_three" in str(step.fails("select 1", auth=several, use_auth="pg_three"))


@pytest.mark.parametrize("word", ["inline", "fields"])
def test_fields_in_auth_itself(step: Step, word: str) -> None:
    assert step.value("select 1", auth={"type": "postgres", word: {**step.fields, "db_port": 5432}}) == 1
    assert step.value("select 1", auth={"source": "inline", word: step.fields}) == 1
    assert step.asked == []


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        ({"source": "env", "key": "X"}, "secret_not_found"),
        ({"secret": "x"}, "credential_invalid"),
        ({"type": "postgres"}, "auth_invalid"),
        ({"env": "X"}, "secret_not_found"),
    ],
)
def test_a_map_that_leads_nowhere_says_so(step: Step, auth: dict[str, str], code: str) -> None:
    assert step.fails("select 1", auth=auth).code == code


# -- what wins, what is missing -----------------------------------------------------------------------


def test_the_steps_own_fields_win_and_its_password_does_not(step: Step) -> None:
    assert step.value("select current_database()", db_name="postgres") == "postgres"
    step.inputs = {"db_name": "postgres", "db_password": "wrong"}
    assert step.value("select current_database()") == "postgres"
    step.fields["db_host"] = "/nowhere"
    step.inputs = {"db_host": step_socket()}
    assert step.value("select current_database()") == ROLE


@pytest.mark.parametrize("field", ["db_host", "db_user", "db_name"])
def test_a_missing_field_of_a_credential_is_named(step: Step, field: str) -> None:
    del step.fields[field]
    failure = step.fails("select 1")
    assert failure.code == "credential_invalid" and field in str(failure)
    step.fields[field] = ""
    assert field in str(step.fails("select 1"))


@pytest.mark.parametrize("field", ["db_host", "db_user", "db_password", "db_name"])
def test_a_missing_field_of_a_step_is_named(step: Step, field: str) -> None:
    step.inputs = {**step.fields, "db_host": "127.0.0.1"}
    del step.inputs[field]
    failure = step.fails("select 1", auth=None)
    assert failure.code == "arguments_invalid" and field in str(failure)


@pytest.mark.parametrize("blank", ["", "  ", None])
@pytest.mark.parametrize("field", ["db_host", "db_port", "db_user", "db_password", "db_name", "sslmode", "dsn"])
def test_a_blank_field_is_named(step: Step, field: str, blank: str | None) -> None:
    """Also beside a credential that has it: blank was not meant."""
    step.inputs = {field: blank}
    failure = step.fails("select 1")
    assert failure.code == "arguments_invalid" and field in str(failure)


def test_a_dsn_that_cannot_be_read_is_not_quoted(step: Step) -> None:
    step.fields = {"dsn": f"host=x password='{PASSWORD}' nonsense"}
    failure = step.fails("select 1")
    assert failure.code == "credential_invalid" and "dsn" in str(failure) and PASSWORD not in str(failure)


def test_a_password_of_the_step_is_in_no_error(step: Step) -> None:
    secret = "0nly-in-the-step"
    failure = step.fails("select 1", auth=None, **{**step.fields, "db_name": f"no-{secret}", "db_password": secret})
    assert failure.code == "postgres_connection" and secret not in str(failure)


def ask_for_the_password(server: socket.socket, heard: list[bytes]) -> None:
    """A server that wants the password in clear."""
    connection, _ = server.accept()
    with connection:
        (size,) = struct.unpack("!i", connection.recv(4))
        connection.recv(size - 4)
        connection.sendall(b"R" + struct.pack("!ii", 8, 3))
        heard.append(connection.recv(1000))


@pytest.mark.parametrize(
    ("stored", "own"),
    [
        ({}, {"db_host": "127.0.0.1", "db_port": "PORT"}),
        ({}, {"dsn": "host=127.0.0.1 port=PORT"}),
        ({"db_host": "127.0.0.1", "db_port": "5432"}, {"db_port": "PORT"}),
        ({"db_host": "127.0.0.1"}, {"db_port": "PORT"}),
        ({"db_host": "db.invalid", "db_port": "PORT"}, {"dsn": "host=db.invalid hostaddr=127.0.0.1"}),
        ({"db_host": "db.invalid", "db_port": "PORT"}, {"dsn": "hostaddr=127.0.0.1"}),
    ],
)
def test_a_server_of_the_step_does_not_get_the_credentials_password(
    step: Step, stored: dict[str, str], own: dict[str, str]
) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        thread = threading.Thread(target=ask_for_the_password, args=(server, heard))
        thread.start()
        step.fields |= {name: value.replace("PORT", port) for name, value in stored.items()}
        step.inputs = {"sslmode": "disable", **{name: value.replace("PORT", port) for name, value in own.items()}}
        assert step.fails("select 1").code == "postgres_connection"
        thread.join(5)
    assert heard == [b""]


def test_the_credentials_own_server_gets_its_password(step: Step) -> None:
    """The test above would see it."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=ask_for_the_password, args=(server, heard))
        thread.start()
        step.fields |= {"db_host": "127.0.0.1", "db_port": str(server.getsockname()[1]), "sslmode": "disable"}
        step.inputs = {"db_port": step.fields["db_port"]}
        assert step.fails("select 1").code == "postgres_connection"
        thread.join(5)
    assert PASSWORD.encode() in heard[0]


# -- databases that no step may use -------------------------------------------------------------------


@pytest.mark.parametrize("own", [{"user": ROLE, "dbname": "noetl"}, {"user": "noetl", "dbname": ROLE}])
def test_the_orchestrators_own_database_is_refused(step: Step, own: dict[str, str]) -> None:
    step.action = PostgresAction([ForbiddenTarget(host="localhost", port="5432", **own)])
    assert step.fails("select 1").code == "target_forbidden"


@pytest.mark.parametrize(
    "fields", [{"db_host": "nowhere.invalid,localhost", "db_port": "1,5432"}, {"db_port": "5432,5432"}]
)
def test_it_is_refused_among_several_hosts(step: Step, fields: dict[str, str]) -> None:
    step.action = PostgresAction([ForbiddenTarget("127.0.0.1", "", "noetl", ROLE)])
    step.inputs = dict(fields)
    assert step.fails("select 1").code == "target_forbidden"


def test_hosts_are_not_waited_for_without_end(step: Step) -> None:
    failure = step.fails("select 1", db_host=",".join(["10.255.255.1"] * 9))
    assert failure.code == "credential_invalid" and "8 hosts" in str(failure)


def test_another_server_is_not_refused(step: Step) -> None:
    step.action = PostgresAction([ForbiddenTarget("localhost", "5999", "postgres", "postgres")])
    assert step.value("select 1") == 1


# -- between jobs -------------------------------------------------------------------------------------


def alive(watcher: Step, pid: int) -> bool:
    return bool(watcher.value("select count(*) from pg_stat_activity where pid = :pid", params={"pid": pid}))


def ends(watcher: Step, pid: int) -> bool:
    """Whether a backend ends within a little while."""
    deadline = time.monotonic() + 5
    while alive(watcher, pid) and time.monotonic() < deadline:
        pass
    return not alive(watcher, pid)


def test_the_next_job_has_the_same_connection_also_after_an_error(step: Step) -> None:
    pid = step.value(PID)
    assert step.value(PID) == pid
    step.fails("select nope")
    assert step.value(PID) == pid


def test_nothing_of_a_job_is_left_for_the_next(step: Step) -> None:
    pid = step.value(PID)
    step.run(
        "create temp table mine (a int); set search_path = pg_catalog; set datestyle = 'German'; listen news;"
        " prepare told as select 1; select pg_advisory_lock(7); set session standard_conforming_strings = on"
    )
    told = step.run(
        "select to_regclass('pg_temp.mine') is null as a, current_setting('datestyle') like 'ISO%' as b,"
        " current_setting('search_path') like '%public%' as c, (select count(*) from pg_prepared_statements) as d,"
        " (select count(*) from pg_listening_channels()) as e,"
        " (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as f,"
        " pg_backend_pid() as pid"
    )
    assert told["command_0"]["rows"] == [{"a": True, "b": True, "c": True, "d": 0, "e": 0, "f": 0, "pid": pid}]


@pytest.mark.parametrize("statement", ["begin; select 1", "begin; select nope"])
def test_a_transaction_that_is_left_open_ends_its_connection(step: Step, watcher: Step, statement: str) -> None:
    pid = step.value(PID)
    step.fails(statement)
    assert ends(watcher, pid) and step.value(PID) != pid


def test_a_connection_that_the_server_has_ended_is_replaced(step: Step, watcher: Step) -> None:
    pid = step.value(PID)
    watcher.run("select pg_terminate_backend(:pid)", params={"pid": pid})
    assert ends(watcher, pid)
    assert step.value(PID) != pid


def test_a_connection_that_does_not_answer_is_replaced(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_session, "ANSWER_SECONDS", 0.2)
    pid = step.value(PID)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert step.value(PID) != pid
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_changed_credential_makes_a_new_connection(step: Step) -> None:
    pid = step.value(PID)
    step.fields["sslmode"] = "prefer"
    assert step.value(PID) != pid
    step.fields["db_password"] = "wrong"
    assert step.fails("select 1").code == "postgres_connection"


def test_a_worker_keeps_only_some(step: Step, watcher: Step) -> None:
    step.action = PostgresAction(pool=Pool(max_idle=1))
    pid = step.value(PID)
    other = step.value(PID, sslmode="prefer")
    assert ends(watcher, pid) and alive(watcher, other)
    assert step.value(PID, sslmode="prefer") == other


def test_none_is_kept_for_long(step: Step, watcher: Step) -> None:
    step.action = PostgresAction(pool=Pool(idle_seconds=0.2))
    assert ends(watcher, step.value(PID))


def test_closing_ends_them(step: Step, watcher: Step) -> None:
    pid = step.value(PID)
    step.action.close()
    assert ends(watcher, pid)
    assert step.value(PID) != pid, "it can be used again"


def test_a_fork_uses_none_of_its_parents(step: Step, watcher: Step) -> None:
    pid = step.value(PID)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send([step.value(PID), step.value(PID)]))
    child.start()
    first, second = ours.recv()
    child.join(10)
    assert child.exitcode == 0 and first == second != pid
    assert ends(watcher, first) and step.value(PID) == pid, "the parent's still answers"


def test_two_jobs_at_once_have_two(step: Step) -> None:
    both = threading.Barrier(2)
    pids: list[int] = []

    def run() -> None:
        both.wait(5)
        pids.append(step.value("select pg_backend_pid() from pg_sleep(0.2)"))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(pids)) == 2


# -- what statements were escaped for -----------------------------------------------------------------


@pytest.mark.parametrize("setting", ["standard_conforming_strings = off", "client_encoding = 'SJIS'"])
def test_what_would_read_escaped_values_otherwise_is_refused(step: Step, setting: str) -> None:
    failure = step.fails(f"set {setting}; select 'a'")
    assert setting.split()[0] in str(failure) and "command_1" in str(failure)
    assert step.value("select 1") == 1


@pytest.mark.parametrize("setting", ["standard_conforming_strings = off", "client_encoding = 'LATIN1'"])
def test_a_roles_own_settings_do_not_count(step: Step, setting: str) -> None:
    name = setting.split()[0]
    step.run(f"alter role {ROLE} set {setting}")
    step.action.close()
    try:
        assert step.value("select 'a\\b'") == "a\\b"
        assert step.value("select 'é' || :more", params={"more": "ü"}) == "éü"
    finally:
        step.run(f"alter role {ROLE} reset {name}")
        step.action.close()
