"""What a parent is given of a child that has completed: its result, or what the parent's step asks for."""

from __future__ import annotations

from typing import Any

from catalog.domain.playbook import Playbook
from catalog.domain.template_syntax import is_template
from executions.domain.facts import Facts
from executions.domain.results import MISSING, StepResult
from executions.domain.sight import Sight
from executions.domain.state import State


def answer_of(playbook: Playbook, state: State, facts: Facts, result: Any, answer: str | None) -> Any:
    """The child's answer. `answer` is a step of the child, or a template over its final context; None: its `result`.

    A step that has not run answers null. Raises: `TemplateError`, `MissingFacts`.
    """
    if answer is None:
        return result
    sight = Sight(playbook, state, facts)
    lookup = sight.survey({"result": result})
    if is_template(answer):
        return sight.render(answer, lookup)
    found = lookup(answer) if answer in playbook.index_by_name else MISSING
    return found.data if isinstance(found, StepResult) else None
