"""The queue as a Django app."""

from django.apps import AppConfig


class QueueingConfig(AppConfig):
    """Jobs and their leases."""

    name = "queueing"
    verbose_name = "Queue"
