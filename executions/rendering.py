"""Rendering templates that are no playbook's against an execution, for those who look into it.

Reads only, from one moment of the database; what a template sees is what `end` would see now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from catalog.api import load_playbook
from executions import store
from executions.domain.facts import Facts, MissingFacts, Wanted
from executions.domain.sight import Sight
from executions.domain.templating import Lookup, render
from executions.errors import LogInconsistent
from executions.store import StoredExecution


class Rendering:
    """One execution as templates see it now."""

    def __init__(self, execution_id: int, extra: Mapping[str, Any]) -> None:
        """`extra` lies over everything but `workload`, `steps` and `env`. Raises: `ExecutionNotFound`."""
        stored = store.read_execution(execution_id)
        self._playbook = load_playbook(stored.playbook_version_id)
        self._state = stored.state()
        self._facts = _facts_of(stored)
        self._extra = extra

    @property
    def names(self) -> list[str]:
        """The names that a template may use, sorted."""
        steps = {step.name for step in self._playbook.steps if self._state.has_result(self._index(step.name))}
        return sorted({"workload", "steps", "env", "job", "execution_id", *self._facts.workload, *steps, *self._extra})

    def render(self, template: Any) -> Any:
        """A text, list or map with every template in it rendered. Raises: `TemplateError`."""
        asked: Wanted | None = None
        while True:
            try:
                return render(template, self._lookup())
            except MissingFacts as missing:
                if missing.wanted == asked:
                    raise LogInconsistent(self._facts.execution_id, {"missing": str(asked)}) from None
                asked = missing.wanted
                store.load_facts(self._facts, asked)

    def _lookup(self) -> Lookup:
        return Sight(self._playbook, self._state, self._facts).survey(self._extra)

    def _index(self, step: str) -> int:
        return self._playbook.index_by_name[step]


def _facts_of(stored: StoredExecution) -> Facts:
    return Facts(
        execution_id=str(stored.id),
        recorded_at=stored.now.isoformat(),
        workload=stored.workload,
        env=settings.NOETL_TEMPLATE_ENV_VALUES,
    )
