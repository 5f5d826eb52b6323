"""Asking the pure rules about one execution: a question is asked again and again until all its facts are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.conf import settings

from catalog.api import Playbook, load_playbook
from executions import store
from executions.domain.events import Event
from executions.domain.facts import Facts, expected, known_from
from executions.domain.frames import decode_frame
from executions.domain.planner import Decision, plan_news
from executions.domain.state import State
from executions.domain.wanted import MissingFacts, Wanted
from executions.errors import LogInconsistent
from executions.store import LockedExecution, StoredExecution

T = TypeVar("T")


class Turn:
    """One execution, locked or over, its playbook, and what was loaded for it."""

    def __init__(self, locked: StoredExecution) -> None:
        self.locked = locked
        self.playbook: Playbook = load_playbook(locked.playbook_version_id)
        self.facts = Facts(
            execution_id=str(locked.id),
            recorded_at=locked.now.isoformat(),
            workload=locked.workload,
            env=settings.NOETL_TEMPLATE_ENV_VALUES,
            # A state that is rebuilt from the log opens its frames itself; stored ones may be of another state.
            all_frames=locked.state_data is None,
        )

    @property
    def is_rebuilding(self) -> bool:
        """Whether there is no usable state: everything is folded anew."""
        return self.locked.state_data is None

    def decide(self) -> Decision | None:
        """Plan the events since the state, or None when there are none.

        With no usable state that is the whole log: what had been planned before follows from it no more, and what had
        not is settled now. Raises: `ImpossibleEvent`, `LogInconsistent`.
        """
        state = self.locked.state()
        news = self._news(state)
        if not news:
            return None
        known_from(news, self.facts)
        self._load(self.facts.missing(expected(self.playbook, state, self.facts.execution_id, news)))
        return self.ask(lambda fresh: plan_news(self.playbook, fresh, news, self.facts))

    def _news(self, state: State) -> list[Event]:
        """The events since the state: those at hand when there are no others, else as the log has them."""
        at_hand = self.locked.news if isinstance(self.locked, LockedExecution) else []
        if at_hand and at_hand[0].seq == state.seq + 1 and at_hand[-1].seq == self.locked.last_seq:
            return at_hand
        self._write_down()
        return store.events_since(self.locked.id, state.seq)

    def _write_down(self) -> None:
        """What has just come in is to be found in the log before the log is read."""
        if isinstance(self.locked, LockedExecution):
            store.append_events(self.locked.id, self.locked.take_unwritten())

    def ask(self, question: Callable[[State], T]) -> T:
        """Ask about a fresh copy of the state, with all frames that were loaded, until nothing is missing."""
        while True:
            try:
                return question(self._state())
            except MissingFacts as missing:
                wanted = self.facts.missing(missing.wanted)
                if not wanted:
                    raise LogInconsistent(self.locked.id, {"missing": str(missing.wanted)}) from None
                self._load(wanted)

    def _state(self) -> State:
        state = self.locked.state()
        for key, data in self.facts.frames.items():
            if data is not None:
                state.frames[key] = decode_frame(data)
        return state

    def _load(self, wanted: Wanted) -> None:
        if self.is_rebuilding:
            self.facts.frames.update(dict.fromkeys(wanted.frames))
            wanted.frames = set()
        if wanted:
            self._write_down()
            store.load_facts(self.facts, wanted, rerun_of=self.locked.rerun_of)
