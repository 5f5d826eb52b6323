"""The catalog as a Django app."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    """What was asked: playbooks and their versions."""

    name = "catalog"
