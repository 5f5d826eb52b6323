"""The broker evaluator as a Celery task, chained after each job whose report did not evaluate by itself."""

from __future__ import annotations

from celery import shared_task

from executions import services


@shared_task(name="executions.tasks.evaluate_execution", ignore_result=True)
def evaluate_execution(execution_id: int, *, wait: bool = False) -> None:
    """Plan what follows from the events of an execution; harmless when doubled, late or for nothing.

    `wait`: a child of it has ended, which whoever holds it does not know.
    """
    services.evaluate_execution(execution_id, wait=wait)
