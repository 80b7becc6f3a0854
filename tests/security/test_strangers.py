"""Whatever state a stranger keeps a connection in before it is identified: what it can make the server hold is bounded, and ends.

The table has each state that a line can be in (TLS aside). Each is tried on many lines at once, with as many bytes as the server
takes; the most memory that the process had meanwhile is compared with what it had before.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bus.realtime.frame import masked_frame
from tests.conftest import _servers
from tests.harness.backends import Backends
from tests.harness.server import BusServer
from tests.harness.waiting import DeadlineExceededError, wait_until
from tests.security.conftest import PRODUCTION
from tests.security.test_limits import counted

# The database has no part in it.
pytestmark = pytest.mark.embedded

#: Lines of each state, and the most that one of them sends.
LINES, MOST = 20, 3 * 1024 * 1024
#: What the process may grow by, for each line and in all: its buffers, and what the allocator keeps of them.
PER_LINE, SLACK = 300_000, 24 * 1024 * 1024
MASK = b"\x0a\xf1\x80\x07"

HOST = b"Host: 127.0.0.1\r\n"
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)
HANDSHAKE = b"GET / HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n"
POST = b"POST /api/v1/messages HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
FILE = b"/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
#: That file is longer than anything else that a stranger may ask for.
FILE_BYTES = 1_700_000


def frame(payload: bytes, kind: int, *, final: bool = True) -> bytes:
    """A client's frame."""
    return masked_frame(payload, MASK, first=(0x80 if final else 0) | kind)


@dataclass(frozen=True)
class State:
    """How a line gets there: what it says first, whether it waits for the answer, what it says then again and again."""

    first: bytes = b""
    again: bytes = b""
    answered: bool = False
    #: Bytes that may be held for the line besides, such as one answer.
    besides: int = 0
    half_closed: bool = False
    #: How many of them are tried at once.
    lines: int = LINES


STATES = {
    "connected only": State(),
    "a request line without end": State(b"GET /", b"x" * 4096),
    "headers without end": State(b"GET / HTTP/1.1\r\n" + HOST, b"X-Some: " + b"y" * 1000 + b"\r\n"),
    "one header without end": State(b"GET / HTTP/1.1\r\n" + HOST + b"X-Some: ", b"y" * 4096),
    "a header of many lines": State(b"GET / HTTP/1.1\r\n" + HOST + b"X-Some: a\r\n", b" " + b"y" * 1000 + b"\r\n"),
    "a handshake without end": State(HANDSHAKE[:-2], b"X-Some: " + b"y" * 1000 + b"\r\n"),
    "a handshake with a body": State(HANDSHAKE[:-2] + b"Content-Length: 2500000\r\n\r\n", b"z" * 4096),
    "a handshake with a body in chunks": State(
        HANDSHAKE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"z" * 4096 + b"\r\n"
    ),
    "handshakes behind the handshake": State(HANDSHAKE, HANDSHAKE),
    "a handshake for no socket": State(HANDSHAKE.replace(b"GET /", b"GET /no/such/socket/"), b"z" * 4096),
    "a handshake that is none": State(HANDSHAKE.replace(b"Version: 13", b"Version: 99"), b"z" * 4096),
    "a body that does not come": State(POST + b"Content-Length: 100\r\n\r\n{"),
    "bytes that are no request": State(b"\x16\x03\x01", b"\x00\xff" * 2048),
    "half a request, and closed on one side": State(b"GET / HT", half_closed=True),
    "half a frame, and closed on one side": State(HANDSHAKE, frame(b"x" * 200, 1)[:50], True, half_closed=True),
    # All 80 lines may hold 16 MiB, of which the allocator keeps more. Unbounded they would hold 80 MiB and more.
    "a frame without end": State(
        HANDSHAKE, b"\x81\xff" + (2**20 - 1).to_bytes(8, "big") + MASK + b"x" * 4096, True, besides=100_000, lines=80
    ),
    "a message of parts without end": State(
        HANDSHAKE + frame(b"x", 1, final=False), frame(b"x" * 4096, 0, final=False), True, lines=80
    ),
    "a binary message without end": State(
        HANDSHAKE, b"\x82\xff" + (2**20 - 1).to_bytes(8, "big") + MASK + b"x" * 60_000, True, lines=80
    ),
    "pings": State(HANDSHAKE, frame(b"x" * 125, 9) * 30, True),
    "pongs": State(HANDSHAKE, frame(b"x" * 125, 10) * 30, True),
    "empty parts": State(HANDSHAKE, frame(b"", 0, final=False) * 600, True),
    "frames that are no text": State(HANDSHAKE, frame(b"\xff\xfe" * 500, 1), True),
    "frames that are no message": State(HANDSHAKE, frame(b"{" * 500, 1), True),
    "large frames that register nobody": State(HANDSHAKE, frame(b'{"type":"x","pad":"%b"}' % (b"y" * 200_000), 1), True),
    "an answer that nobody reads": State(b"GET " + FILE + b" HTTP/1.1\r\n" + HOST + b"\r\n", besides=FILE_BYTES),
    "a last answer that nobody reads": State(
        b"GET " + FILE + b" HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n", besides=FILE_BYTES
    ),
    "requests whose answers nobody reads": State(
        b"", (b"GET " + FILE + b" HTTP/1.1\r\n" + HOST + b"\r\n") * 20, besides=2 * FILE_BYTES
    ),
    "small requests whose answers nobody reads": State(
        b"", (b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n") * 50, besides=3_000_000
    ),
    "requests with an Upgrade to something else": State(
        b"GET /health HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: foo\r\n" + HOST + b"\r\nGET /he", answered=True
    ),
}  # fmt: skip
#: What begins with the first bytes of `again`, and goes on with its end.
ENDLESS = ("a frame without end", "a binary message without end")

SETTINGS = {
    **PRODUCTION,
    "ARQONBUS_ANONYMOUS": "0",
    "ARQONBUS_HANDSHAKE_TIMEOUT": "4",
    "ARQONBUS_PING_INTERVAL": "2",
    "ARQONBUS_PING_TIMEOUT": "4",
    "ARQONBUS_SEND_DEADLINE": "4",
    "ARQONBUS_REGISTRATION_DEADLINE": "8",
}


@pytest.fixture(scope="module", params=["daphne", "uvicorn", "portable"])
def server(request: pytest.FixtureRequest, backends: Backends) -> Iterator[BusServer]:
    """Daphne, uvicorn (on uvloop), and uvicorn on asyncio with the portable ways; each with its deadlines."""
    storage = backends.new_storage()
    with _servers(backends, storage) as start:
        made: BusServer
        if request.param == "portable":
            portable = {**SETTINGS, "ARQONBUS_WRITER": "portable"}
            made = start("uvicorn", env=portable, arguments=("--loop", "asyncio", "--no-access-log"))
        else:
            made = start("runbus", env=SETTINGS, arguments=("--server", request.param))
        with _line(made) as line:
            # What is made once is made.
            line.sendall(STATES["a last answer that nobody reads"].first)
            while line.recv(65_536):
                pass
        yield made
    backends.drop_storage(storage)


def _line(server: BusServer) -> socket.socket:
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.settimeout(10)
    line.connect((server.host, server.port))
    return line


@contextlib.contextmanager
def lines_in(server: BusServer, *names: str) -> Iterator[list[socket.socket]]:
    """A line in each of the states.

    Nothing is read but the answer to a handshake, and as much is sent as the server takes.
    """
    with contextlib.ExitStack() as ends:
        lines = [ends.enter_context(_line(server)) for _ in names]
        to_say: dict[socket.socket, Iterator[bytes]] = {}
        for line, name in zip(lines, names, strict=True):
            to_say[line] = _said(name)
            with contextlib.suppress(OSError):
                line.sendall(STATES[name].first)
        for line, name in zip(lines, names, strict=True):
            with contextlib.suppress(OSError):
                received = b""
                while STATES[name].answered and b"\r\n\r\n" not in received:
                    received += line.recv(1)
            line.setblocking(False)
        rest = dict.fromkeys(lines, b"")
        while to_say:
            # Where the server takes nothing from any for a while, it takes nothing more.
            _, able, _ = select.select([], to_say, [], 0.3)
            if not able:
                break
            for line in able:
                try:
                    data = rest[line] or next(to_say[line])
                    with contextlib.suppress(BlockingIOError):
                        data = data[line.send(data) :]
                    rest[line] = data
                except (OSError, StopIteration):
                    del to_say[line]
        for line, name in zip(lines, names, strict=True):
            if STATES[name].half_closed:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_WR)
        yield lines


def _said(name: str) -> Iterator[bytes]:
    """What a line says again and again."""
    again, sent = STATES[name].again, 0
    while again and sent < MOST:
        yield again
        sent += len(again)
        if name in ENDLESS:
            # One frame of a mebibyte, all but its last bytes.
            again = b"x" * max(0, min(60_000, 2**20 - sent - 100))


def watched(server: BusServer) -> Callable[[], int]:
    """What the process has grown by at most since this call, in bytes."""

    def figure(name: str) -> int:
        status = Path(f"/proc/{server.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) * 1024

    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    before = figure("VmRSS")
    return lambda: figure("VmHWM") - before


@pytest.mark.parametrize("name", STATES)
def test_what_a_stranger_makes_the_server_hold_is_bounded(server: BusServer, name: str) -> None:
    state = STATES[name]
    grown = watched(server)
    with lines_in(server, *[name] * state.lines):
        assert server.get("/health")[0] == 200
        assert grown() < SLACK + state.lines * (PER_LINE + state.besides)
    assert server.log().count("Traceback") == 0


def test_and_the_server_lets_go_of_every_such_line(server: BusServer) -> None:
    with lines_in(server, *STATES) as lines:
        ports = {line.getsockname()[1]: name for line, name in zip(lines, STATES, strict=True)}

        def held() -> list[str]:
            found = psutil.Process(server.pid).net_connections("tcp")
            remote = [getattr(one.raddr, "port", 0) for one in found]
            return [ports[port] for port in remote if port in ports]

        with contextlib.suppress(DeadlineExceededError):
            wait_until(lambda: not held(), "it holds none", deadline=40)
        assert not held()
    assert counted(server, "handshake_timeout") >= 1
    assert counted(server, "unread_answer") >= 1
