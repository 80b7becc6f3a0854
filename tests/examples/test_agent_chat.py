"""The chat with an agent: a real page is reloaded in the middle of an answer, the server and the worker are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, sync_playwright

from tests.clients_python.conftest import CLIENT_SOURCE
from tests.harness import frameworks
from tests.harness.backends import clean_environment
from tests.harness.browser import expect_sync as expect
from tests.harness.browser import launching
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import http_request
from tests.harness.waiting import free_port, wait_until

# The project brings settings of its own: SQLite and the in-memory layer.
pytestmark = [pytest.mark.browser, pytest.mark.embedded]

CHAT = PROJECT_ROOT / "examples" / "agent_chat"
BEGIN = "This answer is one message of the bus"
END = "nothing is missing and nothing is there twice."


class Chat:
    """The project: a server and a worker, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        env = clean_environment({"CHAT_STATE": str(folder), "CHAT_PAUSE": "0.06", "PYTHONDONTWRITEBYTECODE": "1",
                                 "ARQONBUS_RETRY_SPREAD": "0.1"})  # fmt: skip
        env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], str(CLIENT_SOURCE), str(frameworks.FOLDER)])
        manage = [sys.executable, str(CHAT / "manage.py")]
        subprocess.run([*manage, "migrate", "--verbosity", "0"], cwd=CHAT, env=env, check=True, timeout=60)
        served = [*manage, "runserver", "--noreload", f"127.0.0.1:{self.port}"]
        self.server = ManagedProcess(served, log_path=folder / "server.log", env=env, cwd=CHAT)
        answering = [*manage, "answer", "--url", f"ws://127.0.0.1:{self.port}/bus/"]
        self.worker = ManagedProcess(answering, log_path=folder / "worker.log", env=env, cwd=CHAT)

    def serve(self) -> None:
        """Start the server."""
        self.server.start()
        wait_until(self._up, "the chat answers")

    def work(self) -> None:
        """Start the worker."""
        before = self.worker.log().count("listening")
        self.worker.start()
        wait_until(lambda: self.worker.log().count("listening") > before or not self.worker.alive, "the worker listens")
        assert self.worker.alive, self.worker.log()

    def _up(self) -> bool:
        assert self.server.alive, self.server.log()
        try:
            return http_request(f"{self.url}bus/ready", "GET", None)[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """The chat, with its server and its worker running."""
    made = Chat(tmp_path_factory.mktemp("chat"))
    try:
        made.worker.start()  # It waits for the server.
        made.serve()
        wait_until(lambda: "listening" in made.worker.log() or not made.worker.alive, "the worker listens")
        yield made
    finally:
        made.worker.kill()
        made.server.kill()


@pytest.fixture
def page(chat: Chat) -> Iterator[Page]:
    """The page of the chat in a real browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launching())
        shown = browser.new_page()
        shown.goto(chat.url)
        expect(shown.locator("#state")).to_have_text("connected")
        yield shown
        browser.close()
    print(chat.worker.log_tail(), chat.server.log_tail(), sep="\n")  # for the report of a failed test


def ask(page: Page, question: str) -> Locator:
    """Ask something, and wait until the answer begins to grow."""
    page.fill("#text", question)
    page.press("#text", "Enter")
    answer = page.locator("li.question", has_text=question).locator("xpath=following-sibling::li[1]")
    expect(answer).to_contain_text(BEGIN)
    expect(page.locator("#text")).to_have_value("")  # htmx sent the form, and the page stayed
    return answer


def expect_whole(answer: Locator) -> None:
    """The answer is complete, and there once."""
    expect(answer).to_have_attribute("data-state", "complete")
    text = answer.inner_text().strip()
    assert text.startswith(BEGIN), text
    assert text.endswith(END), text
    assert text.count(BEGIN) == text.count(END) == 1, text


def test_an_answer_survives_a_reload_and_the_death_of_the_server(chat: Chat, page: Page) -> None:
    answer = ask(page, "What survives?")
    chat.worker.freeze()
    page.reload()
    expect(answer).to_contain_text(BEGIN)  # what came before the reload
    expect(answer).to_have_attribute("data-state", "open")
    assert END not in answer.inner_text()

    chat.server.kill()
    chat.worker.thaw()
    chat.serve()
    expect_whole(answer)
    lines = page.locator("li").count()
    page.reload()
    expect_whole(answer)
    expect(page.locator("li")).to_have_count(lines)


def test_a_killed_worker_takes_its_answer_over(chat: Chat, page: Page) -> None:
    answer = ask(page, "And without the worker?")
    lines = page.locator("li").count()
    chat.worker.kill()
    assert END not in answer.inner_text()
    chat.work()
    expect_whole(answer)
    expect(page.locator("li")).to_have_count(lines)


def test_each_answer_has_its_own_stop_button(chat: Chat, page: Page) -> None:
    answer = ask(page, "Tell me everything")
    chat.worker.freeze()
    button = answer.get_by_role("button")
    button.click()
    expect(button).to_have_text("Stopping …")
    expect(button).to_be_disabled()
    chat.worker.thaw()
    expect(answer).to_have_attribute("data-state", "stopped")
    assert END not in answer.inner_text()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_messages_do_not_overlap_in_a_low_window(page: Page) -> None:
    expect(page.locator("li.answer").first).to_be_visible()
    page.set_viewport_size({"width": 500, "height": 300})
    heights = page.locator("li").evaluate_all("items => items.map(item => item.clientHeight - item.scrollHeight)")
    assert heights, "no messages"
    assert all(height >= 0 for height in heights), heights  # no text stands out of its bubble


def test_without_the_server_a_question_stays_and_the_page_says_why(chat: Chat, page: Page) -> None:
    chat.server.kill()
    try:
        page.fill("#text", "Is anybody there?")
        page.press("#text", "Enter")
        expect(page.get_by_role("alert")).to_contain_text("the server does not answer")
        expect(page.locator("#text")).to_have_value("Is anybody there?")
    finally:
        chat.serve()
    expect(page.locator("#state")).to_have_text("connected")
    page.press("#text", "Enter")
    expect(page.locator("#text")).to_have_value("")
    expect(page.locator("#problem")).to_be_empty()
