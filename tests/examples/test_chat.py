"""The chat page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.conftest import StartServer
from tests.harness.browser import expect_sync as expect
from tests.harness.browser import launching
from tests.harness.pages import served
from tests.harness.processes import PROJECT_ROOT
from tests.harness.waiting import free_port

pytestmark = [pytest.mark.browser, pytest.mark.embedded]


@pytest.fixture
def page_url() -> Iterator[str]:
    """Where the page is served, as its README says."""
    with served(PROJECT_ROOT / "examples" / "chat") as url:
        yield url


@pytest.fixture
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launching())
        yield browser
        browser.close()


def test_without_a_bus_the_page_says_so(page_url: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{page_url}?name=Ada&bus=ws://127.0.0.1:{free_port()}/")
    expect(page.locator("#state")).to_contain_text("There is no bus at ws://127.0.0.1:")


def test_who_is_faster_than_the_page_stays_on_it(
    start_server: StartServer, page_url: str, browser: Browser, fresh_room: str
) -> None:
    """A form that is not taken over yet would be sent by the browser, and the text would be lost with the page."""
    server = start_server(env={"DEBUG": "1"})
    page = browser.new_page()
    held: list[Route] = []
    page.route("**/arqonbus.js", lambda route: held.append(route))
    address = f"{page_url}?name=Ada&bus={server.url}&address={fresh_room}:chat"
    with page.expect_request("**/arqonbus.js"):
        page.goto(address)
    expect(page.locator("#text")).to_be_disabled()
    page.evaluate("document.getElementById('say').requestSubmit()")
    expect(page).to_have_url(address)
    held.pop().continue_()
    expect(page.locator("#state")).to_have_text("connected")
    page.fill("#text", "hello")
    page.press("#text", "Enter")
    expect(page.locator("li.message")).to_have_text(["Adahello"])


def test_people_talk_and_go_on_over_a_restart_of_the_server(
    start_server: StartServer, page_url: str, browser: Browser, fresh_room: str
) -> None:
    server = start_server(env={"DEBUG": "1", "ARQONBUS_RETRY_SPREAD": "0.1"})

    def open_as(name: str) -> Page:
        page = browser.new_context().new_page()
        page.goto(f"{page_url}?name={name}&bus={server.url}&address={fresh_room}:chat")
        expect(page.locator("#state")).to_have_text("connected")
        return page

    def say(page: Page, text: str) -> None:
        page.fill("#text", text)
        page.press("#text", "Enter")

    ada = open_as("Ada")
    say(ada, "hello")
    bob = open_as("Bob")
    expect(bob.locator("li.message")).to_have_text(["Adahello"])  # what was said before he came
    expect(ada.locator("#who")).to_have_text("2 here: Ada, Bob")
    say(bob, "<img src=x onerror=document.title='broken'>")
    expect(ada.locator("li.message")).to_have_count(2)
    expect(ada.locator("li.message").last).to_have_text("Bob<img src=x onerror=document.title='broken'>")

    server.kill()
    expect(ada.locator("#state")).to_have_text("reconnecting")
    say(ada, "anybody there?")
    server.start()
    expect(ada.locator("#state")).to_have_text("connected")
    expect(bob.locator("li.message").last).to_have_text("Adaanybody there?")
    say(bob, "yes")
    for page in (ada, bob):
        expect(page.locator("li.message")).to_have_count(4)
        expect(page.locator("li.message").last).to_have_text("Bobyes")
        assert page.title() == "Chat on ArqonBus"
    expect(ada.locator("#who")).to_contain_text("2 here")
