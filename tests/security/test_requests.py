"""Requests and handshakes that no browser sends: two meanings in one, other hosts, odd sub-protocols, other places to go to."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bus.api import docs
from bus.commands.base import registry
from bus.contracts import views
from tests.harness.client import WireClient
from tests.harness.server import BusServer
from tests.security.conftest import PRODUCTION, Console

# The database has no part in it.
pytestmark = pytest.mark.embedded

UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def any_server(request: pytest.FixtureRequest, public_server: BusServer) -> Iterator[BusServer]:
    """The shared daphne, and a uvicorn of this module, under its own command."""
    if request.param == "daphne":
        yield public_server
        return
    backends = request.getfixturevalue("backends")
    storage = backends.new_storage()
    server = BusServer(
        storage,
        backends.new_path("server"),
        secret_key=backends.secret_key,
        kind="uvicorn",
        env={**PRODUCTION, "ARQONBUS_HANDSHAKE_TIMEOUT": "1"},
        arguments=("--loop", "asyncio", "--no-access-log"),
    )
    server.start()
    yield server
    server.kill()
    backends.drop_storage(storage)


def answer_to(server: BusServer, request: bytes, *, until: bytes = b"") -> bytes:
    """All that comes back, to the end of the line or to ``until``."""
    with socket.create_connection((server.host, server.port), timeout=10) as line:
        line.sendall(request.replace(b"HOST", b"%b:%d" % (server.host.encode(), server.port)))
        received = b""
        while not until or until not in received:
            try:
                chunk = line.recv(65536)
            except ConnectionResetError:
                break
            if not chunk:
                break
            received += chunk
        return received


def test_a_request_of_two_meanings_is_refused_and_no_second_one_hides_in_it(any_server: BusServer) -> None:
    """Smuggling: what one server takes for a body another one takes for the next request."""
    hidden = b"GET /version HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"
    to = b"POST /api/v1/messages HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
    for headers in (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 2\r\nContent-Length: 30\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 0x2\r\n",
    ):
        received = answer_to(any_server, to + headers + b"\r\n0\r\n\r\n" + hidden)
        assert received.count(b"HTTP/1.1 ") == 1, (headers, received)
        assert b" 400 " in received.partition(b"\r\n")[0], (headers, received)
        assert b"arqonbus" not in received, headers
    broken = answer_to(any_server, to + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n" + hidden)
    assert broken.count(b"HTTP/1.1 ") == 1


def test_another_host_is_refused_and_stands_in_no_link(any_server: BusServer) -> None:
    get = b"GET %b HTTP/1.1\r\nHost: %b\r\n%bConnection: close\r\n\r\n"
    page = b"/api/v1/channels?limit=1"
    for path, host, more in (
        (page, b"evil.example", b""),
        (page, b"HOST", b"Host: evil.example\r\n"),
        (page, b"HOST@evil.example", b""),
        (page, b"HOST.evil.example", b""),
        (page, b"", b""),
        (b"/admin/login/", b"evil.example", b""),
        (b"http://evil.example" + page, b"evil.example", b""),
    ):
        assert b" 400 " in answer_to(any_server, get % (path, host, more)).partition(b"\r\n")[0], (path, host, more)
    for path, more in (
        (page, b"X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n"),
        (b"//evil.example/admin", b""),
        (b"//evil.example/admin/bus", b""),
        (b"/admin/bus", b"X-Forwarded-Host: evil.example\r\n"),
        (b"http://evil.example" + page, b""),
    ):
        received = answer_to(any_server, get % (path, b"HOST", more))
        assert b"evil.example" not in received, (path, received)


def test_odd_handshakes_get_an_answer_and_no_traceback(any_server: BusServer) -> None:
    before = any_server.log().count("Traceback")
    protocols = b"Sec-WebSocket-Protocol: "
    for headers in (
        protocols + b"\xff\xfe, arqonbus.v1\r\n",
        protocols + b"%ff%00, arqonbus.v1\r\n",
        protocols + b"\r\n",
        protocols + b",,,\r\n",
        protocols + b", ".join(b"p%d" % number for number in range(500)) + b"\r\n",
        protocols + b"arqonbus.v1, arqonbus.v1\r\n",
        protocols + b"arqonbus.v1, bearer.\r\n",
        protocols + b"arqonbus.v1, bearer.a, bearer.b, ticket.c\r\n",
        protocols + b"arqonbus.v1\r\n" + protocols + b"bearer.x\r\n",
        b"Authorization: Bearer\r\n",
        b"Authorization: Bearer \xff\xfe\x80\r\n",
        b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        b"Origin: http://a.example\r\nOrigin: http://b.example\r\n",
        b'Cookie: sessionid="\\\r\n',
        b"Cookie: a=b; $Version=1; =;;; \xff\r\n",
        b"X-Forwarded-For: \xff,,;;\x80\r\n",
        b"Sec-WebSocket-Key: x\r\n",
    ):
        received = answer_to(any_server, b"GET / HTTP/1.1\r\nHost: HOST\r\n" + UPGRADE + headers + b"\r\n", until=b"}")
        first = received.partition(b"\r\n")[0]
        # Daphne calls what it cannot read a 500; it is no failure of the bus, and costs one line.
        assert b" 101 " in first or b" 400 " in first or b"codec can't decode" in first, (headers, received)
    for long in (b"/?" + b"a=1&" * 5_000, b"/" + b"x" * 70_000):
        # Refused, or the line is cut at the latest when the time for a handshake is over.
        received = answer_to(any_server, b"GET " + long + b" HTTP/1.1\r\nHost: HOST\r\n" + UPGRADE + b"\r\n")
        assert b" 101 " not in received
    assert any_server.log().count("Traceback") == before


def test_cookies_made_to_be_read_for_seconds_keep_nobody_waiting(any_server: BusServer) -> None:
    """Python's reader of quoted cookies tried each escape anew, up to the end (CVE-2024-7592)."""
    # As long as the server takes a line, and so many that all together would outlast the deadline of the last request.
    for kind in (UPGRADE, b"", b"Accept: application/json\r\n"):
        length, many = (15_000, 40) if any_server.kind == "daphne" else (7_000, 150) if kind == UPGRADE else (60_000, 4)
        bomb = b'Cookie: sessionid="' + b"\\" * length + b'"\r\n'
        path = b"/api/v1/me" if b"json" in kind else b"/"
        host = b"%b:%d" % (any_server.host.encode(), any_server.port)
        address = (any_server.host, any_server.port)
        with contextlib.ExitStack() as open_lines:
            lines = [open_lines.enter_context(socket.create_connection(address, timeout=10)) for _ in range(many)]
            for line in lines:
                line.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (path, host, kind, bomb))
            received = answer_to(any_server, b"GET /version HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n")
            assert b"200 OK" in received
            first = lines[-1].recv(4096).partition(b"\r\n")[0]
            assert (b" 101 " if kind == UPGRADE else b" 400 ") in first


def test_what_strangers_send_costs_a_line_and_not_a_page(any_server: BusServer) -> None:
    """A flood of wrong hosts and addresses: no traceback, and not a line for each."""
    before = any_server.log()
    with httpx.Client(base_url=any_server.http_url) as caller:
        for _ in range(100):
            assert caller.get("/", headers={"Host": "evil.example"}).status_code == 400
            assert caller.get("/nowhere").status_code == 404
    log = any_server.log()[len(before) :]
    assert "Traceback" not in log
    assert 1 <= sum("evil.example" in line or "Not Found" in line for line in log.splitlines()) <= 150


async def test_more_connections_than_files_cost_those_who_are_in_nothing(any_server: BusServer) -> None:
    """The process has no file left for a connection: it serves on, says so in few lines, and takes new ones when it has."""
    before = len(any_server.log())
    limits = resource.prlimit(any_server.pid, resource.RLIMIT_NOFILE)
    async with await WireClient.connect(any_server.url) as client, contextlib.AsyncExitStack() as strangers:
        there = len(os.listdir(f"/proc/{any_server.pid}/fd"))
        resource.prlimit(any_server.pid, resource.RLIMIT_NOFILE, (there + 10, limits[1]))
        try:
            for _ in range(40):
                line = socket.create_connection((any_server.host, any_server.port))
                strangers.callback(line.close)
            for _ in range(100):
                await client.publish("goes on", ack=True)
            any_server.process.wait_for_log("raise the limit of open files")
        finally:
            resource.prlimit(any_server.pid, resource.RLIMIT_NOFILE, limits)
        await strangers.aclose()
        async with await WireClient.connect(any_server.url) as newcomer:
            await newcomer.ping()
    log = any_server.log()[before:]
    assert "Traceback" not in log
    assert sum("open files" in line or "accept" in line for line in log.splitlines()) <= 100


def test_after_the_log_in_nobody_is_sent_elsewhere(public_server: BusServer, console: Console) -> None:
    console.user("next-one", is_staff=True)
    # A log-in takes a third of a second, by design.
    for log_in, places in {
        "/login/": (
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "https:evil.example",
            "\t//evil.example",
        ),
        "/admin/login/": ("javascript:alert(1)", "\\\\evil.example", "///evil.example", "http:///evil.example"),
    }.items():
        for to in places:
            with httpx.Client(base_url=public_server.http_url, headers={"Referer": public_server.http_url}) as browser:
                page = browser.get(log_in, params={"next": to}).text
                assert 'href="' + to not in page
                hidden = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]
                form = {"username": "next-one", "password": "pass-next-one", "csrfmiddlewaretoken": hidden, "next": to}
                answer = browser.post(log_in, params={"next": to}, data=form)
            assert (answer.status_code, answer.headers["location"]) == (302, "/"), (log_in, to)


def test_other_sites_read_nothing_and_no_cache_keeps_what_is_somebodys(
    public_server: BusServer, console: Console
) -> None:
    console.user("cached", is_staff=True, is_superuser=True)
    cookies = {"sessionid": console.session("cached")}
    page = {"Origin": "https://evil.example"}
    with httpx.Client(base_url=public_server.http_url, cookies=cookies, headers=page) as browser:
        for path in (
            "/", "/admin/", "/admin/bus/message/", "/admin/bus/message/1/change/", "/api/v1/me", "/api/v1/tokens",
            "/api/v1/rooms", "/api/v1/messages", "/api/v1/nope", "/ready", "/health", "/metrics", "/version", "/login/",
        ):  # fmt: skip
            answer = browser.get(path)
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")], path
            if answer.status_code != 404:
                assert "no-store" in answer.headers["cache-control"], path
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = browser.options("/api/v1/messages", headers=asked)
        assert preflight.status_code == 405
        assert "access-control-allow-origin" not in preflight.headers


def test_what_anybody_may_ask_for_is_made_once(public_server: BusServer) -> None:
    """The documents take a process tens of milliseconds to make; a thousand askers a second must not keep it from its work."""
    with httpx.Client(base_url=public_server.http_url) as stranger:
        for path in ("/api/openapi.json", "/api/openapi.yaml", "/api/asyncapi.json"):
            # Whatever the first one wants is not what all the others get.
            first, again = stranger.get(f"{path}?version=evil&lang=de"), stranger.get(path)
            assert first.status_code == again.status_code == 200
            assert "evil" not in f"{again.headers}{again.text}"
            assert again.content == first.content
            assert again.headers["content-type"] == first.headers["content-type"]
    # The very same bytes, in this process.
    forms: list[Any] = [*docs.JSONDocument.renderer_classes, *docs.YAMLDocument.renderer_classes]
    for form in forms:
        assert docs.rendered(form) is docs.rendered(form)
    for made in (views._as_json, views._as_page, views._as_text):
        assert made(True) is made(True)
    assert registry["history"].describe() is registry["history"].describe()


def test_a_document_is_made_once_by_whatever_address_it_is_asked_for(any_server: BusServer) -> None:
    """Ports, spellings and prefixes that strangers make up: each stands in the answer, and makes no document of its own."""
    get = b"GET %b HTTP/1.1\r\nHost: %b\r\n%bConnection: close\r\n\r\n"
    answer_to(any_server, get % (b"/llms.txt", b"HOST", b""))
    for port in range(1, 21):
        host = b"%b:%d" % (any_server.host.encode(), port)
        for path in (b"/llms.txt", b"/api/asyncapi.json"):
            assert host in answer_to(any_server, get % (path, host, b"Daphne-Root-Path: /x%d\r\n" % port))
    # Only whether it is for TLS makes another one.
    assert {made.cache_info().maxsize for made in (views._as_json, views._as_page, views._as_text)} == {2}
