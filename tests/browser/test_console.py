"""The console as its users see it: every page in a real browser, and the ways between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.browser import CHROMIUM, Visitor, open_browser, pictures_folder
from tests.support.inspection import query, run_json, wait_for
from tests.support.platform import Platform, running_platform, temporary_data_dir

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason="no Chromium: `make browser`, or install it as chromium"
)

FAILING = """
apiVersion: noetl.io/v1
kind: Playbook
name: orders
path: shop/orders
workload: {orders: [3, 1, 0, 2]}
workflow:
  - step: start
    next: note
  - step: share
    type: python
    loop: {in: "{{ workload.orders }}", iterator: order}
    with: {order: "{{ order }}"}
    code: "def main(order): return 12 / order"
    next: end
  - step: note
    type: python
    code: |
      def main():
          return {"text": "<script>alert('not run')</script>", "long": "word " * 200}
    next: share
  - step: end
    result: {shares: "{{ share.results }}"}
"""

SLOW = """
apiVersion: noetl.io/v1
kind: Playbook
name: slow
path: shop/slow
workflow:
  - step: start
    next: wait
  - step: wait
    type: python
    code: |
      import time
      def main():
          time.sleep(600)
    next: end
  - step: end
"""

LISTS = {
    "playbooks": "catalog/playbookversion",
    "executions": "executions/execution",
    "events": "executions/eventlog",
    "jobs": "queueing/job",
    "leases": "queueing/leasehistory",
    "workers": "executors/runtime",
    "credentials": "executors/credential",
    "users": "auth/user",
    "groups": "auth/group",
}


@pytest.fixture(scope="module")
def shop() -> Iterator[Platform]:
    """A platform on which playbooks have run well, failed, and run still."""
    with temporary_data_dir() as data_dir, running_platform(data_dir, NOETL_LEASE_SECONDS="6") as platform:
        yield platform


@pytest.fixture(scope="module")
def visitor(shop: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """The administrator, logged in."""
    pictures = pictures_folder(tmp_path_factory.mktemp("screenshots"))
    with open_browser() as browser:
        visitor = Visitor(browser.new_page(), shop.ready["url"].rstrip("/"), pictures)
        visitor.watch()
        visitor.visit("/admin/", "login")
        visitor.page.get_by_label("Username").fill(shop.ready["admin"]["username"])
        visitor.page.get_by_label("Password").fill(shop.ready["admin"]["password"])
        visitor.page.get_by_role("button", name="Log in").click()
        expect(visitor.page.get_by_text("Nothing has run yet")).to_be_visible()
        visitor.shoot("overview-empty")
        for name, address in LISTS.items():
            visitor.visit(f"/admin/{address}/", f"{name}-empty")
        yield visitor


@pytest.fixture(scope="module")
def executions(shop: Platform, visitor: Visitor) -> dict[str, str]:
    """Ids of executions: one completed, one failed, one running."""
    for name, text in (("orders", FAILING), ("slow", SLOW)):
        (shop.data_dir / f"{name}.yaml").write_text(text)
    ids = {"completed": run_json(shop, "examples/hello.yaml", "--wait")["execution_id"]}
    ids["failed"] = run_json(shop, str(shop.data_dir / "orders.yaml"), "--wait", check=False)["execution_id"]
    ids["running"] = run_json(shop, str(shop.data_dir / "slow.yaml"))["execution_id"]
    wait_for(lambda: query(shop, "SELECT 1 FROM queue WHERE status = 'leased'"))
    return ids


@pytest.fixture(autouse=True)
def no_faults(visitor: Visitor) -> Iterator[None]:
    """No page of a test has an error, asks another host, or is refused."""
    visitor.faults.clear()
    yield
    assert visitor.faults == []


def first_row(shop: Platform, table: str, key: str, where: str = "true") -> Any:
    [(found,)] = query(shop, f"SELECT {key} FROM {table} WHERE {where} ORDER BY {key} DESC LIMIT 1")
    return found


def test_every_list_and_every_page_is_shown(shop: Platform, visitor: Visitor, executions: dict[str, str]) -> None:
    page = visitor.page
    visitor.visit("/admin/", "overview")
    expect(page.get_by_role("link", name=executions["failed"])).to_be_visible()
    for name, address in LISTS.items():
        visitor.visit(f"/admin/{address}/", name)
        expect(page.get_by_text("Nothing matches")).to_have_count(0)
    for status, execution_id in executions.items():
        visitor.visit(f"/admin/executions/execution/{execution_id}/change/", f"execution-{status}")
        expect(page.locator(".console-summary")).to_contain_text(status)
    visitor.visit("/admin/executions/eventlog/")
    page.get_by_text("Filters").first.click()
    expect(page.get_by_text("The last 24 hours")).to_be_visible()
    visitor.shoot("events-filters")
    rows = {
        "playbook": ("catalog/playbookversion", first_row(shop, "catalog", "id")),
        "event": ("executions/eventlog", first_row(shop, "event_log", "event_id", "event_type = 'action_error'")),
        "event-result": (
            "executions/eventlog",
            first_row(shop, "event_log", "event_id", "node_name = 'note' AND event_type = 'action_completed'"),
        ),
        "job-leased": ("queueing/job", first_row(shop, "queue", "id", "status = 'leased'")),
        "job-done": ("queueing/job", first_row(shop, "queue", "id", "status = 'done'")),
        "lease": ("queueing/leasehistory", first_row(shop, "lease_history", "id")),
        "worker": ("executors/runtime", first_row(shop, "runtime", "runtime_id")),
        "credential": ("executors/credential", first_row(shop, "credential", "id")),
        "user": ("auth/user", 1),
    }
    for name, (address, key) in rows.items():
        visitor.visit(f"/admin/{address}/{key}/change/", name)


def test_from_a_playbook_to_a_lease_by_links(visitor: Visitor, executions: dict[str, str]) -> None:
    page = visitor.page
    visitor.visit("/admin/catalog/playbookversion/")
    page.get_by_role("link", name="shop/orders").click()
    expect(page.get_by_text("def main(order): return 12 / order").first).to_be_visible()
    page.get_by_role("link", name=executions["failed"]).click()
    expect(page.locator(".console-summary")).to_contain_text("Step share failed: 1 of 4 items failed")
    expect(page.locator(".console-summary")).to_contain_text("division by zero")
    page.get_by_role("link", name="share:2").first.click()
    expect(page.get_by_role("heading", name="Leases")).to_be_visible()
    page.get_by_role("link", name="1", exact=True).click()
    expect(page).to_have_url(re.compile("/leasehistory/"))
    page.get_by_role("link", name=executions["failed"], exact=True).click()
    page.get_by_role("link", name="All events of this execution").click()
    expect(page.get_by_role("link", name="1", exact=True)).to_be_visible()
    visitor.shoot("events-of-execution")


def test_what_a_step_gives_is_text_and_never_runs(visitor: Visitor, executions: dict[str, str], shop: Platform) -> None:
    where = "node_name = 'note' AND event_type = 'action_completed'"
    visitor.visit(f"/admin/executions/eventlog/{first_row(shop, 'event_log', 'event_id', where)}/change/")
    expect(visitor.page.get_by_text("<script>alert('not run')</script>")).to_be_visible()


def test_a_lease_is_released_and_the_execution_cancelled_by_buttons(
    visitor: Visitor, executions: dict[str, str], shop: Platform
) -> None:
    page = visitor.page
    job_id = first_row(shop, "queue", "id", "status = 'leased'")
    visitor.visit(f"/admin/queueing/job/{job_id}/change/")
    page.get_by_role("link", name="Release lease").click()
    expect(page.get_by_role("heading", name="Take this job back from its worker?")).to_be_visible()
    visitor.shoot("release-question")
    page.get_by_role("button", name="Yes, take it back").click()
    expect(page.get_by_text("is taken back")).to_be_visible()
    visitor.shoot("job-released")

    visitor.visit(f"/admin/executions/execution/{executions['running']}/change/")
    page.get_by_role("link", name="Cancel execution").click()
    page.get_by_role("button", name="Yes, cancel the execution").click()
    expect(page.get_by_text("This field is required")).to_be_visible()
    page.get_by_label("Reason").fill("enough of it")
    visitor.shoot("cancel-question")
    page.get_by_role("button", name="Yes, cancel the execution").click()
    expect(page.locator(".console-summary")).to_contain_text("cancelled")
    expect(page.get_by_role("link", name="Cancel execution")).to_have_count(0)
    visitor.shoot("execution-cancelled")
    meta = query(shop, "SELECT meta FROM event_log WHERE event_type = 'execution_cancelled'")
    assert meta == [({"reason": "enough of it", "by": shop.ready["admin"]["username"]},)]


def test_chosen_executions_are_cancelled_after_a_question(
    visitor: Visitor, executions: dict[str, str], shop: Platform
) -> None:
    page = visitor.page
    another = run_json(shop, str(shop.data_dir / "slow.yaml"))["execution_id"]
    visitor.visit("/admin/executions/execution/")
    page.locator("tr", has_text=another).get_by_role("checkbox").check()
    page.locator("select[name=action]").select_option("cancel_chosen")
    visitor.shoot("executions-chosen")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Cancel each chosen execution?").first).to_be_visible()
    visitor.shoot("cancel-chosen")
    page.get_by_label("Reason").fill("no more")
    page.get_by_role("button", name="Yes, do it").click()
    expect(page.locator("tr", has_text=another)).to_contain_text("cancelled")
