"""Executions as a Django app."""

from django.apps import AppConfig


class ExecutionsConfig(AppConfig):
    """What runs: executions, their events, the planner."""

    name = "executions"
