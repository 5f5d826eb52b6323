"""Rendering templates that are no playbook's against an execution, for those who look into it.

Reads only, from one moment of the database; what a template sees is what `end` would see now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings

from catalog.api import is_template, load_playbook
from executions import store
from executions.domain.facts import Facts
from executions.domain.results import MISSING
from executions.domain.sight import Sight
from executions.domain.templating import Lookup, render
from executions.domain.wanted import MissingFacts, Wanted
from executions.errors import LogInconsistent, TemplateError
from executions.store import StoredExecution

MAX_TEMPLATES: Final = 1000
"""In one rendering: each is bounded, and so must be all of them together."""


class Rendering:
    """One execution as templates see it now."""

    def __init__(self, execution_id: int, extra: Mapping[str, Any], work: Mapping[str, Any] | None = None) -> None:
        """`extra` lies over everything but `workload`, `steps` and `env`.

        `work` takes the place of `work` and `context`, and fills names that nothing else has.
        Raises: `ExecutionNotFound`.
        """
        stored = store.read_execution(execution_id)
        self._playbook = load_playbook(stored.playbook_version_id)
        self._state = stored.state()
        self._facts = _facts_of(stored)
        self._extra = extra
        self._work = work
        self._left = MAX_TEMPLATES

    @property
    def names(self) -> list[str]:
        """The names that a template may use, sorted."""
        root = self._state.root
        steps = {step.name for step in self._playbook.steps if root.has_result(self._index(step.name))}
        own = {"workload", "work", "context", "steps", "env", "job", "execution_id"}
        return sorted({*own, *self._facts.workload, *steps, *self._extra, *(self._work or ())})

    def render(self, template: Any) -> Any:
        """A text, list or map with every template in it rendered. Raises: `TemplateError`, `LogInconsistent`."""
        self._left -= _count_templates(template)
        if self._left < 0:
            raise TemplateError("", f"there are more than {MAX_TEMPLATES} templates")
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
        seen = Sight(self._playbook, self._state, self._facts).survey(self._extra)
        work = self._work
        if work is None:
            return seen

        def find(name: str) -> Any:
            if name in ("work", "context") and name not in self._extra:
                return work
            found = seen(name)
            return work.get(name, MISSING) if found is MISSING else found

        return find

    def _index(self, step: str) -> int:
        return self._playbook.index_by_name[step]


def _count_templates(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_count_templates, value.values()))
    if isinstance(value, list):
        return sum(map(_count_templates, value))
    return int(isinstance(value, str) and is_template(value))


def _facts_of(stored: StoredExecution) -> Facts:
    return Facts(
        execution_id=str(stored.id),
        recorded_at=stored.now.isoformat(),
        workload=stored.workload,
        env=settings.NOETL_TEMPLATE_ENV_VALUES,
    )
