"""The worker side's door: what the site may call."""

from __future__ import annotations

from executors.broker import broker_answers
from executors.credentials.store import CredentialSummary, delete_credential, list_credentials
from executors.durability import find_lossy_settings
from executors.errors import CredentialInvalid, CredentialNotFound, CredentialUnreadable, ExecutorError
from executors.models import Runtime
from executors.registry import argument_schemas, find_kinds
from executors.services import save_credential
from executors.worker.drain import StopEvent, have_own_word
from executors.worker.presence import Component, Presence, find_live, find_unserved_pools

__all__ = [
    "Component",
    "CredentialInvalid",
    "CredentialNotFound",
    "CredentialSummary",
    "CredentialUnreadable",
    "ExecutorError",
    "Presence",
    "Runtime",
    "StopEvent",
    "argument_schemas",
    "broker_answers",
    "delete_credential",
    "find_kinds",
    "find_live",
    "find_lossy_settings",
    "find_unserved_pools",
    "have_own_word",
    "list_credentials",
    "save_credential",
]
