"""The REST API in a browser: pages for who asks for HTML, under the site's policy, with CSRF; JSON for everybody else."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from tests.admin.test_browser import complaints, tab
from tests.harness.server import PASSWORD, BusServer
from tests.rest.conftest import Rest, lately

__all__ = ["complaints", "tab"]

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}


def test_html_is_for_who_asks_for_it_and_json_for_everybody_else(alice: Rest, admin: Rest, fresh_room: str) -> None:
    path = f"channels/{fresh_room}:a/messages"
    alice.ok("POST", path, {"message": "<script>alert(1)</script>", "payload": {"at": "https://example.org/"}})
    for accept in ("*/*", "application/json", "application/json, */*;q=0.1", ""):
        answer = alice("GET", path, headers={"Accept": accept})
        assert answer.headers["Content-Type"] == "application/json", accept
    for where, status in (
        ("", 200), ("rooms", 200), ("rooms/", 200), (path, 200), (f"{path}/1", 200), ("me", 200), ("stats", 200),
        (f"channels/{fresh_room}:a", 200), ("grants", 403), ("rooms/no-such-room", 404), ("channels?limit=x", 400),
    ):  # fmt: skip
        answer = alice("GET", where, headers=BROWSER)
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8"), where
        # Django 6 and django-csp leave the policy out of 404 in development, for the sake of Django's own error page.
        assert status == 404 or "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "<script>alert" not in answer.text
        assert not re.search(r"<script(?![^>]*(src=|application/json))|<style| on\w+=", answer.text), where
        assert "Accept" in answer.headers["Vary"]
    wrong = alice("GET", "me", headers={**BROWSER, "Authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.headers["Content-Type"]) == (401, "text/html; charset=utf-8")


def test_the_beginning_lists_addresses_that_are_there(admin: Rest) -> None:
    for spelling in ("", "/"):
        found = admin.client.get(f"{str(admin.client.base_url).rstrip('/')}{spelling}").json()
        assert len(found) >= 12
        for name, url in found.items():
            asked = {"after": lately()} if name == "messages" else {}
            assert admin.client.get(url, params=asked).status_code in ((405,) if name == "tickets" else (200,)), name


@pytest.mark.browser
@pytest.mark.embedded
@pytest.mark.needs("chromium")
def test_rooms_are_made_changed_and_deleted_on_the_pages_by_session_and_csrf(
    shared_server: BusServer, superuser: str, tab: Page, complaints: list[str], fresh_room: str
) -> None:
    root = f"{shared_server.http_url}/api/v1"
    tab.goto(f"{shared_server.http_url}/admin/login/?next=/admin/")
    tab.fill("#id_username", superuser)
    tab.fill("#id_password", PASSWORD)
    tab.click("input[type=submit]")
    tab.wait_for_url("**/admin/")
    complaints.clear()  # the browser asks every site for a /favicon.ico
    tab.goto(root)
    tab.click(f"text={root}/rooms")
    tab.wait_for_url("**/rooms")
    tab.fill("textarea[name=_content]", f'{{"room": "{fresh_room}"}}')
    tab.click("button:has-text('POST')")
    tab.wait_for_selector("text=HTTP 201 Created")
    tab.goto(f"{root}/rooms/{fresh_room}")
    tab.fill("textarea[name=_content]", '{"description": "changed here"}')
    tab.click("button:has-text('PATCH')")
    tab.wait_for_selector("pre:has-text('changed here')")
    # A form of another page has no token, with all of the visitor's cookies.
    forged = tab.request.post(
        f"{root}/rooms", data='{"room": "forged"}', headers={"Content-Type": "application/json", "Accept": "*/*"}
    )
    assert forged.status == 403
    tab.goto(f"{root}/rooms/{fresh_room}")
    tab.click("button:has-text('DELETE')")
    tab.click("#deleteModal button:has-text('Delete')")
    tab.wait_for_selector("text=HTTP 204 No Content")
    assert complaints == []
