"""What a parent is given of a child that has completed: its result, or what the parent's step asks for."""

from __future__ import annotations

from typing import Any

from catalog.domain.playbook import Playbook
from catalog.domain.template_syntax import is_template
from executions.domain import events as ev
from executions.domain.facts import Facts
from executions.domain.results import StepResult
from executions.domain.sight import Sight
from executions.domain.state import State
from executions.domain.templating import Lookup
from executions.domain.wanted import MissingFacts, Wanted
from executions.errors import TemplateError


def answer_of(playbook: Playbook, state: State, facts: Facts, result: Any, asked: str | None) -> Any:
    """The answer of a child that completed with `result`.

    `asked` is a step of the child, or a template over its final context; None: its result, else that of the step that
    ended last and gave one. A step that has not run gives null. Raises: `TemplateError`, `MissingFacts`.
    """
    sight = Sight(playbook, state, facts)
    lookup = sight.survey({})
    if asked is not None and asked in playbook.index_by_name:
        return _data_of(asked, lookup)
    if asked is not None and not is_template(asked):
        raise TemplateError(asked, f"{playbook.path} has no step of this name")
    if asked is not None:
        return sight.render(asked, lookup)
    if result is not None:
        return result
    if facts.completed is None:
        raise MissingFacts(Wanted(completed=True))
    told = {step.name for step in playbook.steps if step.notice is not None}
    ended = (ev.parse_node_id(node_id).step for node_id in reversed(facts.completed))
    names = dict.fromkeys(name for name in ended if name not in told)
    return next((data for name in names if (data := _data_of(name, lookup)) is not None), None)


def _data_of(name: str, lookup: Lookup) -> Any:
    found = lookup(name)
    return found.data if isinstance(found, StepResult) else None
