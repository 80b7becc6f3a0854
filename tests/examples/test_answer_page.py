"""The page of one file that shows, stops and steers answers, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from arqonbus import sync
from tests.conftest import StartServer
from tests.harness.browser import expect_sync as expect
from tests.harness.browser import launching
from tests.harness.pages import served
from tests.harness.processes import PROJECT_ROOT
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.embedded]


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of the system's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launching())
        yield browser.new_page()
        browser.close()


def test_the_page_shows_steers_and_stops_an_answer(start_server: StartServer, page: Page, fresh_room: str) -> None:
    server = start_server(env={"DEBUG": "1"})
    folder = PROJECT_ROOT / "examples" / "answer_page"
    with served(folder) as url, sync.connect(server.url) as bus, bus.stream(f"{fresh_room}:answers") as out:
        out.write("Once upon ")
        out.flush()
        page.goto(f"{url}?bus={server.url}&address={fresh_room}:answers")
        answer = page.locator("li").first
        expect(answer.locator("span")).to_have_text("Once upon ")
        out.write("a time")
        expect(answer.locator("span")).to_have_text("Once upon a time")

        page.get_by_label("Steer").fill("shorter, please")
        page.get_by_role("button", name="Steer").click()
        steer = wait_until(out.waiting_steers, "the owner gets the steer")[0]
        assert steer.text == "shorter, please"
        steer.took()
        expect(page.locator("li").last).to_have_text("shorter, please")

        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("button", name="Stopping …")).to_be_disabled()
        wait_until(lambda: bool(out.stop_requested), "the owner is asked to stop")
    expect(answer).to_have_attribute("data-state", "stopped")
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.locator("#problem")).to_be_empty()
