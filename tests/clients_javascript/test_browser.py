"""The JavaScript client in Chromium: reloads, tabs, a network that goes and comes, and subscriptions that cross."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

import arqonbus
from tests.harness.browser import expect
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

from .conftest import Node, Run
from .test_other_origin import elsewhere

__all__ = ["elsewhere"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.needs("node"),
    pytest.mark.embedded,
    pytest.mark.asyncio(loop_scope="session"),
]

#: A page of the server, which is allowed to speak to it, with nothing in it but what says how the client does.
PAGE = """async () => {
  document.documentElement.innerHTML = "<body><p id=state></p><ol id=heard></ol></body>";
}"""

CONNECT = """async ([library, url, options]) => {
  const { connect } = await import(library);
  try {
    globalThis.bus = await connect(url, { ...options, onState: (now) => { state.textContent = now; } });
  } catch (problem) {
    return `${problem.name}: ${problem.message}`;
  }
  state.textContent = bus.state;
  return bus.clientId;
}"""

LISTEN = """([address]) => bus.subscribe(address, (message) => {
  const line = document.createElement("li");
  line.textContent = message.text;
  heard.append(line);
}).open().then(() => null)"""


def library(server: BusServer) -> str:
    """Where the module is."""
    return f"{server.http_url}/static/arqonbus/arqonbus.js"


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A visitor's browser, with cookies and storage of its own."""
    made = await browser.new_context()
    yield made
    await made.close()


async def visit(context: BrowserContext, server: BusServer) -> Page:
    """A page of the server's own origin, without anything of the console in it."""
    page = await context.new_page()
    await page.goto(f"{server.http_url}/version")
    await page.evaluate(PAGE)
    return page


async def connect(page: Page, server: BusServer, url: str | None = None, **options: object) -> str:
    """Connect in a page; the client's id, or what went wrong."""
    said: str = await page.evaluate(CONNECT, [library(server), url or server.url, options])
    return said


async def test_a_page_that_is_reloaded_is_the_same_client_with_the_letters_of_the_meantime(
    context: BrowserContext, shared_server: BusServer
) -> None:
    page = await visit(context, shared_server)
    me = await connect(page, shared_server, identity="visitor")
    assert me.startswith("me-")
    assert await page.evaluate("bus.identityKept")
    async with arqonbus.connect(shared_server.url) as other:
        for number in range(3):
            await page.reload()
            await other.private(me, f"letter {number}")
            await page.evaluate(PAGE)
            assert await connect(page, shared_server, identity="visitor") == me
        heard = await page.evaluate(
            "async () => { const inbox = bus.inbox({ since: 0 }); const texts = [];"
            " for (let i = 0; i < 3; i += 1) texts.push((await inbox.next()).value.text); return texts; }"
        )
    assert heard == ["letter 0", "letter 1", "letter 2"]


async def test_who_logs_in_after_somebody_else_is_another_client(
    context: BrowserContext, shared_server: BusServer
) -> None:
    page = await visit(context, shared_server)
    ada, bob = [await asyncio.to_thread(shared_server.create_token, f"identity-{name}") for name in ("ada", "bob")]
    nobody = await connect(page, shared_server, identity="visitor")
    clients = [nobody]
    for token in (ada, ada, bob, bob, None):
        await page.evaluate("bus.close()")
        clients.append(await connect(page, shared_server, identity="visitor", token=token))
    # Who logs in stays the client that nobody was; who comes after that is neither.
    assert clients[0] == clients[1] == clients[2]
    assert clients[3] == clients[4]
    assert all(client.startswith("me-") for client in clients)
    assert len(set(clients)) == 3


async def test_a_second_tab_is_told_and_waits_if_it_likes(context: BrowserContext, shared_server: BusServer) -> None:
    first, second = await visit(context, shared_server), await visit(context, shared_server)
    me = await connect(first, shared_server, identity="shared")
    assert await connect(second, shared_server, identity="shared") == (
        'IdentityInUse: Another page of this browser is connected with the identity "shared".'
    )
    other = await connect(second, shared_server, identity="another")
    assert other != me
    assert await first.evaluate("[bus.state, bus.connections]") == ["connected", 1]
    waiting = asyncio.create_task(connect(second, shared_server, identity="shared", wait=None))
    await first.evaluate("bus.close()")
    assert await waiting == me


async def test_without_locks_the_newest_tab_has_the_identity_and_the_older_one_ends(
    context: BrowserContext, shared_server: BusServer
) -> None:
    # As on an origin that is not secure.
    await context.add_init_script("Object.defineProperty(navigator, 'locks', { value: undefined })")
    first, second = await visit(context, shared_server), await visit(context, shared_server)
    me = await connect(first, shared_server, identity="shared")
    assert await connect(second, shared_server, identity="shared") == me
    await expect(first.locator("#state")).to_have_text("closed")
    assert await first.evaluate("bus.failure.closeCode") == 4410
    await second.evaluate("bus.ping()")
    assert await second.evaluate("[bus.state, bus.connections]") == ["connected", 1]


async def test_where_the_browser_blocks_storage_the_identity_ends_with_the_page_and_it_says_so(
    context: BrowserContext, shared_server: BusServer, elsewhere: str
) -> None:
    page = await context.new_page()
    await page.goto(elsewhere)
    warnings: list[str] = []
    page.on("console", lambda said: warnings.append(said.text))
    # A sandboxed frame is refused storage and locks as a page with site data blocked is.
    await page.evaluate(
        "() => new Promise((done) => { const frame = document.createElement('iframe'); frame.sandbox = 'allow-scripts';"
        " frame.srcdoc = '<p id=state></p>'; frame.onload = done; document.body.append(frame); })"
    )
    frame = page.frames[-1]
    token = await asyncio.to_thread(shared_server.create_token, "blocked-storage")
    options = {"identity": "blocked", "token": token}
    me: str = await frame.evaluate(CONNECT, [library(shared_server), shared_server.url, options])
    assert me.startswith("me-"), me
    assert await frame.evaluate("bus.identityKept") is False
    assert any("no storage is available" in text for text in warnings)


@pytest.fixture
def line(node: Run, shared_server: BusServer) -> Callable[[], tuple[Node, str]]:
    """Make lines to the server that can break and go dead; each with its URL."""

    def make() -> tuple[Node, str]:
        run = node("line", shared_server, delay=5)
        return run, str(run.expect("line")["url"])

    return make


async def test_a_line_that_went_dead_is_found_when_the_browser_tells_of_a_change(
    context: BrowserContext, shared_server: BusServer, fresh_room: str, line: Callable[[], tuple[Node, str]]
) -> None:
    """With a heartbeat of an hour nothing else can find it. Each kind of change has a page and a line of its own."""
    kinds = (
        "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))",
        "document.dispatchEvent(new Event('visibilitychange'))",
        "document.dispatchEvent(new Event('resume'))",
    )

    async def happens(page: Page, kind: str) -> None:
        await page.evaluate(f"() => {{ {kind}; }}")

    async def hears(kind: str, address: str) -> None:
        await _finds_a_dead_line(context, shared_server, address, line, lambda page: happens(page, kind))

    await asyncio.gather(*(hears(kind, f"{fresh_room}:{number}") for number, kind in enumerate(kinds)))


async def test_a_line_that_went_dead_is_found_when_the_browser_has_no_network(
    context: BrowserContext, shared_server: BusServer, fresh_room: str, line: Callable[[], tuple[Node, str]]
) -> None:
    async def offline(page: Page) -> None:
        await context.set_offline(True)

    await _finds_a_dead_line(context, shared_server, f"{fresh_room}:x", line, offline)


async def _finds_a_dead_line(
    context: BrowserContext,
    server: BusServer,
    address: str,
    line: Callable[[], tuple[Node, str]],
    change: Callable[[Page], Awaitable[None]],
) -> None:
    """Check that a page keeps a healthy line after ``change``, and finds a dead one by it."""
    run, url = await asyncio.to_thread(line)
    page = await visit(context, server)
    await connect(page, server, url, heartbeat=3_600_000)
    await page.evaluate(LISTEN, [address])
    state, heard = page.locator("#state"), page.locator("#heard li")
    async with arqonbus.connect(server.url) as other:
        await change(page)
        await context.set_offline(False)
        await other.publish(address, "one")
        await expect(heard).to_have_text(["one"])
        assert await page.evaluate("bus.connections") == 1
        run.tell("hush")
        await asyncio.to_thread(run.expect, "hush")
        await other.publish(address, "two")
        await change(page)
        await expect(state).to_have_text("reconnecting")
        run.tell("mend")
        await context.set_offline(False)
        await expect(heard).to_have_text(["one", "two"])


async def test_subscriptions_that_cross_in_a_page(
    context: BrowserContext,
    shared_server: BusServer,
    fresh_room: str,
    line: Callable[[], tuple[Node, str]],
    elsewhere: str,
) -> None:
    run, url = await asyncio.to_thread(line)
    token = await asyncio.to_thread(shared_server.create_token, f"crossing-{fresh_room}")
    page = await context.new_page()
    # The server's own pages let nobody bring code to them.
    await page.goto(elsewhere)

    async def cut() -> None:
        run.tell("cut")
        await asyncio.to_thread(run.expect, "cut")

    await page.expose_function("cut", cut)
    model = (PROJECT_ROOT / "tests/clients_javascript/crossing.mjs").read_text()
    faults = await page.evaluate(
        """async ([library, url, line, token, room, source, seeds]) => {
          const { Backoff, connect } = await import(library);
          const { crossing } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
          const faults = [];
          for (const seed of seeds) {
            const other = await connect(url, { token });
            const bus = await connect(line, { token, backoff: new Backoff({ first: 5, most: 20 }) });
            faults.push(...await crossing({ bus, other, room, seed, steps: 60, cut }));
            bus.close();
            other.close();
          }
          return faults;
        }""",
        [library(shared_server), shared_server.url, url, token, fresh_room, model, [101, 102, 103]],
    )
    assert faults == []
