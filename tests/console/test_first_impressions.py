"""What newcomers stumbled over: tables and phones, a page that writes to what it watches, links that create, dead ends."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.browser import expect
from tests.harness.server import PASSWORD, BusServer
from tests.harness.waiting import wait_until
from tests.reliability.traffic import query

from .conftest import Connect, OpenConsole

pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]

PHONE = {"width": 390, "height": 780}
VIEWS = (
    "overview",
    "messages",
    "clients",
    "agents",
    "decisions",
    "telemetry",
    "commands",
    "operations",
    "contracts",
    "start",
)

#: The left edges of the columns: those of the heading's buttons, and those of the first row.
COLUMNS = """() => {
    const edges = (row) => [...row.children].filter((each) => each.offsetParent && each.textContent.trim())
        .map((each) => Math.round(each.getBoundingClientRect().left));
    const row = document.querySelector(".client-row:not(.head):not([hidden])");
    return [edges(document.querySelector(".client-row.head")), edges(row)];
}"""


@pytest.mark.parametrize("width", [1440, 1280, 1100, 900])
async def test_each_heading_of_the_clients_stands_over_its_column_with_and_without_a_detail(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str, width: int
) -> None:
    name = f"worker-{fresh_room}"
    bus = await client(
        shared_server, client_id=name, client_type="ai-agent", screen_name="Worker", room=f"{fresh_room}:a"
    )
    opened = await console(shared_server, viewport={"width": width, "height": 900})
    page = await opened.open("clients")
    await page.get_by_label("Find a client").fill(name)
    row = page.locator(".client-row:not(.head):not([hidden])")
    await expect(row).to_have_count(1)
    # Its rate is shown where there is room for one.
    for _ in range(3):
        await bus.publish(f"{fresh_room}:a", "busy")
    for detail in (False, True):
        if detail:
            await row.click()
            await expect(page.get_by_role("region", name="Detail")).to_be_visible()
        headings, cells = await page.evaluate(COLUMNS)
        assert set(cells) <= set(headings) | {max(headings)}, (width, detail)
        # The status and the rate may be empty, and have a heading all the same.
        assert len(headings) - len(cells) <= 2, (width, detail)
        assert headings == sorted(headings), (width, detail)


@pytest.mark.parametrize("visitor", ["guest", "token"])
async def test_no_view_is_wider_than_a_phone(
    console: OpenConsole, shared_server: BusServer, admin_token: str, visitor: str
) -> None:
    token = admin_token if visitor == "token" else None
    opened = await console(shared_server, token=token, viewport=PHONE, is_mobile=True, has_touch=True)
    page = await opened.open()
    for view in VIEWS:
        await opened.go(view if view != "messages" else "messages/science:explore")
        await expect(page.locator("main .view")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], view
        for part in ("header.topbar", "main"):
            box = await page.locator(part).first.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= PHONE["width"], (view, part)
    # The way out, or in, is in the menu.
    await page.get_by_role("button", name="Menu").click()
    way = page.locator(".sidebar .side-foot").last
    await expect(way).to_contain_text("Forget token" if token else "Log in")


async def test_a_page_that_only_watches_writes_nothing_into_what_it_watches(
    console: OpenConsole, start_server: StartServer, storage: Storage
) -> None:
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_TELEMETRY_INTERVAL": "0"})
    opened = await console(server)
    page = await opened.open("clients")
    asked = (
        "command => arqonbus.session.frames.items(true)"
        ".filter((each) => each.direction === 'out' && each.label.includes(command)).length >= 3"
    )

    async def several(*commands: str) -> None:
        for command in commands:
            await page.wait_for_function(asked, arg=command)

    await several("list_channels", "list_clients")
    await opened.go("overview")
    await several("list_channels", "list_clients")
    noted = (
        "SELECT m.frame FROM bus_message m JOIN bus_channel c ON c.id = m.channel_id WHERE c.name = 'dashboard-events'"
    )
    # That it listens to them is told once.
    assert [json.loads(frame)["payload"]["activity"] for (frame,) in query(storage, noted)] == ["join_channel"]
    assert server.log().count("event=command") == server.log().count("ran join_channel") == 1
    # What the visitor does is told like anybody's.
    await opened.go("messages/science:explore")
    await page.get_by_role("textbox", name="Message", exact=True).fill("hello")
    await page.get_by_role("button", name="Publish").click()
    await expect(page.locator(".says")).to_contain_text("durable")
    await asyncio.to_thread(
        wait_until, lambda: any('"activity":"event"' in frame for (frame,) in query(storage, noted)), "it is told"
    )


async def _rooms(page: Page) -> list[str]:
    names: list[str] = await page.evaluate(
        "async () => (await arqonbus.session.bus.listChannels()).map((row) => row.room)"
    )
    return names


async def test_an_address_that_is_opened_is_not_created_by_that(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    opened = await console(shared_server)
    page = await opened.open(f"messages/{fresh_room}:typo")
    await expect(page.get_by_role("heading", name=f"There is no channel {fresh_room}:typo")).to_be_visible()
    assert fresh_room not in await _rooms(page)
    # The one that was meant is offered, and the one that was not can be made.
    await (await client(shared_server)).publish(f"{fresh_room}:type", "here")
    await opened.go("overview")
    await page.wait_for_function("address => arqonbus.rooms.channels.has(address)", arg=f"{fresh_room}:type")
    await opened.go(f"messages/{fresh_room}:typo")
    await expect(page.locator(".empty").get_by_role("link", name=f"{fresh_room}:type")).to_be_visible()
    await page.get_by_role("button", name="Create it").click()
    await expect(page.get_by_text("No message yet")).to_be_visible()
    assert (await _rooms(page)).count(fresh_room) == 2
    # An inbox is nobody's to open, and has a way to write to.
    await opened.go("messages/pm:somebody")
    await page.get_by_role("button", name="Write to somebody").click()
    await expect(page.get_by_label("To", exact=True)).to_have_value("somebody")


async def test_the_telemetry_port_leads_to_the_console(
    browser: object, console: OpenConsole, start_server: StartServer
) -> None:
    server = await asyncio.to_thread(start_server, "runbus")
    opened = await console(server)
    await opened.page.goto(f"http://{server.host}:{server.telemetry_port}/")
    await expect(opened.page.get_by_role("heading")).to_have_text("This port is for telemetry")
    await opened.page.get_by_role("link", name="Open the console").click()
    await opened.page.wait_for_selector("#connection.connected")
    # And from there to the documentation, which is the one of docs/.
    await opened.page.get_by_role("link", name="Documentation").click()
    await expect(opened.page.get_by_role("heading", level=1)).to_have_text("ArqonBus")
    await opened.page.get_by_role("main").get_by_role("link", name="Protocol", exact=True).click()
    await expect(opened.page.get_by_role("heading", level=1)).to_have_text(re.compile("The protocol"))
    await opened.page.get_by_role("link", name="Console", exact=True).first.click()
    await opened.page.wait_for_selector("#connection.connected")


async def test_a_restart_is_told_by_the_banner_alone(console: OpenConsole, start_server: StartServer) -> None:
    server = await asyncio.to_thread(start_server)
    opened = await console(server)
    opened.allowed += ["WebSocket connection", "Failed to load resource", "ERR_CONNECTION"]
    page = await opened.open("messages/science:explore")
    await page.evaluate(
        "() => { window.toasts = []; new MutationObserver((seen) => seen.forEach((one) => one.addedNodes.forEach((node) => "
        "window.toasts.push(node.textContent)))).observe(document.getElementById('toasts'), { childList: true }) }"
    )
    assert await asyncio.to_thread(server.terminate) == 0
    await expect(page.locator(".banner")).to_be_visible()
    assert await page.evaluate("window.toasts") == []
    # Where there is one, it does not lie over the button that publishes.
    await page.evaluate("async () => (await import('/static/arqonbus/console/dom.js')).toast('a word', 'bad')")
    toast = await page.locator(".toast").bounding_box()
    publish = await page.get_by_role("button", name="Publish").bounding_box()
    assert toast is not None
    assert publish is not None
    assert toast["y"] + toast["height"] < publish["y"]


async def test_a_chart_says_the_value_and_the_time_under_the_pointer(
    console: OpenConsole, start_server: StartServer
) -> None:
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_TELEMETRY_INTERVAL": "0.2"})
    opened = await console(server)
    page = await opened.open()
    chart = page.get_by_label("Connections", exact=True)
    await expect(chart.locator("canvas")).to_be_visible()
    await page.wait_for_function("() => arqonbus.feed.points.length > 3")
    await expect(chart.locator(".legend [data-pointed]")).to_have_count(0)
    over = chart.locator(".u-over")
    box = await over.bounding_box()
    assert box is not None
    await over.hover(position={"x": box["width"] / 2, "y": box["height"] / 2})
    await expect(chart.locator(".legend [data-pointed]")).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    await page.mouse.move(5, 5)
    await expect(chart.locator(".legend [data-pointed]")).to_have_count(0)
    # On an empty bus nobody has waited for anything: the server's own telemetry does not count.
    await expect(page.locator(".tile", has_text="Publish latency").locator(".value")).to_have_text("–")


async def test_one_figure_of_messages_stands_at_both_places(
    console: OpenConsole, client: Connect, start_server: StartServer
) -> None:
    server = await asyncio.to_thread(start_server)
    bus = await client(server, client_id="ada")
    for number in range(7):
        await bus.publish("lab:notes", f"{number}")
    await bus.private("ada", "to myself")
    page = await (await console(server)).open()
    tile = page.locator(".tile", has_text="published so far")
    await expect(tile.locator(".value")).to_have_text("7")
    await expect(page.locator(".ticker")).to_contain_text("7 messages")
    await expect(page.locator(".tile", has_text="Connections")).to_contain_text("2 clients")


BLOCKED = """for (const name of ["localStorage", "sessionStorage"]) {
    Object.defineProperty(window, name, { get() { throw new DOMException("blocked", "SecurityError"); } });
}"""


async def test_a_browser_that_blocks_site_data_opens_the_console_all_the_same(
    console: OpenConsole, start_server: StartServer, admin_token: str
) -> None:
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_ANONYMOUS": "0"})
    token = await asyncio.to_thread(server.create_token, "boss", admin=True)
    opened = await console(server)
    page = opened.page
    await page.add_init_script(BLOCKED)
    await page.goto(server.http_url)
    await page.get_by_label("Access token").fill(token)
    await page.get_by_role("button", name="Open the console").click()
    await page.wait_for_selector("#connection.connected")
    await page.locator("#theme").click()
    await expect(page.get_by_text("Forget token").first).to_be_visible()


SETTINGS = {
    "cookie that scripts cannot read": "CSRF_COOKIE_HTTPONLY = True",
    "token in the session": "CSRF_USE_SESSIONS = True",
    "names of its own": 'CSRF_COOKIE_NAME, CSRF_HEADER_NAME = "shop_csrf", "HTTP_X_SHOP_TOKEN"',
}


@pytest.mark.parametrize("kind", SETTINGS)
async def test_logging_out_and_disconnecting_work_under_every_csrf_setting(
    console: OpenConsole, client: Connect, start_server: StartServer, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "odd_settings.py").write_text(f"from arqonbus_site.settings import *\n{SETTINGS[kind]}\n")
    path = {"PYTHONPATH": f"{tmp_path}", "DJANGO_SETTINGS_MODULE": "odd_settings"}
    server = await asyncio.to_thread(start_server, env=path)
    await asyncio.to_thread(server.create_superuser, "root")
    victim = await client(server, client_id="victim", reconnect=False)
    opened = await console(server)
    page = opened.page
    await page.goto(f"{server.http_url}/login/")
    await page.get_by_label("User name").fill("root")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_selector("#connection.connected")
    await opened.go("clients/victim")
    await page.get_by_role("region", name="Detail").get_by_role("button", name="Disconnect").click()
    await page.get_by_role("dialog").get_by_role("button", name="Disconnect").click()
    await expect(page.get_by_text("victim was disconnected")).to_be_visible()
    assert victim.client_id == "victim"
    await expect(page.locator(".client-row:not(.head):not([hidden])", has_text="victim")).to_have_count(0)
    await page.locator(".topbar").get_by_role("button", name="Log out").click()
    await expect(page.locator(".topbar").get_by_role("link", name="Log in")).to_be_visible()


async def test_names_in_tables_are_not_cut_in_two(console: OpenConsole, shared_server: BusServer) -> None:
    page = await (await console(shared_server, viewport={"width": 1440, "height": 900})).open("contracts")
    codes = page.locator("table.plain td code:not(.dim)")
    await expect(codes.first).to_be_visible()
    heights = await codes.evaluate_all("all => all.map((each) => each.getClientRects().length)")
    assert set(heights) == {1}
    await page.goto(f"{shared_server.http_url}/api/asyncapi/")
    await expect(page.get_by_role("link", name="Console")).to_be_visible()
    assert "``" not in await page.locator("main").inner_text()
