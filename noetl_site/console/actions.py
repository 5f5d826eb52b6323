"""What an operator may do in the console: each action asks first, then calls the service that everybody calls.

An action is seen and answered only with its Django permission; a GET shows the question and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin import action as list_action
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import capfirst
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from executions.api import ExecutionError, cancel_execution, release_lease, requeue_dead_job
from queueing.api import QueueError

CANCEL_PERMISSION: Final = "executions.cancel_execution"
REPAIR_PERMISSION: Final = "queueing.repair_job"


class QuestionForm(BaseDialogForm):  # type: ignore[misc]  # unfold has no types
    """A question whose answer is yes."""

    def given_reason(self) -> str:
        """What the operator gave as the reason; empty when it is not asked for."""
        return str(self.cleaned_data.get("reason", ""))


class ReasonForm(QuestionForm):
    """A question that wants a reason, too."""

    reason = forms.CharField(max_length=500, widget=UnfoldAdminTextInputWidget)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be done to a row.

    `run` takes the row's id, who asks, and the reason; it gives False when there was nothing to do.
    """

    question: str
    explanation: str
    run: Callable[[int, str, str], bool]
    done: str
    nothing: str
    statuses: frozenset[str]
    """In which it is offered on the row's page."""
    form: type[QuestionForm] = QuestionForm

    def dialog(self, submit: str) -> dict[str, Any]:
        """The question as Unfold asks it on a row's page."""
        return {
            "title": self.question,
            "description": self.explanation,
            "form_class": self.form,
            "form_submit_text": submit,
        }


CANCEL: Final = Operation(
    question="Cancel this execution?",
    explanation="Waiting jobs are called off and running ones are asked to stop. A cancelled execution cannot go on.",
    run=lambda id_, user, reason: cancel_execution(id_, reason, user),
    done="cancelled",
    nothing="had ended already",
    statuses=frozenset({"pending", "running", "paused"}),
    form=ReasonForm,
)
RELEASE: Final = Operation(
    question="Take this job back from its worker?",
    explanation="The job waits for another worker and nothing is counted against it. "
    "Whatever the worker still reports is refused as lease_lost.",
    run=lambda id_, user, reason: release_lease(id_, user),
    done="taken back",
    nothing="was not leased any more",
    statuses=frozenset({"leased"}),
)
REQUEUE: Final = Operation(
    question="Queue this dead job again?",
    explanation="Its lost leases are forgotten and workers may take it again.",
    run=lambda id_, user, reason: requeue_dead_job(id_, user),
    done="queued again",
    nothing="was not dead any more",
    statuses=frozenset({"dead"}),
)


class Operates(ModelAdmin):  # type: ignore[type-arg]  # generic in its stubs only
    """A page with operations: on the chosen rows of its list and on one row's page."""

    operations: Mapping[str, Operation] = {}
    """By the name of the action on a row's page."""
    list_disable_select_all = True

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """As Unfold's; only what the row's status allows."""
        offered: list[UnfoldAction] = super().get_actions_detail(request, object_id)  # type: ignore[misc]  # Unfold's
        row: Any = self.get_object(request, object_id) if offered else None
        return [each for each in offered if row is not None and row.status in self.operations[each.path].statuses]

    def answer_one(self, request: HttpRequest, form: QuestionForm, object_id: str, name: str) -> HttpResponse:
        """Do it to one row and show its page again. Raises: `Http404`."""
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        self._do(request, [row], self.operations[name], form.given_reason())
        page = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk])
        return HttpResponse(headers={"HX-Redirect": page})

    def ask_or_do(self, request: HttpRequest, rows: QuerySet[Any], name: str) -> HttpResponse | None:
        """Ask about the rows that were ticked; when that is answered, do it to each."""
        operation = self.operations[name]
        ticked = rows.filter(pk__in=request.POST.getlist(ACTION_CHECKBOX_NAME))
        form = operation.form(data=request.POST if "_form_submitted" in request.POST else None, request=request)
        if form.is_valid():
            self._do(request, list(ticked), operation, form.given_reason())
            return None
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": operation.question.replace("this", "each chosen"),
            "explanation": operation.explanation,
            "rows": [(row.pk, capfirst(str(row))) for row in ticked],
            "form": form,
            "action": request.POST["action"],
            "checkbox": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "console/confirm.html", context)

    def _do(self, request: HttpRequest, rows: list[Model], operation: Operation, reason: str) -> None:
        """Do it row by row, tell what became of each, and keep who did it in the console's log."""
        for row in rows:
            try:
                done = operation.run(row.pk, request.user.get_username(), reason)
            except (ExecutionError, QueueError) as error:
                messages.error(request, str(error))
                continue
            if done:
                self.log_change(request, row, f"{operation.done}: {reason}" if reason else operation.done)
                messages.success(request, f"{capfirst(str(row))} is {operation.done}.")
            else:
                messages.warning(request, f"{capfirst(str(row))} {operation.nothing}.")


class CancelsExecutions(Operates):
    """Executions can be cancelled."""

    operations = {"cancel": CANCEL}
    actions = ("cancel_chosen",)
    actions_detail = ("cancel",)

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may cancel."""
        return request.user.has_perm(CANCEL_PERMISSION)

    @list_action(description="Cancel the chosen executions", permissions=["cancel"])
    def cancel_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Ask, then cancel each."""
        return self.ask_or_do(request, queryset, "cancel")

    @action(
        description="Cancel execution",
        url_path="cancel",
        icon="cancel",
        variant=ActionVariant.DANGER,
        permissions=["view", "cancel"],
        dialog=CANCEL.dialog("Yes, cancel the execution"),
    )
    def cancel(self, request: HttpRequest, form: QuestionForm, object_id: str) -> HttpResponse:
        """Ask, then cancel this one."""
        return self.answer_one(request, form, object_id, "cancel")


class RepairsJobs(Operates):
    """Leases can be released, and dead jobs queued again."""

    operations = {"release": RELEASE, "requeue": REQUEUE}
    actions = ("release_chosen", "requeue_chosen")
    actions_detail = ("release", "requeue")

    def has_repair_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may repair."""
        return request.user.has_perm(REPAIR_PERMISSION)

    @list_action(description="Release the leases of the chosen jobs", permissions=["repair"])
    def release_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Ask, then take each back."""
        return self.ask_or_do(request, queryset, "release")

    @list_action(description="Queue the chosen dead jobs again", permissions=["repair"])
    def requeue_chosen(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Ask, then queue each again."""
        return self.ask_or_do(request, queryset, "requeue")

    @action(
        description="Release lease",
        url_path="release",
        icon="undo",
        variant=ActionVariant.DANGER,
        permissions=["view", "repair"],
        dialog=RELEASE.dialog("Yes, take it back"),
    )
    def release(self, request: HttpRequest, form: QuestionForm, object_id: str) -> HttpResponse:
        """Ask, then take this one back."""
        return self.answer_one(request, form, object_id, "release")

    @action(
        description="Queue again",
        url_path="requeue",
        icon="replay",
        variant=ActionVariant.PRIMARY,
        permissions=["view", "repair"],
        dialog=REQUEUE.dialog("Yes, queue it again"),
    )
    def requeue(self, request: HttpRequest, form: QuestionForm, object_id: str) -> HttpResponse:
        """Ask, then queue this one again."""
        return self.answer_one(request, form, object_id, "requeue")
