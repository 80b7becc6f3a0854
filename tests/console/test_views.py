"""The other views: commands, clients, agents, charts, telemetry, operations, contracts; keys, themes and phones."""

from __future__ import annotations

import json
import re

import pytest
from websockets.asyncio.client import connect as connect_socket

from bus.commands import registry
from bus.protocol.errors import CLOSE_CODES, ERRORS
from tests.harness.browser import expect
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

from .conftest import Connect, OpenConsole

pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]


async def test_commands_are_completed_from_help_and_their_raw_frames_are_shown(
    console: OpenConsole, shared_server: BusServer, fresh_room: str
) -> None:
    page = await (await console(shared_server)).open("commands")
    prompt = page.get_by_label("Command", exact=True)
    await prompt.click()
    await prompt.press_sequentially("list_c")
    await expect(page.get_by_role("option", name="list_channels")).to_be_visible()
    await prompt.press("Tab")
    await expect(prompt).to_have_value("list_channels ")
    await expect(page.locator(".completion").get_by_text("room", exact=True)).to_be_visible()
    await prompt.press_sequentially("ro")
    await prompt.press("Tab")
    await prompt.press_sequentially("science")
    await prompt.press("Escape")
    await prompt.press("Enter")
    await expect(page.locator(".log .outcome.good")).to_be_visible()
    await expect(page.locator(".log .json")).to_contain_text('"channel": "explore"')
    frames = page.locator(".frame-row:not([hidden])")
    await expect(frames.filter(has_text='"command":"list_channels","parameters":{"room":"science"}')).to_have_count(1)
    await expect(frames.filter(has_text='"command_response"').first).to_be_visible()
    # A refused command says why, with the way to the explanation; a frame of one's own goes out as it is.
    await prompt.fill(f"channel_info channel={fresh_room}:nowhere")
    await prompt.press("Enter")
    await expect(page.locator(".log .outcome.bad")).to_contain_text("CHANNEL_NOT_FOUND")
    await prompt.fill('{"type": "command", "command": "ping", "id": "by-hand"}')
    await prompt.press("Enter")
    await expect(frames.filter(has_text='"request_id":"by-hand"')).to_have_count(1)
    await prompt.press("ArrowUp")
    await expect(prompt).to_have_value('{"type": "command", "command": "ping", "id": "by-hand"}')


async def test_clients_are_listed_with_what_they_are_and_an_admin_sends_one_away(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str, admin_token: str
) -> None:
    name = f"worker-{fresh_room}"
    bus = await client(
        shared_server, client_id=name, client_type="ai-agent", screen_name="Worker", avatar="🤖", room=f"{fresh_room}:a",
        personality={"mood": "calm"}, reconnect=False,
    )  # fmt: skip
    opened = await console(shared_server, token=admin_token)
    page = await opened.open("clients")
    await page.get_by_label("Find a client").fill(name)
    row = page.locator(".client-row:not(.head):not([hidden])")
    await expect(row).to_have_count(1)
    await expect(row.locator(".badge")).to_have_text("ai-agent")
    await expect(row.locator(".channels")).to_have_text(f"{fresh_room}:a")
    await expect(row.locator(".who")).to_contain_text("Worker")
    # What was told of a client is newer than the list, which knows it as of the last heartbeat.
    newer = await page.evaluate(
        """async () => {
            const { freshen } = await import("/static/arqonbus/console/views/clients.js");
            const [then, now] = [Date.now() - 5000, Date.now()];
            const last_activity = new Date(then).toISOString();
            const told = [{ client_id: "busy", at: now - 60 }, { client_id: "busy", at: now }];
            const rows = freshen([{ client_id: "busy", last_activity }, { client_id: "idle", last_activity }], told);
            return rows.map((each) => [Date.parse(each.last_activity) - then, each.rate]);
        }"""
    )
    assert newer == [[5000, 0.2], [0, 0]]
    await row.click()
    detail = page.get_by_role("region", name="Detail")
    await expect(detail.get_by_text("🤖")).to_be_visible()
    await expect(detail.get_by_text('"calm"')).to_be_visible()
    inbox = await bus.inbox().open()
    await detail.get_by_role("button", name="Message").click()
    await page.get_by_placeholder("Text").last.fill("time to go")
    await page.get_by_role("button", name="Send").click()
    assert (await inbox.get(10)).text == "time to go"
    await detail.get_by_role("button", name="Disconnect").click()
    await page.get_by_role("dialog").get_by_role("button", name="Disconnect").click()
    await expect(row).to_have_count(0)
    await expect(page.get_by_text("was disconnected")).to_be_visible()
    await opened.go("operations")
    await expect(page.get_by_role("region", name="Audit log").get_by_text(name).first).to_be_visible()


async def test_figures_charts_agents_and_telemetry_move_while_something_happens(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    opened = await console(shared_server)
    page = await opened.open()
    agent = await client(
        shared_server, client_id=f"agent-{fresh_room}", client_type="ai-agent", screen_name="Agent Smith"
    )
    await agent.private(agent.client_id, "a note to myself")
    for number in range(20):
        await agent.publish(f"{fresh_room}:work", f"step {number}")
    await expect(page.locator(".chart canvas")).to_have_count(4)
    await expect(page.get_by_label("Messages a second").locator(".legend")).to_contain_text("in")
    # The figures of the page are those of the server.
    ever = page.locator(".tile", has_text="published so far").locator(".value")
    await expect(ever).to_have_text(re.compile(r"\d"))
    await expect(page.get_by_role("img", name=re.compile(f"agent-{fresh_room}: \\d+"))).to_be_visible()
    await page.get_by_role("button", name="5 min").click()
    await opened.go("agents")
    done = page.locator(".feed-row", has_text="Agent Smith").locator(".content")
    await expect(done.first).to_have_text(f"event in {fresh_room}:work")
    await expect(done.filter(has_text="private")).to_have_text("private")
    await expect(page.get_by_role("img", name=re.compile(f"agent-{fresh_room}: \\d+"))).to_be_visible()
    await opened.go("telemetry")
    await expect(page.get_by_text("telemetry socket", exact=True)).to_be_visible()
    async with connect_socket(shared_server.telemetry_url) as socket:
        await socket.recv()
        await socket.send(json.dumps({"eventType": "deploy", "payload": {"version": fresh_room}}))
        row = page.locator(".feed-row", has_text=fresh_room).filter(has_text="deploy")
        await expect(row).to_have_count(1)
        await expect(row.locator(".content")).to_have_text(f"version={fresh_room}")
    await row.click()
    await expect(page.get_by_role("region", name="Detail").get_by_text(f'"{fresh_room}"')).to_be_visible()
    await page.get_by_label("Kind of event").select_option("client_connected")
    await expect(page.locator(".feed-row:not([hidden])").first).to_contain_text("client_connected")


async def test_operations_show_the_processes_with_their_figures_to_admins_and_say_no_to_others(
    console: OpenConsole, client: Connect, shared_server: BusServer, admin_token: str, fresh_room: str
) -> None:
    bus = await client(shared_server)
    await bus.publish("a room:x", "?", ack=False)
    await (await client(shared_server, token=admin_token)).create_channel(f"{fresh_room}:made")
    await bus.publish(f"{fresh_room}:made", "!")
    stopped = "name, pattern, started_at, seen_at) VALUES ('billing', '*', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
    shared_server.storage.execute(f"INSERT INTO bus_handler ({stopped}")
    shared_server.storage.execute(
        "INSERT INTO bus_handlerposition"
        " (handler_id, channel_id, seq, epoch, holder, attempt, state, error, handled, failed, lost, moved_at)"
        " SELECT h.id, c.id, 0, '', '', 5, 'stopped', 'KeyError (9f2c)', 0, 5, 0, CURRENT_TIMESTAMP"
        f" FROM bus_handler h, bus_channel c JOIN bus_room r ON c.room_id = r.id WHERE r.name = '{fresh_room}'"
    )
    page = await (await console(shared_server, token=admin_token)).open("operations")
    handlers = page.get_by_role("region", name="Handlers")
    await expect(handlers.get_by_text(f"{fresh_room}:made #1")).to_be_visible()
    await expect(handlers.get_by_text("KeyError (9f2c)")).to_be_visible()
    await handlers.get_by_role("button", name="Skip").click()
    await expect(handlers.get_by_text("KeyError (9f2c)")).to_have_count(0)
    nodes = page.get_by_role("region", name="Nodes")
    await expect(nodes.get_by_text(re.compile(rf":{shared_server.pid}$"))).to_be_visible()
    await expect(nodes.get_by_text("database ok")).to_be_visible()
    await expect(page.get_by_role("region", name="Refusals").get_by_text("INVALID_NAME")).to_be_visible()
    audit = page.get_by_role("region", name="Audit log")
    await expect(audit.get_by_text(f"{fresh_room}:made").last).to_be_visible()
    await expect(audit.get_by_text("handler.skip")).to_be_visible()
    # And asks for nothing that would be refused: the browser's console stays clean.
    page = await (await console(shared_server)).open("operations")
    await expect(page.get_by_text("Processes and the audit log are for admins.")).to_be_visible()


async def test_every_error_close_code_and_command_is_explained_and_the_contracts_are_there(
    console: OpenConsole, shared_server: BusServer
) -> None:
    opened = await console(shared_server)
    page = await opened.open("contracts")
    errors = page.get_by_role("region", name="Errors")
    shown = await errors.locator("tbody tr").evaluate_all("rows => rows.map(row => [row.id, row.cells[2].textContent])")
    assert dict(shown) == {code: kind.text.replace("`", "") for code, kind in ERRORS.items()}
    await expect(errors.locator("#UNKNOWN_COMMAND td").nth(2).locator("code")).to_have_text("help")
    codes = await page.get_by_role("region", name="Close codes").locator("tbody td:first-child").all_inner_texts()
    assert codes == [str(code) for code in CLOSE_CODES]
    commands = page.get_by_role("region", name="Commands")
    await expect(commands.locator("tbody tr")).to_have_count(len(registry))
    for link in await page.locator("a.tile").all():
        path = await link.get_attribute("href")
        assert path is not None
        assert shared_server.get(path)[0] == 200, path
    # Links of errors lead to their row.
    await opened.go("contracts?code=RATE_LIMITED")
    await expect(page.locator("tr.marked")).to_have_attribute("id", "RATE_LIMITED")


async def test_the_keyboard_is_enough(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:keys"
    bus = await client(shared_server)
    for text in ("first", "second", "third"):
        await bus.publish(address, text)
    page = await (await console(shared_server)).open()
    await page.keyboard.press("f")
    await page.keyboard.type(address)
    await expect(page.locator(".tree-row.channel:not([hidden])")).to_have_count(1)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("third")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    detail = page.get_by_role("region", name="Detail")
    await expect(detail.locator(".said")).to_have_text("second")
    await page.keyboard.press("Escape")
    await expect(detail).to_be_hidden()
    await page.keyboard.press("c")
    await page.keyboard.type("typed blindly")
    await page.keyboard.press("Enter")
    await expect(page.locator(".message").get_by_text("typed blindly")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("9")
    await expect(page.get_by_role("heading", name="Contracts")).to_be_visible()


async def test_who_hears_the_page_is_told_what_each_thing_is(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    bus = await client(shared_server)
    for name in ("one", "two"):
        await bus.publish(f"{fresh_room}:{name}", f"text of {name}")
    page = await (await console(shared_server)).open()
    tree = page.get_by_role("tree", name="Rooms and channels")
    await page.get_by_label("Find a room or channel").fill(fresh_room)
    room = tree.get_by_role("treeitem", name=f"Room {fresh_room}")
    await expect(room).to_have_attribute("aria-expanded", "true")
    await expect(tree.get_by_role("treeitem", name="one, 0 members, 1 message")).to_have_attribute("aria-level", "2")
    # The arrows walk; Enter opens what they stand on.
    await tree.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp"):
        await page.keyboard.press(key)
    chosen = tree.get_by_role("treeitem", selected=True)
    await expect(tree).to_have_attribute("aria-activedescendant", await chosen.get_attribute("id") or "?")
    await expect(chosen).to_have_attribute("aria-setsize", "3")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name=f"{fresh_room}:one")).to_be_visible()
    await expect(page.get_by_role("listbox", name=f"Messages of {fresh_room}:one")).to_be_visible()
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("button", name="Resume")).to_have_attribute("aria-pressed", "true")
    nameless = """() => [...document.querySelectorAll("button, a, input, select, textarea")].filter((each) => each.offsetParent
        && !(each.getAttribute("aria-label") || each.labels?.length || each.title || each.textContent.trim()))
        .map((each) => each.outerHTML)"""
    for view in (
        "overview",
        f"messages/{fresh_room}:one",
        "clients",
        "agents",
        "telemetry",
        "commands",
        "operations",
        "start",
    ):
        await page.evaluate("path => { location.hash = `#/${path}` }", view)
        await expect(page.locator("main .view")).to_be_visible()
        assert await page.evaluate(nameless) == [], view


async def test_a_page_whose_socket_does_not_open_says_what_to_look_at(
    console: OpenConsole, shared_server: BusServer
) -> None:
    opened = await console(shared_server)
    opened.allowed.append("WebSocket")
    # As of a site that is served without its sockets: the page comes, and nothing answers the handshake.
    await opened.page.route_web_socket("**/*", lambda socket: socket.close())
    await opened.page.goto(f"{shared_server.http_url}/")
    waiting = opened.page.get_by_role("status").filter(has_text="No answer yet from")
    await expect(waiting).to_contain_text(shared_server.url)
    await expect(opened.page.get_by_text("asgi.py")).to_be_visible()


async def test_a_page_without_its_files_says_who_has_to_serve_them(
    console: OpenConsole, shared_server: BusServer
) -> None:
    opened = await console(shared_server)
    opened.allowed.append("Failed to load resource")
    await opened.page.route("**/static/**", lambda route: route.abort())
    await opened.page.goto(f"{shared_server.http_url}/")
    await expect(opened.page.get_by_text("collectstatic")).to_be_visible()


async def test_dark_and_light_follow_the_system_and_the_visitor(console: OpenConsole, shared_server: BusServer) -> None:
    page = await (await console(shared_server, color_scheme="light")).open()
    colour = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(colour)
    await page.get_by_role("button", name="Dark or light").click()
    dark = await page.evaluate(colour)
    assert light != dark
    await page.reload()
    await page.wait_for_selector("#connection.connected")
    assert await page.evaluate(colour) == dark
    assert await (await (await console(shared_server, color_scheme="dark")).open()).evaluate(colour) == dark


async def test_a_phone_gets_every_view_without_scrolling_sideways(
    console: OpenConsole, client: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    bus = await client(shared_server)
    await bus.publish(f"{fresh_room}:phone", "a text that is much longer than a phone is wide, " * 3)
    await bus.publish(f"{'n' * 64}:{'c' * 64}", "x" * 5000)
    opened = await console(shared_server, viewport={"width": 375, "height": 720}, has_touch=True, is_mobile=True)
    page = await opened.open()
    views = [
        "overview",
        f"messages/{fresh_room}:phone",
        "clients",
        "agents",
        "telemetry",
        "commands",
        "operations",
        "contracts",
        "start",
        f"messages/{'n' * 64}:{'c' * 64}",
    ]
    # 320 is a page of 1280 at 400 % (WCAG 1.4.10).
    for width in (320, 375):
        await page.set_viewport_size({"width": width, "height": 720})
        for view in views:
            await opened.go(view)
            await expect(page.locator("main .view")).to_be_visible()
            wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, (width, view)
            # Nor is anything cut off inside, but for the code and the tables, which scroll by themselves.
            parts = page.locator("main .scroll, main .pane-head, main .error-table")
            cut = await parts.evaluate_all("all => all.filter(each => each.scrollWidth > each.clientWidth).length")
            assert cut == 0, (width, view)
    await page.get_by_role("button", name="Menu").click()
    await page.get_by_label("Find a room or channel").fill(fresh_room)
    await page.locator(".tree-row.channel:not([hidden])").first.click()
    await page.locator(".message").first.click()
    await expect(page.get_by_role("region", name="Detail")).to_be_in_viewport()
    await expect(page.get_by_role("button", name="Publish")).to_be_attached()


async def test_the_page_is_the_very_client_of_the_repository_under_a_strict_policy(shared_server: BusServer) -> None:
    status, served = shared_server.get("/static/arqonbus/arqonbus.js")
    assert status == 200
    assert served == (PROJECT_ROOT / "clients" / "javascript" / "arqonbus.js").read_bytes()
    _, page = shared_server.get("/")
    html = page.decode()
    assert not re.search(r"<script(?![^>]*(src=|application/json))[^>]*>|<style|\sstyle=|\son\w+=", html)
    console = PROJECT_ROOT / "bus" / "static" / "arqonbus" / "console"
    code = "".join(path.read_text() for path in console.rglob("*.js"))
    assert not re.search(
        r"\.(innerHTML|outerHTML)\b(?!`)|insertAdjacentHTML|document\.write|\beval\(|new Function", code
    )


async def test_the_pages_scripts_know_no_address_but_those_they_are_given() -> None:
    # In a project of somebody else everything lies below a prefix.
    for script in (PROJECT_ROOT / "bus" / "static" / "arqonbus" / "console").rglob("*.js"):
        assert not re.findall(
            r"""["'`]/(?:api|metrics|ready|health|version|admin|static|telemetry)\b""", script.read_text()
        ), script
