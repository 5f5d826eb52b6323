"""The console's pages: all answer, none changes what the engine wrote."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from noetl_site.console.site import SHOWN_ONLY
from tests.support.books import CHAIN, FAN, lease, report, start

pytestmark = pytest.mark.usefixtures("fresh_db")

PAGES = [model for model in admin.site._registry if model._meta.app_label in SHOWN_ONLY]


@pytest.fixture
def console() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss", password="x"))
    return client


def test_every_table_of_the_platform_has_a_page() -> None:
    names = {model._meta.db_table for model in PAGES}
    assert names == {"catalog", "execution", "event_log", "queue", "lease_history", "runtime", "credential"}


@pytest.mark.parametrize("model", PAGES)
def test_lists_and_pages_answer_and_change_nothing(model: type, console: Client) -> None:
    from executors.models import Credential, Runtime

    start(CHAIN)
    start(FAN)
    for job in lease(count=3):
        report(job, {"n": 1})
    Runtime.objects.create(name="w", component_type="worker_pool")
    Credential.objects.create(name="c", type="postgres", data_encrypted="cipher-text")
    meta = model._meta  # type: ignore[attr-defined]  # every model has one
    stem = f"admin:{meta.app_label}_{meta.model_name}"
    row = model.objects.first()  # type: ignore[attr-defined]  # the same
    for address in (reverse(f"{stem}_changelist"), reverse(f"{stem}_change", args=[row.pk])):
        shown = console.get(address)
        assert shown.status_code == 200, address
        assert b"cipher-text" not in shown.content
    assert console.get(reverse(f"{stem}_add")).status_code == 403
    assert console.post(reverse(f"{stem}_change", args=[row.pk]), {"status": "x"}).status_code == 403
    assert console.post(reverse(f"{stem}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


def test_searching_answers(console: Client) -> None:
    start(CHAIN)
    for model in PAGES:
        address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for text in ("chain", "12345", "'\"; --"):
            assert console.get(address, {"q": text}).status_code == 200, (address, text)


def test_nobody_enters_without_a_login() -> None:
    for model in PAGES:
        address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        answer = Client().get(address)
        assert answer.status_code == 302
        assert "/login/" in answer["Location"]
