"""The support desk: an agent drafts, a person answers in a real browser, a handler writes the ticket, and the agent is killed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.clients_python.conftest import CLIENT_SOURCE
from tests.harness.backends import clean_environment
from tests.harness.browser import expect_sync as expect
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import http_request
from tests.harness.waiting import free_port, wait_until

# The project brings settings of its own: SQLite and the in-memory layer.
pytestmark = [pytest.mark.browser, pytest.mark.embedded]

DESK = PROJECT_ROOT / "examples" / "support_desk"
#: Where the pictures of the documentation go, when they are asked for (`make screenshots`).
PICTURES = os.environ.get("ARQONBUS_SCREENSHOTS")


class Desk:
    """The project: a server, an agent and the handlers, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.database = folder / "desk.sqlite3"
        self.env = clean_environment(
            {"DESK_STATE": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "ARQONBUS_RETRY_SPREAD": "0.1"}
        )
        self.env["PYTHONPATH"] = os.pathsep.join([self.env["PYTHONPATH"], str(CLIENT_SOURCE)])
        manage = [sys.executable, str(DESK / "manage.py")]
        subprocess.run([*manage, "set_up"], cwd=DESK, env=self.env, check=True, timeout=60)

        def process(name: str, *command: str) -> ManagedProcess:
            return ManagedProcess([*manage, *command], log_path=folder / f"{name}.log", env=self.env, cwd=DESK)

        self.server = process("server", "runserver", "--noreload", f"127.0.0.1:{self.port}")
        self.agent = process("agent", "draft", "--url", f"ws://127.0.0.1:{self.port}/bus/")
        self.handlers = process("handlers", "runhandlers")

    def start(self) -> None:
        """Start all of it, and wait until the server answers."""
        for process in (self.server, self.agent, self.handlers):
            process.start()
        wait_until(self._up, "the desk answers")

    def _up(self) -> bool:
        assert self.server.alive, self.server.log()
        try:
            return http_request(f"{self.url}bus/ready", "GET", None)[0] == 200
        except OSError:
            return False

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What a query finds in the database of the project."""
        database = sqlite3.connect(self.database, timeout=20)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """The desk, with all of its processes running."""
    made = Desk(tmp_path)
    try:
        made.start()
        yield made
    finally:
        for process in (made.agent, made.handlers, made.server):
            print(process.log_tail())  # for the report of a failed test
            process.kill()


@pytest.fixture
def page(desk: Desk) -> Iterator[Page]:
    """The page of the desk in a real browser, where Ann is logged in. Its strict policy must have nothing to say."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1000, "height": 760}, device_scale_factor=1.5)
        shown.set_default_timeout(20_000)
        faults: list[str] = []
        shown.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        shown.on("pageerror", lambda problem: faults.append(str(problem)))
        shown.goto(f"{desk.url}bus/login/?next=/")
        shown.fill("input[name=username]", "ann")
        shown.fill("input[name=password]", "ann")
        shown.press("input[name=password]", "Enter")
        expect(shown.get_by_role("heading", name="Support desk")).to_be_visible()
        yield shown
        browser.close()
    assert not faults, faults


def picture(page: Page, name: str) -> None:
    """Take a picture for the documentation, if pictures are asked for."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def test_an_approved_answer_is_one_ticket_although_the_agent_is_killed(desk: Desk, page: Page) -> None:
    page.fill("input[name=customer]", "Mia")
    page.fill("input[name=question]", "Where is <my> parcel?")
    page.get_by_role("button", name="Send").click()
    question = page.get_by_role("article", name="Answer Mia?")
    expect(question).to_contain_text("Where is <my> parcel?")  # It came by itself, as text.
    question.get_by_label("Comment").fill("It arrives on Friday.")
    picture(page, "support-desk")
    question.get_by_role("button", name="Respond").click()
    expect(page.get_by_role("status").filter(has_text="Answered.")).to_be_visible()
    # The agent drafts again with these words, and is killed while it waits.
    expect(question).to_contain_text("We are looking into it. It arrives on Friday.")
    desk.agent.kill()
    question.get_by_text("Edit", exact=True).click()
    args = question.get_by_label("Arguments")
    args.fill(args.input_value().replace("We are looking into it. ", ""))
    question.get_by_role("button", name="Approve these").click()
    expect(question).to_have_count(0)
    assert page.url == desk.url  # The script sent the forms, and the page stayed.

    wait_until(lambda: desk.rows("SELECT 1 FROM desk_ticket"), "the handler writes the ticket")
    page.reload()
    expect(page.get_by_role("row").filter(has_text="Mia")).to_contain_text(
        "thank you for your question. It arrives on Friday."
    )
    picture(page, "support-desk-ticket")
    desk.agent.start()
    wait_until(lambda: desk.rows("SELECT 1 FROM bus_job WHERE state = 'done'"), "the next agent ends the job")
    assert desk.rows("SELECT customer, approved_by FROM desk_ticket") == [("Mia", "ann")]
    assert len(desk.rows("SELECT 1 FROM bus_decision")) == 2
