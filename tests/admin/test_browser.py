"""The admin and the page of the REST API in a real browser: the Content-Security-Policy breaks nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.harness.browser import launching
from tests.harness.server import PASSWORD, BusServer
from tests.rest.conftest import Rest

pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.needs("chromium")]


@pytest.fixture
def complaints() -> list[str]:
    """What the browser had to say: errors of scripts, of the policy, of loading."""
    return []


@pytest.fixture
def tab(complaints: list[str]) -> Iterator[Page]:
    """A tab of a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launching())
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "requestfailed",
            lambda request: (
                complaints.append(f"{request.url}: {request.failure}")
                if "ERR_ABORTED" not in str(request.failure)
                else None
            ),
        )  # the next page came first
        page.on("request", lambda request: complaints.append(request.url) if "127.0.0.1" not in request.url else None)
        yield page
        browser.close()


def test_every_page_of_the_admin_works_under_the_policy(
    shared_server: BusServer, superuser: str, tab: Page, complaints: list[str], fresh_room: str
) -> None:
    rest = Rest(shared_server)
    rest.ok("POST", f"channels/{fresh_room}:a/messages", {"message": "<img src=x onerror=alert(1)>"})
    rest.client.close()
    tab.goto(f"{shared_server.http_url}/admin/")
    tab.fill("#id_username", superuser)
    tab.fill("#id_password", PASSWORD)
    tab.click("input[type=submit]")
    tab.wait_for_url("**/admin/")
    complaints.clear()  # the browser asks every site for a /favicon.ico
    for path in (
        "room/", "room/add/", "channel/", "channel/add/", "client/", "message/", "accesstoken/", "accesstoken/add/",
        "grant/", "grant/add/", "node/", "auditentry/",
    ):  # fmt: skip
        tab.goto(f"{shared_server.http_url}/admin/bus/{path}")
        assert tab.locator("#content h1").count() == 1, path
    # From the list of rooms by its links to the message, and by the box of a filter to the same.
    tab.goto(f"{shared_server.http_url}/admin/bus/room/?q={fresh_room}")
    tab.click("#result_list td.field-message_count a")
    tab.click("#result_list tbody th a")
    assert "<img src=x onerror=alert(1)>" in tab.locator(".field-frame_text pre").inner_text()
    tab.goto(f"{shared_server.http_url}/admin/bus/message/")
    tab.fill(".bus-input-filter input[name=room]", fresh_room)
    tab.press(".bus-input-filter input[name=room]", "Enter")
    tab.wait_for_url(f"**room={fresh_room}**")
    assert tab.locator("#result_list tbody tr").count() == 1
    assert complaints == []


FOLLOW = """
(path) => new Promise((resolve) => {
  const events = new EventSource(path);
  const seen = [];
  events.addEventListener("subscribed", (event) => seen.push(JSON.parse(event.data).recovered));
  events.onmessage = (event) => {
    seen.push(JSON.parse(event.data).message);
    if (seen.length === 3) { events.close(); resolve(seen); }
  };
})
"""


def test_a_page_follows_a_private_channel_with_the_session_of_its_user(
    shared_server: BusServer, superuser: str, tab: Page, complaints: list[str], fresh_room: str
) -> None:
    rest = Rest(shared_server, shared_server.create_token(fresh_room, admin=True))
    rest.ok("POST", "rooms", {"room": fresh_room, "private": True})
    batch = {"messages": [{"channel": f"{fresh_room}:a", "message": text} for text in ("one", "two")]}
    rest.ok("POST", "messages", batch)
    rest.client.close()
    tab.goto(f"{shared_server.http_url}/admin/")
    tab.fill("#id_username", superuser)
    tab.fill("#id_password", PASSWORD)
    tab.click("input[type=submit]")
    tab.wait_for_url("**/admin/")
    complaints.clear()
    seen = tab.evaluate(FOLLOW, f"/api/v1/channels/{fresh_room}:a/events?since=0")
    assert seen == [True, "one", "two"]
    assert complaints == []


def test_the_page_of_the_api_works_under_the_policy_and_without_other_hosts(
    shared_server: BusServer, tab: Page, complaints: list[str]
) -> None:
    tab.goto(f"{shared_server.http_url}/api/docs/")
    operation = tab.locator("#operations-server-stats_get")
    operation.locator("button.opblock-summary-control").click()
    operation.locator("button.try-out__btn").click()
    operation.locator("button.execute").click()
    operation.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
    assert complaints == []
