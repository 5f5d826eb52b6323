"""Action kinds whose work is a function of the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.conf import UserSettingsHolder, settings

from executors import contract
from executors.contract import ActionContext, ActionFailed, ActionKind, ActionRequest

Work = Callable[[ActionRequest, ActionContext], Any]


class FakeArguments(contract.Arguments):
    code: str = ""


class FakeKind(ActionKind):
    """`python`, as the test does it."""

    name: ClassVar[str] = "python"
    Arguments: ClassVar[type[contract.Arguments]] = FakeArguments

    def __init__(self, work: Work) -> None:
        self._work = work

    def run(self, request: ActionRequest, context: ActionContext) -> Any:
        return self._work(request, context)


def kinds(work: Work) -> Mapping[str, ActionKind]:
    return {"python": FakeKind(work)}


def until_cancelled(request: ActionRequest, context: ActionContext) -> Any:
    """An action that ends only when it is told to stop."""
    assert context.cancelled.wait(30), "nobody told it to stop"
    raise ActionFailed("cancelled", "told to stop")


def settings_with(**others: Any) -> Any:
    """The settings with some of them replaced, to build action kinds from."""
    changed = UserSettingsHolder(settings)
    for name, value in others.items():
        setattr(changed, name, value)
    return changed
