"""Messages that grow, in the console: live, joined late, after a reload, several at once; stopped and steered."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Locator, Page

from tests.conftest import StartServer
from tests.harness.browser import expect
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

from .conftest import Connect, OpenConsole

pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]


def row(page: Page, at: int = 0) -> Locator:
    return page.locator(".message:not([hidden])").nth(at)


async def test_an_answer_grows_in_its_row_and_in_the_detail_and_ends_as_complete(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:answer"
    bus = await client(shared_server, client_id=f"agent-{fresh_room}")
    await bus.publish(address, "a question")
    page = await (await console(shared_server)).open(f"messages/{address}")
    await expect(page.get_by_text("a question")).to_be_visible()
    out = await bus.stream(address, payload={"role": "assistant"})
    await out.write("Hello, ")
    await expect(row(page).locator(".words")).to_have_text("Hello, ")
    await expect(row(page).locator(".badge.stream")).to_have_text("writing")
    await row(page).click()
    pane = page.locator(".answer-pane")
    await expect(pane.locator(".said")).to_have_text("Hello, ")
    await expect(pane.get_by_role("status")).to_have_text("The answer is being written.")
    await out.write("world!\nA <b>second</b> line.")
    await expect(pane.locator(".said")).to_have_text("Hello, world!\nA <b>second</b> line.")
    # Screen readers hear of the beginning and of the end.
    assert await pane.get_by_role("status").text_content() == "The answer is being written."
    assert await pane.locator(".said").evaluate("each => each.closest('[aria-live]')") is None
    await out.end("complete", payload={"usage": 3})
    await expect(pane.locator(".badge.stream")).to_have_text("complete")
    await expect(pane.get_by_role("status")).to_have_text("The answer is complete.")
    await expect(pane.get_by_role("button", name="Stop")).to_be_hidden()
    await expect(pane.locator(".json")).to_contain_text('"usage": 3')
    await expect(row(page).locator(".badge.stream")).to_have_text("complete")
    # The end is counted as the message that it is, and is no row of its own.
    await expect(page.locator("[data-total='3']")).to_be_visible()
    await expect(page.get_by_text("2 loaded, which contain 1 end of answers")).to_be_visible()
    await expect(page.locator(".message:not([hidden])")).to_have_count(2)


async def test_a_row_that_is_too_narrow_shows_the_last_words_from_a_whole_one_on(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:narrow"
    bus = await client(shared_server, client_id=f"agent-{fresh_room}")
    out = await bus.stream(address)
    page = await (await console(shared_server)).open(f"messages/{address}")
    for number in range(200):
        await out.write(f"word{number:03} ")
    words = row(page).locator(".words")
    await expect(words).to_have_text(re.compile(r"^… (word\d{3} )*word199 ?$"))
    # The beginning is in sight.
    assert await words.evaluate("each => each.firstChild.offsetLeft >= each.offsetLeft")
    await out.end()
    await expect(words).to_have_text(re.compile(r"^word000 word001 "))


async def test_several_answers_that_were_open_before_the_page_grow_in_their_places_also_after_a_reload(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:several"
    bus = await client(shared_server, client_id=f"agent-{fresh_room}")
    outs = [await bus.stream(address) for _ in range(3)]
    for number, out in enumerate(outs, start=1):
        await out.write(f"Answer {number} began. ")
        await out.flush()
    await bus.publish(address, "behind them")
    opened = await console(shared_server)
    page = await opened.open(f"messages/{address}")
    for _ in range(2):
        await expect(page.locator(".message:not([hidden])")).to_have_count(4)
        # Newest first: each at the place of its opening.
        for number in (1, 2, 3):
            await expect(row(page, 4 - number).locator(".seq")).to_have_text(str(number))
            await expect(row(page, 4 - number).locator(".words")).to_contain_text(f"Answer {number} began.")
        for number, out in enumerate(outs, start=1):
            await out.write(f"Answer {number} goes on. ")
            await expect(row(page, 4 - number).locator(".words")).to_contain_text("goes on.")
        await page.reload()
        await page.wait_for_selector("#connection.connected")
    for state, out in zip(("complete", "aborted", "stopped"), outs, strict=True):
        await out.end(state)
    for number, state in enumerate(("complete", "aborted", "stopped"), start=1):
        await expect(row(page, 4 - number).locator(".badge.stream")).to_have_text(state)
    await page.reload()
    await expect(row(page, 3).locator(".badge.stream")).to_have_text("complete")
    await expect(page.locator(".message:not([hidden])")).to_have_count(4)


async def test_the_reader_stops_an_answer_with_the_keyboard(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:stop"
    bus = await client(shared_server, client_id=f"agent-{fresh_room}")
    out = await bus.stream(address)
    await out.write("On and on. ")
    page = await (await console(shared_server)).open(f"messages/{address}")
    await row(page).click()
    stop = page.get_by_role("button", name="Stop")
    await stop.focus()
    await page.keyboard.press("Enter")

    async def is_asked() -> bool:
        return out.stop_requested.is_set()

    await wait_for(is_asked, "the owner hears of the stop")
    await expect(page.locator(".answer-pane").get_by_role("status")).to_have_text("Its owner is asked to stop.")
    await out.end()
    await expect(page.locator(".answer-pane .badge.stream")).to_have_text("stopped")
    # The keyboard stays where it was.
    assert await page.evaluate("document.activeElement.closest('.answer-pane') !== null")


async def test_the_reader_steers_an_answer_and_hears_whether_that_was_too_late(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:steer"
    bus = await client(shared_server, client_id=f"agent-{fresh_room}")
    out = await bus.stream(address)
    page = await (await console(shared_server)).open(f"messages/{address}")
    await row(page).click()
    await page.get_by_label("Steer this answer").fill("in French, please")
    await page.keyboard.press("Enter")
    async with asyncio.timeout(20):
        async for steer in out.steers():
            assert steer.text == "in French, please"
            steer.took()
            break
    await expect(page.locator(".answer-pane").get_by_role("status")).to_have_text("Sent to its owner.")
    await expect(row(page).locator(".content")).to_have_text("↳ in French, please")
    await page.get_by_label("Steer this answer").fill("and shorter")
    await page.keyboard.press("Enter")
    await expect(row(page).locator(".content")).to_have_text("↳ and shorter")
    await out.write("D'accord.")
    await out.end()
    await expect(page.locator(".answer-pane").get_by_role("status")).to_have_text(
        "The answer is complete. 1 steer not taken."
    )
    await expect(page.locator(".answer-pane .said")).to_have_text("D'accord.")
    await expect(page.get_by_label("Steer this answer")).to_be_hidden()


async def test_a_long_answer_is_drawn_in_pieces_and_only_once(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:long"
    bus = await client(shared_server, client_id=f"agent-{fresh_room}")
    out = await bus.stream(address)
    await out.write("The beginning.\n")
    page = await (await console(shared_server)).open(f"messages/{address}")
    await row(page).click()
    said = page.locator(".answer-pane .said")
    await expect(said).to_have_text("The beginning.\n")
    first = await said.locator("div").first.evaluate_handle("each => { window.drawn = each.firstChild; return each }")
    line = "word " * 20 + "\n"
    for _ in range(60):
        await out.write(line * 25)
    await out.end()
    await expect(page.locator(".answer-pane .badge.stream")).to_have_text("complete")
    text = "The beginning.\n" + line * 25 * 60
    assert await said.evaluate("each => each.textContent") == text
    # What was drawn first is the same node as before, and the text stands in blocks that are laid out by themselves.
    assert await first.evaluate("each => each.firstChild === window.drawn")
    longest = await said.evaluate("each => Math.max(...[...each.children].map(block => block.textContent.length))")
    assert longest < 8_000


async def test_parts_are_shown_as_they_come(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:parts"
    bus = await client(shared_server, client_id=f"agent-{fresh_room}")
    out = await bus.stream(address, mode="parts")
    page = await (await console(shared_server)).open(f"messages/{address}")
    await row(page).click()
    for number in range(3):
        await out.part({"type": "STEP", "number": number})
    await expect(page.locator(".answer-pane .parts .json")).to_have_count(3)
    await expect(row(page).locator(".words")).to_contain_text('"number":2')
    await out.end()
    await expect(row(page).locator(".words")).to_contain_text("3 parts, the last one")


async def test_an_answer_survives_a_restart_of_the_server_while_the_page_shows_it(
    console: OpenConsole, client: Connect, start_server: StartServer, fresh_room: str
) -> None:
    server, address = start_server(), f"{fresh_room}:restart"
    bus = await client(server, client_id=f"agent-{fresh_room}")
    out = await bus.stream(address)
    await out.write("Before. ")
    opened = await console(server)
    opened.allowed += ["WebSocket", "ERR_CONNECTION", "Failed to load resource"]
    page = await opened.open(f"messages/{address}")
    await row(page).click()
    said = page.locator(".answer-pane .said")
    await expect(said).to_have_text("Before. ")
    await asyncio.to_thread(server.restart)
    await out.write("After.")
    await out.end()
    await expect(said).to_have_text("Before. After.")
    await expect(page.locator(".answer-pane .badge.stream")).to_have_text("complete")
