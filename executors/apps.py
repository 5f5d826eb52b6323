"""The worker's side as a Django app."""

from django.apps import AppConfig


class ExecutorsConfig(AppConfig):
    """Action kinds, workers, credentials."""

    name = "executors"

    def ready(self) -> None:
        """Let Celery carry the nudges of every process."""
        from executions.api import carry_with
        from executors.broker import carry

        carry_with(carry)
