"""The JavaScript client on a page of another site, in Chromium: identified by tickets, over restarts and a lost network."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

import arqonbus
from tests.conftest import StartServer
from tests.harness.browser import expect
from tests.harness.server import BusServer, http_request

pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.asyncio(loop_scope="session")]

PAGE = b"""<!doctype html><title>elsewhere</title><p id=state></p><ol id=heard></ol>"""

#: What its script does: `ticket` asks the page's own back end, here the test.
FOLLOW = """async ([library, url, address]) => {
  const { connect } = await import(library);
  const bus = await connect(url, {
    clientId: "visitor", ticket: () => fetchTicket(), onState: (now) => { state.textContent = now; },
  });
  globalThis.bus = bus;
  state.textContent = bus.state;
  bus.subscribe(address, { since: 0 }, (message) => {
    const line = document.createElement("li");
    line.textContent = `${message.seq} ${message.text}`;
    heard.append(line);
  });
  return bus.registered.client_id;
}"""


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The page, whatever is asked for."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of a site that is not the bus's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{site.server_address[1]}/"
        site.shutdown()
        thread.join()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, elsewhere: str) -> AsyncIterator[Page]:
    """A visitor of that site."""
    context = await browser.new_context()
    made = await context.new_page()
    await made.goto(elsewhere)
    yield made
    await context.close()


class BackEnd:
    """The other site's back end: it has a token of the bus and buys tickets for its visitors."""

    def __init__(self, server: BusServer) -> None:
        self.server = server
        self.token = server.create_token("elsewhere")
        self.sold = 0

    def ticket(self) -> str:
        """One more."""
        headers = {"Authorization": f"Bearer {self.token}"}
        status, body = http_request(f"{self.server.http_url}/api/v1/tickets", "POST", {}, headers)
        assert status == 201, body
        self.sold += 1
        return str(json.loads(body)["ticket"])


async def test_a_page_of_another_site_comes_in_with_a_ticket_for_each_connection_and_misses_nothing(
    start_server: StartServer, page: Page
) -> None:
    server = start_server(env={"ARQONBUS_ANONYMOUS": "0", "ARQONBUS_RETRY_SPREAD": "0.1"})
    back_end = BackEnd(server)
    await page.expose_function("fetchTicket", back_end.ticket)
    library = f"{server.http_url}/static/arqonbus/arqonbus.js"
    address = "news:today"
    assert await page.evaluate(FOLLOW, [library, server.url, address]) == "visitor"
    heard, state = page.locator("#heard li"), page.locator("#state")
    async with arqonbus.connect(server.url, token=back_end.token, client_id="editor") as bus:
        await bus.publish(address, "before")
        await expect(heard).to_have_text(["1 before"])

    # While the server is away the back end cannot sell tickets either: that must not be the end.
    server.kill()
    await expect(state).to_have_text("reconnecting")
    server.start()
    async with arqonbus.connect(server.url, token=back_end.token, client_id="editor", wait=20) as bus:
        await bus.publish(address, "after")
        await expect(heard).to_have_text(["1 before", "2 after"])
        assert back_end.sold >= 2

        # A network that is gone and comes back: the page is told at once, and catches up.
        await page.context.set_offline(True)
        await page.evaluate("bus._line.link?.close(1006)")
        await expect(state).to_have_text("reconnecting")
        await bus.publish(address, "meanwhile")
        await page.context.set_offline(False)
        await expect(heard).to_have_text(["1 before", "2 after", "3 meanwhile"])


async def test_without_a_ticket_it_is_told_what_it_needs(shared_server: BusServer, page: Page) -> None:
    library = f"{shared_server.http_url}/static/arqonbus/arqonbus.js"
    said = await page.evaluate(
        """async ([library, url]) => {
          const { connect } = await import(library);
          const fails = () => { throw new Error("no back end"); };
          const attempts = [{ ticket: "arq_tkt_once" }, { ticket: fails }, { token: "wrong" }];
          return Promise.all(attempts.map((each) => connect(url, each).then(() => "in", (problem) => problem.message)));
        }""",
        [library, shared_server.url],
    )
    assert "Give a function" in said[0]
    assert said[1] == "The function for the ticket failed: no back end"
    assert "UNAUTHENTICATED" in said[2]
