"""Crash at every round trip to the database, before and after it, for six shapes of playbook and both ways to evaluate.

For each point one life is doomed to die there, and another finds what is left and finishes it. Then the execution must
be there once, completed with the right result, and `verify` must find nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from catalog.api import register_playbook
from noetl_site import embedded
from tests.faults.lives import Doom, Ended, forked, live, violations
from tests.faults.progress import Broken, Progress, tell
from tests.faults.shapes import BY_NAME, SHAPES, TEXTS, Shape
from tests.support import database

NAME: Final = "noetl_points"
PER_CHECK: Final = 40
"""Points between two runs of `verify`, which looks at the whole database."""
PER_DATABASE: Final = 400
"""Points after which the database is replaced by an empty one: `verify` would become slow."""


@dataclass(frozen=True, slots=True)
class Way:
    """One shape, evaluated in the reporting transaction or by messages."""

    shape: Shape
    inline: bool

    @property
    def name(self) -> str:
        """As it is named on the command line and in the state."""
        return f"{self.shape.name}/{'inline' if self.inline else 'broker'}"


WAYS: Final = [Way(shape, inline) for inline in (True, False) for shape in SHAPES]


def ways_named(names: list[str]) -> list[Way]:
    """The ways of these names, of shapes or of ways; all for none. Raises: `KeyError`."""
    wanted = {way.name: way for way in WAYS}
    chosen = []
    for name in names:
        chosen += [wanted[name]] if "/" in name else [Way(BY_NAME[name], True), Way(BY_NAME[name], False)]
    return chosen or WAYS


class Points:
    """The points of one database, which is made for them."""

    def __init__(self, texts: Sequence[str] = TEXTS) -> None:
        database.prepare_template()
        with embedded.connect(embedded.open_folder(database.data_dir())) as connection:
            # The server is not what crashes here; waiting for its disk would be most of the time.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        self._texts = texts
        self._nth = 0
        self._superuser: psycopg.Connection[tuple[Any, ...]] | None = None
        self.renew()

    def renew(self) -> None:
        """Go on with an empty database."""
        if self._superuser is not None:
            self._superuser.close()
        database.recreate(NAME)
        database.use_database(NAME)
        ended = forked(self._register)
        if "error" in ended.told:
            raise RuntimeError(ended.told["error"])
        self._superuser = embedded.connect(embedded.open_folder(database.data_dir()), NAME)
        self._superuser.execute("SET search_path = noetl")

    def all_of(self, way: Way) -> list[Doom]:
        """Before and after each round trip of an undisturbed life."""
        key = self._key(way, None)
        ended = live(key, way.shape.path, self._nth, doom=None, inline=way.inline, later=False)
        self._check_life(ended, way, None)
        self.check_end(key, way.shape.result_for(self._nth), _place(way, None))
        return [Doom(call, after) for call in range(1, ended.told["trips"] + 1) for after in (False, True)]

    def crash(self, way: Way, doom: Doom) -> bool:
        """Crash there, and finish. Returns: whether the point was reached. Raises: `Broken`."""
        key = self._key(way, doom)
        first = live(key, way.shape.path, self._nth, doom=doom, inline=way.inline, later=False)
        if not first.killed:
            # Batches depend on how quick the machine is: a life may come to its end with fewer calls.
            self._check_life(first, way, doom)
        else:
            second = live(key, way.shape.path, self._nth, doom=None, inline=way.inline, later=True)
            self._check_life(second, way, doom)
        self.check_end(key, way.shape.result_for(self._nth), _place(way, doom))
        return first.killed

    def check_all(self) -> None:
        """`verify` finds nothing. Raises: `Broken`, which tells the points of the executions that it names."""
        found = violations()
        if not found:
            return
        keys = dict(self.query("SELECT id::text, idempotency_key FROM execution"))
        named = [f"{line} (point {next((keys[id_] for id_ in keys if id_ in line), '?')})" for line in found]
        raise Broken("verify finds:\n  " + "\n  ".join(named))

    def query(self, statement: str, *parameters: str) -> list[tuple[Any, ...]]:
        """Rows of the database."""
        assert self._superuser is not None
        return self._superuser.execute(statement, parameters or None).fetchall()

    def _register(self) -> dict[str, Any]:
        for text in self._texts:
            register_playbook(text, "faults")
        return {}

    def _key(self, way: Way, doom: Doom | None) -> str:
        self._nth += 1
        return f"{way.name} {doom or 'undisturbed'} {self._nth}"

    def _check_life(self, ended: Ended, way: Way, doom: Doom | None) -> None:
        if ended.killed or "error" in ended.told:
            raise Broken(f"{_place(way, doom)}: {ended.told.get('error', 'was killed')}")

    def check_end(self, key: str, result: Any, place: str) -> None:
        """The execution of this key is there once and completed with this result. Raises: `Broken`."""
        statement = "SELECT status, result FROM execution WHERE idempotency_key = %s"
        rows = self.query(statement, key)
        expected = [("completed", result)]
        if rows != expected:
            raise Broken(f"{place}: the execution is {rows} and must be {expected}")


def _place(way: Way, doom: Doom | None) -> str:
    again = f"python -m tests.faults points --way {way.name} --at {doom}" if doom else "an undisturbed life"
    return f"{way.name} {doom or ''} ({again})"


def run(progress: Progress, ways: list[Way], seed: int, sample: int | None) -> bool:
    """Crash at all points of these ways, or at a sample of each. Returns: whether all were done in time."""
    begun_at = time.monotonic()
    points = Points()
    done: dict[str, int] = progress.state.setdefault("done", {})
    since_check = in_database = 0
    for way in ways:
        dooms = points.all_of(way)
        if sample is not None:
            dooms = sorted(random.Random(f"{seed} {way.name}").sample(dooms, min(sample, len(dooms))), key=str)
        killed = 0
        for place, doom in enumerate(dooms):
            if place < done.get(way.name, 0):
                continue
            if progress.is_time_up:
                points.check_all()
                return False
            killed += points.crash(way, doom)
            since_check += 1
            in_database += 1
            if since_check >= PER_CHECK or place == len(dooms) - 1:
                points.check_all()
                done[way.name] = place + 1
                progress.count(points=since_check, killed=killed)
                since_check = killed = 0
            if in_database >= PER_DATABASE and since_check == 0:
                points.renew()
                in_database = 0
        tell(f"points: {way.name}: {len(dooms)} points, 0 violations ({time.monotonic() - begun_at:.0f} s so far)")
    return True


def run_one(way: Way, at: str) -> None:
    """Crash at one point, `before:N` or `after:N`, as a violation tells it. Raises: `Broken`."""
    side, _, call = at.partition(":")
    points = Points()
    reached = points.crash(way, Doom(int(call), side == "after"))
    points.check_all()
    tell(f"points: {way.name} {at}: {'killed' if reached else 'not reached'}, 0 violations")
