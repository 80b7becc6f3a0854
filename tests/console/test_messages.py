"""Rooms, the message explorer and the publish box, in a browser."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Page

from tests.harness.browser import expect
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

from .conftest import Connect, OpenConsole

pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]


def rows(page: Page) -> object:
    return page.locator(".message:not([hidden])")


async def publish_many(bus: object, address: str, count: int, prefix: str = "message") -> None:
    """Publish in the order of the numbers; the last one is acknowledged, so all of them are there."""
    for number in range(1, count):
        await bus.publish(address, f"{prefix} {number}", ack=False)  # type: ignore[attr-defined]
    await bus.publish(address, f"{prefix} {count}")  # type: ignore[attr-defined]


async def test_the_tree_counts_members_and_messages_of_every_channel_live(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    first = await client(shared_server, room=f"{fresh_room}:alpha")
    await first.publish(f"{fresh_room}:alpha", "one")
    page = await (await console(shared_server)).open()
    await page.get_by_label("Find a room or channel").fill(fresh_room)
    row = page.locator(".tree-row.channel:not([hidden])").first
    await expect(row.locator(".cut")).to_have_text("alpha")
    await expect(row.locator(".members")).to_have_text("1")
    await expect(row.locator(".total")).to_have_text("1")
    second = await client(shared_server, room=f"{fresh_room}:alpha")
    await second.publish(f"{fresh_room}:beta", "two")
    await second.publish(f"{fresh_room}:alpha", "three")
    await expect(row.locator(".members")).to_have_text("2")
    await expect(row.locator(".total")).to_have_text("2")
    await expect(page.locator(".tree-row.channel:not([hidden])")).to_have_count(2)
    await row.click()
    await expect(page.get_by_role("heading", name=f"{fresh_room}:alpha")).to_be_visible()


async def test_messages_appear_as_they_come_and_stay_away_while_paused(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:live"
    bus = await client(shared_server, client_id=f"writer-{fresh_room}")
    await bus.publish(address, "before the page was opened")
    page = await (await console(shared_server)).open(f"messages/{address}")
    await expect(page.get_by_text("before the page was opened")).to_be_visible()
    await bus.publish(address, "while it is open")
    newest = page.locator(".message").first
    await expect(newest.locator(".content")).to_have_text("while it is open")
    await expect(newest.locator(".seq")).to_have_text("2")
    await page.get_by_role("button", name="Pause").click()
    await bus.publish(address, "not now")
    await expect(page.get_by_text("paused, 1 waiting")).to_be_visible()
    assert await page.get_by_text("not now").count() == 0
    await page.keyboard.press("p")
    await expect(newest.locator(".content")).to_have_text("not now")


async def test_filters_by_type_sender_text_and_time_find_messages_and_say_when_there_are_none(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:mixed"
    anna = await client(shared_server, client_id=f"anna-{fresh_room}")
    bert = await client(shared_server, client_id=f"bert-{fresh_room}")
    await anna.publish(address, "the needle of Anna")
    # More than a page lies between, so that the filters are a matter of the server.
    await publish_many(bert, address, 230, "hay")
    await bert.publish(address, payload={"where": "a needle inside"}, type="reading")
    page = await (await console(shared_server)).open(f"messages/{address}")
    shown = page.locator(".message:not([hidden])")
    await expect(page.get_by_text("hay 230")).to_be_visible()
    await page.get_by_label("Text", exact=True).fill("needle")
    await expect(shown).to_have_count(2)
    await page.get_by_label("Sender").fill(f"anna-{fresh_room}")
    await expect(shown).to_have_count(1)
    await expect(shown.first.locator(".content")).to_have_text("the needle of Anna")
    await bert.publish(address, "another needle of Bert")
    await anna.publish(address, "a new needle of Anna")
    await expect(shown).to_have_count(2)
    await page.get_by_role("button", name="Clear filters").click()
    await expect(page.get_by_text("another needle of Bert")).to_be_visible()
    await page.get_by_label("Type", exact=True).select_option("system")
    await expect(page.get_by_text("No message matches the filters")).to_be_visible()
    await page.get_by_label("Type", exact=True).select_option("")
    await page.get_by_label("Time").select_option("at")
    await page.get_by_label("Until").fill("2020-01-01T00:00:00")
    await expect(page.get_by_text("No message matches the filters")).to_be_visible()
    await page.get_by_label("Time").select_option("60")
    await expect(page.get_by_text("a new needle of Anna")).to_be_visible()


async def test_ten_thousand_messages_scroll_back_to_the_first_with_few_rows_in_the_page(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:long"
    bus = await client(shared_server)
    await publish_many(bus, address, 10_000)
    page = await (await console(shared_server)).open(f"messages/{address}")
    await expect(page.locator("[data-total='10000']")).to_be_visible()
    listing = page.locator(".explorer-list .vlist")

    async def scrolled_to_the_first() -> bool:
        await listing.evaluate("list => { list.scrollTop = list.scrollHeight }")
        return await page.get_by_text("message 1", exact=True).count() == 1

    await wait_for(scrolled_to_the_first, "the first message is there")
    assert await page.locator(".message").count() < 80
    await expect(page.get_by_text("10,000 loaded")).to_be_visible()
    # What comes meanwhile does not move what is being read.
    place = await page.get_by_text("message 1", exact=True).bounding_box()
    await bus.publish(address, "something new")
    await page.get_by_role("button", name="1 new").wait_for()
    assert await page.get_by_text("message 1", exact=True).bounding_box() == place
    await page.get_by_role("button", name="1 new").click()
    await expect(page.locator(".message").get_by_text("something new")).to_be_visible()


async def test_at_five_hundred_a_second_the_view_samples_says_so_and_counts_exactly(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:fast"
    bus = await client(shared_server)
    await bus.publish(address, "start")
    page = await (await console(shared_server)).open(f"messages/{address}")
    await expect(page.get_by_text("start", exact=True)).to_be_visible()
    sampled = page.get_by_text("sampled view")
    sent = 1
    async with asyncio.timeout(20):
        while not await sampled.is_visible():
            for _ in range(100):
                sent += 1
                await bus.publish(address, f"m{sent}", ack=False)
            await asyncio.sleep(0.15)
    # The page answers while they come.
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_role("button", name="Resume").click()
    await bus.publish(address, "last")
    sent += 1
    await expect(page.locator(f"[data-total='{sent}']")).to_be_visible()
    await expect(page.locator(".message").first.locator(".content")).to_have_text("last")
    await expect(page.get_by_text(f"{sent:,} loaded")).to_be_visible()


async def test_a_message_shows_its_place_id_and_times_and_its_json_can_be_copied(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:detail"
    bus = await client(shared_server, client_id=f"sensor-{fresh_room}")
    receipt = await bus.publish(address, {"celsius": 21.5, "tags": ["a", "b"]}, metadata={"trace": "t-1"})
    opened = await console(shared_server, permissions=["clipboard-read", "clipboard-write"])
    page = await opened.open(f"messages/{address}")
    await page.locator(".message").first.click()
    detail = page.get_by_role("region", name="Detail")
    for text in (receipt.id, address, f"sensor-{fresh_room}"):
        await expect(detail.get_by_text(text, exact=True).first).to_be_visible()
    await expect(detail.locator("dd").first).to_have_text("1")
    await expect(detail.locator(".json .key").first).to_be_visible()
    await detail.locator(".json-block").hover()
    await detail.get_by_role("button", name="Copy JSON").click()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert '"celsius": 21.5' in copied
    assert '"seq": 1' in copied
    await page.keyboard.press("Escape")
    await expect(detail).to_be_hidden()
    # A link to one message finds it.
    await opened.go(f"messages/{address}?seq=1")
    await expect(detail.get_by_text(receipt.id, exact=True).first).to_be_visible()


async def test_hostile_text_is_shown_as_text(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:hostile"
    attack = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    name = "<b>Eve</b>"
    eve = await client(
        shared_server, client_id=f"eve-{fresh_room}", screen_name=name, avatar="javascript:alert(1)", client_type="<i>x</i>",
        personality={"<u>": attack},
    )  # fmt: skip
    await eve.publish(address, attack, payload={attack: attack}, type="<s>odd</s>")
    opened = await console(shared_server)
    page = await opened.open(f"messages/{address}")
    await expect(page.locator(".message .content").first).to_have_text(attack)
    await page.locator(".message").first.click()
    await expect(page.locator(".said")).to_have_text(attack)
    await opened.go(f"clients/eve-{fresh_room}")
    await expect(page.get_by_role("region", name="Detail").get_by_text(name).first).to_be_visible()
    await opened.go("commands")
    await page.get_by_label("Command", exact=True).fill(f"history channel={address}")
    await page.keyboard.press("Enter")
    await expect(page.locator(".log .json")).to_contain_text("onerror")
    assert await page.title() != "owned"
    smuggled = page.locator("img[src='x'], main b:text-is('Eve'), main i:text-is('x'), main s, main u, main script")
    assert await smuggled.count() == 0


async def test_the_publish_box_sends_events_json_and_private_messages_and_shows_the_ack(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:box"
    reader = await client(shared_server, client_id=f"reader-{fresh_room}")
    messages = await reader.subscribe(address).open()
    inbox = await reader.inbox().open()
    page = await (await console(shared_server)).open(f"messages/{address}")
    field = page.get_by_label("Message", exact=True)
    await field.fill("hello from the page")
    await page.keyboard.press("Enter")
    await expect(page.locator(".says")).to_contain_text("durable in")
    await expect(page.locator(".says")).to_contain_text("seq 1")
    await expect(page.locator(".message .content").first).to_have_text("hello from the page")
    assert (await messages.get(10)).text == "hello from the page"

    await page.get_by_role("button", name="{ } JSON").click()
    payload = page.get_by_label("Payload as JSON")
    await payload.fill('{"celsius": }')
    await expect(page.locator(".says .fault")).to_contain_text("column")
    await page.get_by_role("button", name="Publish").click()
    await expect(page.locator(".says .fault")).to_contain_text("column")
    await payload.fill('{"celsius": 19.25}')
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".says")).to_contain_text("seq 2")
    assert (await messages.get(10)).payload == {"celsius": 19.25}

    await page.get_by_role("button", name="{ } JSON").click()
    await page.get_by_label("Type of message").select_option("private")
    await page.get_by_label("To", exact=True).fill(f"reader-{fresh_room}, nobody-{fresh_room}")
    await field.fill("psst")
    await page.keyboard.press("Enter")
    await expect(page.locator(".says")).to_contain_text(
        f"Unknown client_id: nobody-{fresh_room}. The other targets got the message."
    )
    assert (await inbox.get(10)).text == "psst"
    assert await page.locator("[name='publish-type'] option[value='system']").is_disabled()


async def test_admins_send_system_messages_and_make_and_delete_channels(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str, admin_token: str
) -> None:
    address = f"{fresh_room}:made"
    page = await (await console(shared_server, token=admin_token)).open()
    await page.get_by_role("button", name="New channel").click()
    await page.get_by_label("room:channel").fill(address)
    await page.get_by_label("Description").fill("made in the page")
    await page.get_by_role("button", name="Create", exact=True).click()
    await expect(page.get_by_text("made in the page").first).to_be_visible()
    bus = await client(shared_server)
    messages = await bus.subscribe(address).open()
    await page.get_by_label("Type of message").select_option("system")
    await page.get_by_label("Message", exact=True).fill("maintenance at noon")
    await page.keyboard.press("Enter")
    heard = await messages.get(10)
    assert (heard.type, heard.text) == ("system", "maintenance at noon")
    await messages.close()
    await page.get_by_role("button", name="Delete this channel").click()
    await page.get_by_role("button", name="Delete", exact=True).click()
    await expect(page.get_by_text(f"{address} is deleted")).to_be_visible()
    assert address not in [f"{row['room']}:{row['channel']}" for row in await bus.list_channels()]
