"""In development mode everybody may come in without credentials, and only from this machine's own pages.

Any page that a developer looks at may open a socket to localhost; its browser says which page it is.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from bus.realtime.frame import masked_frame
from tests.conftest import _servers
from tests.harness.backends import Backends
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until

# The database has no part in it.
pytestmark = pytest.mark.embedded

OURS = "https://app.example.com"
#: Pages that may, as their browser tells of them; PORT is the server's. None: no browser.
LET_IN = [
    None, "http://127.0.0.1:PORT", "http://localhost:PORT", "http://localhost:5173", "http://127.0.0.1:3000",
    "http://[::1]:8080", "https://localhost", "http://app.localhost:3000", OURS,
]  # fmt: skip
#: Pages that may not, with the host by which they come, where it is another.
REFUSED = [
    ("https://evil.example", ""),
    ("null", ""),
    ("", ""),
    ("file://", ""),
    ("chrome-extension://abcdefgh", ""),
    ("http://localhost.evil.example:PORT", ""),
    ("http://127.0.0.1.evil.example", ""),
    ("http://localhost@evil.example", ""),
    ("http://192.168.1.5:PORT", ""),
    ("https://app.example.com.evil.example", ""),
    # A name of somebody else's that leads here: the page is of the same site as the server, for its browser.
    ("http://evil.example:PORT", "evil.example:PORT"),
    ("http://127.0.0.1:PORT", "evil.example:PORT"),
    (None, "evil.example:PORT"),
    (None, "192.168.1.5:PORT"),
]


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest, backends: Backends) -> Iterator[BusServer]:
    """A development server of either kind."""
    storage = backends.new_storage()
    with _servers(backends, storage) as start:
        yield start(request.param, env={"ARQONBUS_ALLOWED_ORIGINS": OURS})
    backends.drop_storage(storage)


def of(server: BusServer, text: str) -> str:
    """With the server's port."""
    return text.replace("PORT", str(server.port))


def answer_of_socket(server: BusServer, path: bytes, origin: str | None, host: str) -> bytes:
    """All that a socket says to the first frame of a page, until that is known."""
    headers = f"Host: {of(server, host or '127.0.0.1:PORT')}\r\n"
    if origin is not None:
        headers += f"Origin: {of(server, origin)}\r\n"
    with socket.create_connection((server.host, server.port), timeout=20) as line:
        line.sendall(
            b"GET " + path + b" HTTP/1.1\r\n" + headers.encode() + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        received = b""
        said = False
        while b'"resume_token"' not in received and b'"ORIGIN_REFUSED"' not in received:
            chunk = line.recv(65_536)
            if not chunk:
                break
            received += chunk
            if not said and b"\r\n\r\n" in received and path == b"/":
                said = True
                line.sendall(masked_frame(b'{"client_type": "app"}', b"abcd"))
            if b"telemetry_connected" in received:
                break
        return received


def headers_of(server: BusServer, origin: str | None, host: str) -> dict[str, str]:
    """The headers of a request from such a page."""
    named = {"Host": of(server, host)} if host else {}
    return named if origin is None else {**named, "Origin": of(server, origin)}


@pytest.mark.parametrize("origin", LET_IN)
def test_this_machines_own_pages_and_those_that_are_named_come_in(server: BusServer, origin: str | None) -> None:
    assert b'"resume_token"' in answer_of_socket(server, b"/", origin, "")
    assert b'"receiving":true' in answer_of_socket(server, b"/telemetry/", origin, "")
    with httpx.Client(base_url=server.http_url, headers=headers_of(server, origin, "")) as page:
        assert page.get("/api/v1/rooms").status_code == 200
        assert page.post("/api/v1/channels/lab:dev/messages", json={"message": "x"}).status_code in (200, 201)


@pytest.mark.parametrize(("origin", "host"), REFUSED)
def test_no_other_page_reads_or_writes(server: BusServer, origin: str | None, host: str) -> None:
    answer = answer_of_socket(server, b"/", origin, host)
    # Autobahn refuses by itself what is no origin at all.
    by_the_server = b" 400 " in answer.partition(b"\r\n")[0]
    assert by_the_server or (b'"ORIGIN_REFUSED"' in answer and b"ALLOWED_HOSTS" in answer), "it says what to do"
    assert b"resume_token" not in answer
    # It is asked for a token there, and told nothing.
    telemetry = answer_of_socket(server, b"/telemetry/", origin, host)
    assert by_the_server or b'"receiving":false' in telemetry
    assert b'"receiving":true' not in telemetry
    with httpx.Client(base_url=server.http_url, headers=headers_of(server, origin, host)) as page:
        for answered in (
            page.get("/api/v1/rooms"),
            page.get("/api/v1/channels/integriguard:dashboard-events/messages"),
            page.get("/api/v1/channels/integriguard:dashboard-events/events"),
            page.post("/api/v1/channels/lab:dev/messages", json={"message": "x"}),
            page.post("/api/v1/messages", json=[{"message": "x"}]),
        ):
            refused = answered.status_code == 403 and answered.json()["error"]["code"] == "ORIGIN_REFUSED"
            assert refused or (host and answered.status_code == 400), answered.text
        if host:
            for path in ("/", "/metrics", "/ready", "/version", "/api/asyncapi.json", "/llms.txt", "/login/"):
                assert page.get(path).status_code == 400, path


def test_the_log_names_the_page(server: BusServer) -> None:
    answer_of_socket(server, b"/", "https://seen.example", "")
    wait_until(lambda: "https://seen.example" in server.log(), "a line tells of it")
