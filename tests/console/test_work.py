"""Leased work in the console: the queue, the states of jobs, notices in the timeline, and what an operator may do."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

import arqonbus
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

from .conftest import Connect, OpenConsole

pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]


async def queue_of(client: Connect, server: BusServer, room: str, **rule: object) -> tuple[arqonbus.Bus, str, str]:
    """An admin's client, its token, and a work channel."""
    token = server.create_token(f"admin-{room}", admin=True)
    bus = await client(server, client_id=f"planner-{room}", token=token)
    address = f"{room}:jobs"
    await bus._command("create_channel", {"channel": address, "work": rule})
    return bus, token, address


async def claim(bus: arqonbus.Bus, address: str) -> str:
    """Claim one job; its token."""
    result = await bus._command("claim", {"channel": address, "wait": 20})
    return str(result["claims"][0]["claim"])


def figure(page: Page, name: str) -> str:
    return f".queue [data-figure={name}] b"


async def test_the_queue_shows_who_is_at_work_and_an_operator_retries_and_discards(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    bus, token, address = await queue_of(client, shared_server, fresh_room, attempts=2)
    worker = await client(shared_server, client_id=f"worker-{fresh_room}")
    for n in range(3):
        await bus.publish(address, payload={"n": n})
    page = await (await console(shared_server, token=token)).open(f"messages/{address}")
    await expect(page.locator(figure(page, "ready"))).to_have_text("3")
    # What others write is text, also in an error.
    await worker._command("reject", {"claim": await claim(worker, address), "error": "<img src=x onerror=alert(1)>"})
    token_of_second = await claim(worker, address)
    await expect(page.locator(figure(page, "claimed"))).to_have_text("1")
    await expect(page.locator(figure(page, "dead"))).to_have_text("1")
    rows = page.locator(".message:not([hidden])")
    await expect(rows.filter(has_text='"n":1').locator(".badge.job")).to_have_text("at work")
    await expect(rows.filter(has_text='"n":0').locator(".badge.job")).to_have_text("dead")
    await page.get_by_role("button", name="Queue").click()
    pane = page.locator(".queue-jobs")
    await expect(pane.get_by_text("<img src=x onerror=alert(1)>")).to_be_visible()
    await expect(pane.get_by_role("link", name=f"worker-{fresh_room}")).to_be_visible()
    await pane.get_by_role("button", name="Retry job 1").click()
    await expect(page.locator(figure(page, "dead"))).to_have_text("0")
    await expect(page.locator(figure(page, "ready"))).to_have_text("2")
    await pane.get_by_role("button", name="Discard job 2").click()
    await page.get_by_role("button", name="Discard", exact=True).click()
    await expect(page.locator(figure(page, "claimed"))).to_have_text("0")
    with pytest.raises(arqonbus.ServerError, match="CLAIM_LOST"):
        await worker._command("done", {"claim": token_of_second})
    await expect(rows.filter(has_text='"n":1').locator(".badge.job")).to_have_text("discarded")


async def test_what_becomes_of_jobs_is_a_line_of_the_timeline_and_no_message(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    bus, token, address = await queue_of(client, shared_server, fresh_room)
    page = await (await console(shared_server, token=token)).open(f"messages/{address}")
    await expect(page.locator(figure(page, "ready"))).to_have_text("0")
    await bus.publish(address, payload={"n": 1})
    await bus._command("done", {"claim": await claim(bus, address)})
    notice = page.locator(".message.notice:not([hidden])")
    await expect(notice.locator(".content")).to_contain_text("finished job 1")
    # Notices that follow one another are one line.
    await expect(notice).to_have_count(1)
    await expect(page.get_by_text("1 loaded")).to_be_visible()
    await notice.click()
    pane = page.locator(".detail")
    await expect(pane.locator(".jobs .badge.done")).to_have_text("done")
    await pane.get_by_role("button", name="Show job 1").first.click()
    await expect(pane.locator(".json")).to_contain_text('"n": 1')


async def test_a_queue_that_was_left_before_it_began_asks_for_nothing(
    console: OpenConsole, shared_server: BusServer
) -> None:
    page = await (await console(shared_server)).open("messages")
    asked = await page.evaluate(
        """async () => {
            const { Queue } = await import("/static/arqonbus/console/views/messages/queue.js");
            let asked = 0;
            const bus = { connected: true, workOverview: async () => Promise.reject(new Error(`${(asked += 1)}`)) };
            const queue = new Queue({ session: { bus } }, "jobs:new", {});
            queue.close();
            queue.start();
            return asked;
        }"""
    )
    assert asked == 0


async def test_a_visitor_without_the_right_sees_the_queue_and_no_button(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    bus, _, address = await queue_of(client, shared_server, fresh_room)
    await bus.publish(address, payload={"n": 1})
    await bus._command("reject", {"claim": await claim(bus, address), "error": "never"})
    page = await (await console(shared_server)).open(f"messages/{address}")
    await page.get_by_role("button", name="Queue").click()
    await expect(page.locator(".queue-jobs .job-item.dead")).to_have_count(1)
    await expect(page.locator(".queue-jobs").get_by_role("button", name="Retry")).to_have_count(0)
    await expect(page.locator(".queue-jobs").get_by_role("button", name="Discard")).to_have_count(0)


async def test_what_is_new_is_counted_until_the_visitor_looks_also_after_a_reload(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    server = shared_server
    token = server.create_token(f"reader-{fresh_room}")
    bus = await client(server, client_id=f"writer-{fresh_room}")
    await bus.publish(f"{fresh_room}:news", "old")
    await bus.publish(f"{fresh_room}:other", "old")
    opened = await console(server, token=token)
    page = await opened.open(f"messages/{fresh_room}:news")
    await expect(page.get_by_text("1 loaded")).to_be_visible()
    row, search = page.get_by_role("treeitem", name="news,"), page.get_by_role("searchbox", name="Find a room")
    # The tree shows the first of many channels only.
    await search.fill(fresh_room)
    await expect(row).to_have_attribute("aria-current", "page")

    reader = await client(server, client_id=f"reader-{fresh_room}", token=token)

    async def marked() -> bool:
        rows = (await reader._command("list_channels", {"room": fresh_room}))["channels"]
        return any(each["channel"] == "news" and each.get("unread") == 0 for each in rows)

    await wait_for(marked, "the page marks what is in sight", deadline=20)
    await opened.go(f"messages/{fresh_room}:other")
    await page.reload()
    await search.fill(fresh_room)
    for text in ("one", "two"):
        await bus.publish(f"{fresh_room}:news", text)
    await expect(row.locator(".unread")).to_have_text("2", timeout=30_000)
    await opened.go(f"messages/{fresh_room}:news")
    await expect(row.locator(".unread")).to_be_hidden()
    await expect(page.get_by_text("3 loaded")).to_be_visible()


async def test_what_clients_say_that_they_do_is_in_their_row_and_their_detail(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    bus = await client(shared_server, client_id=f"noor-{fresh_room}", card={"name": "Noor", "skills": ["review"]})
    await bus.set_status(status="working", task="<b>Review</b>", tokens=1200)
    page = await (await console(shared_server)).open(f"clients/noor-{fresh_room}")
    row = page.locator(".client-row:not(.head):not([hidden])").filter(has_text=f"noor-{fresh_room}")
    await expect(row.locator(".state-word")).to_have_text("working")
    await expect(row.locator(".doing")).to_contain_text("<b>Review</b>")
    await expect(page.locator(".detail .facts")).to_contain_text("1,200")
    await expect(page.locator(".detail .facts .badge").filter(has_text="review")).to_be_visible()
