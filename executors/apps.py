"""The worker's side as a Django app."""

from django.apps import AppConfig


class ExecutorsConfig(AppConfig):
    """Action kinds, workers, credentials."""

    name = "executors"

    def ready(self) -> None:
        """Let Celery carry the nudges of every process, and keep its keys from the code that steps bring along."""
        from executions.api import Nudge, carry_with
        from executors.broker import carry
        from executors.sandbox.linux import hide_from_others
        from queueing.api import tell_of_admitted

        carry_with(carry)
        tell_of_admitted(lambda pools: carry(Nudge(new_jobs=pools)))
        hide_from_others()
