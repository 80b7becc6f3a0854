"""A light connection gives what daphne's own gives, whatever the handshake is and however the bytes arrive."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import daphne.server  # noqa: F401 - installs Twisted's asyncio reactor before anything imports another
import pytest
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.servers.daphne.driven
from bus import consumers
from bus.consumers import BusConsumer
from bus.realtime.frame import masked_frame
from bus.realtime.frame_limits import FragmentBudget
from bus.realtime.writer import Bounds
from bus.servers.daphne.light import first, selftest
from bus.servers.daphne.light.connection import Light
from bus.servers.daphne.light.sockets import Sockets
from bus.servers.daphne.reader import HIGH_FRAMES
from bus.servers.selftest import HANDSHAKE
from bus.servers.serve import on_two_ports
from tests.servers.daphne.driven import Driven
from tests.servers.streams import stream

pytestmark = pytest.mark.pure

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x0a\xf1\x80\x07"
PORT = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 8001))
TARGETS = [
    "/",
    "/ws/",
    "/ws/?token=a&b=%20c",
    "/ws/?",
    "/nowhere/",
    "//ws/",
    "/ws/;a=b",
    "/w%73/",
    "/ws/#a",
    "/?a=[b]|c",
    "x",
]
#: What a header may be, the usual first; None leaves it out.
VALUES: dict[str, list[str | None]] = {
    "Host": ["localhost:8000", "[::1]:80", "a_b", "localhost:x", "a, b", "", None],
    "Upgrade": ["websocket", "WebSocket", "websocket, h2c", "h2c", None],
    "Connection": ["Upgrade", "keep-alive, Upgrade", "upgrade", "close, Upgrade", "close", None],
    "Sec-WebSocket-Key": [KEY, KEY[:-1], KEY[:-2] + "aa", "", None],
    "Sec-WebSocket-Version": ["13", "8", "12", "+13", None],
    "Sec-WebSocket-Protocol": [None, "arqonbus.v1", "other", "a,arqonbus.v1", "a, a", "bearer.x%2C, arqonbus.v1", ""],
    "Sec-WebSocket-Extensions": [
        None, "permessage-deflate", "permessage-deflate; client_max_window_bits", "permessage-deflate; bogus=1", "x-other", "",
    ],
    "Origin": [
        None, "http://localhost:8000", "https://a.example", "null", "http://a:99999", "file://", "chrome-extension://abc", "",
    ],
    "Cookie": [None, "sessionid=a; b=c", "caf\xe9=1"],
    "X-Forwarded-For": [None, "203.0.113.9", "203.0.113.9, 10.0.0.1"],
    "X-Forwarded-Port": [None, "1234", "none"],
    "Daphne-Root-Path": [None, None, "/below"],
    "X_Under_Score": [None, None, "1"],
    "Content-Length": [None, None, "0", "5"],
    "Transfer-Encoding": [None, None, None, "chunked"],
    "X-Empty": [None, ""],
}  # fmt: skip


@st.composite
def handshakes(draw: st.DrawFn) -> bytes:
    """A handshake: usual, or with a few things that are not."""
    odd = draw(
        st.sets(st.sampled_from([*VALUES, "target", "order", "case", "twice", "behind", "line", "blank"]), max_size=3)
    )
    target = draw(st.sampled_from(TARGETS)) if "target" in odd else draw(st.sampled_from(TARGETS[:4]))
    lines: list[tuple[str, str]] = []
    for name, values in VALUES.items():
        value = draw(st.sampled_from(values)) if name in odd else values[0]
        if value is not None:
            lines.append((name, value))
    if "order" in odd:
        lines = draw(st.permutations(lines))
    if "case" in odd:
        lines = [(name.lower(), value) for name, value in lines]
    if "twice" in odd:
        lines.append(draw(st.sampled_from(lines)))
    separator = draw(st.sampled_from([":", ":  ", ": \t"])) if "blank" in odd else ": "
    text = "".join(f"{name}{separator}{value}\r\n" for name, value in lines)
    if "line" in odd:
        text += draw(st.sampled_from([" folded\r\n", "no colon\r\n", "Na me: x\r\n", "A: b\x00c\r\n", "B: \x7f\r\n"]))
    behind = draw(st.sampled_from(["x", "\r\n", "\x81\x80abcd"])) if "behind" in odd else ""
    return f"GET {target} HTTP/1.1\r\n{text}\r\n{behind}".encode("latin-1")


async def seen(segments: list[bytes], *, plain: bool, light: bool | None = None, **options: Any) -> list[Any]:
    """What client and consumer get of them."""
    driven = Driven(plain=plain, **options)
    driven.connect()
    found = []
    for number, segment in enumerate(segments):
        found.append(await driven.feed(segment))
        if not number and light is not None:
            assert driven.is_light is light, segment
    found.append(await driven.leave())
    return found


def same(segments: list[bytes], *, light: bool | None = None, **options: Any) -> list[Any]:
    """Compare both ways, and return what was seen."""

    async def both() -> list[Any]:
        own = await seen(segments, plain=False, light=False, **options)
        assert await seen(segments, plain=True, light=light, **options) == own
        return own

    return asyncio.run(both())


def test_a_usual_handshake_is_light_and_its_frames_are_served_as_by_daphne() -> None:
    found = same(
        [
            HANDSHAKE,
            masked_frame(b"1 text", MASK),
            masked_frame(b"later", MASK) + masked_frame(b"2 behind", MASK) + masked_frame(b"3 behind", MASK),
            masked_frame(b"ping", MASK, first=0x89),
            masked_frame(b"in ", MASK, first=0x01) + masked_frame(b"parts", MASK, first=0x80),
            masked_frame(b"\x03\xe8", MASK, first=0x88),
        ],
        light=True,
    )
    notes = [note for part, _, _ in found for note in part]
    assert [note for note in notes if not isinstance(note, dict)][2:] == [
        b"1 text",
        ("waited", b"later"),
        b"2 behind",
        b"3 behind",
        b"in parts",
        ("websocket", "disconnected", {"path": "/", "client": "127.0.0.1:50000"}),
        ("end", 1000),
    ]
    assert found[3][1] == b"\x8a\x04ping"
    assert found[5][1] == b"\x88\x02\x03\xe8"


def handshake(**changed: str | None) -> bytes:
    """The usual handshake with some headers changed."""
    lines = {name: values[0] for name, values in VALUES.items()} | changed
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"GET /ws/ HTTP/1.1\r\n{text}\r\n".encode("latin-1")


#: What is no usual handshake, of all that `VALUES` has.
UNUSUAL: dict[str, list[str | None]] = {
    "Host": ["localhost:x", "a, b", "", None],
    "Upgrade": ["websocket, h2c", "h2c", None],
    "Connection": ["close, Upgrade", "close", None],
    "Sec-WebSocket-Key": [KEY[:-1], KEY[:-2] + "aa", "", None],
    "Sec-WebSocket-Version": ["8", "12", "+13", None],
    "Sec-WebSocket-Protocol": ["a, a", "bearer.x%2C, arqonbus.v1", ""],
    "Sec-WebSocket-Extensions": ["permessage-deflate; bogus=1", "x-other", ""],
    "Origin": ["http://a:99999", "file://", "chrome-extension://abc", ""],
    "Cookie": ["caf\xe9=1"],
    "Daphne-Root-Path": ["/below"],
    "X_Under_Score": ["1"],
    "Content-Length": ["0", "5"],
    "Transfer-Encoding": ["chunked"],
}


@pytest.mark.parametrize("name", VALUES)
def test_each_header_alone_makes_a_handshake_usual_or_leaves_it_to_daphne(name: str) -> None:
    for value in VALUES[name]:
        same([handshake(**{name: value}), masked_frame(b"1", MASK)], light=value not in UNUSUAL.get(name, []))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"root_path": "/below", "server_name": "", "proxy_forwarded_address_header": "X-Forwarded-For"},
        {
            "proxy_forwarded_address_header": "X-Forwarded-For",
            "proxy_forwarded_port_header": "X-Forwarded-Port",
            "proxy_forwarded_proto_header": "X-Forwarded-Proto",
        },
    ],
    ids=["plain", "root", "proxy"],
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(asked=handshakes(), cut=st.integers(0, 3000))
def test_any_handshake_gets_the_same_answer_and_the_same_scope(options: dict[str, Any], asked: bytes, cut: int) -> None:
    segments = [asked[:cut], asked[cut:]] if 0 < cut < len(asked) else [asked]
    same([*segments, masked_frame(b"1", MASK)], **options)


def numbers(few: int, many: int) -> list[Any]:
    """Numbers of conversations: few in `make test`, many in `make chaos`."""
    return [
        pytest.param(range(few), id="few"),
        pytest.param(range(many), id="many", marks=[pytest.mark.chaos, pytest.mark.timeout(900)]),
    ]


def conversation(chance: random.Random) -> list[bytes]:
    """What a client sends behind its handshake: any bytes, among them messages that make the server wait or close."""
    segments = stream(chance)
    for _ in range(chance.randint(0, 3)):
        text = chance.choice([b"later", b"later" * 40, b"1 now", b"close", b"fail"])
        segments.insert(chance.randrange(len(segments) + 1), masked_frame(text, chance.randbytes(4)))
    return segments


@pytest.mark.parametrize("some", numbers(100, 5_000))
def test_any_bytes_behind_a_handshake_come_to_the_same(some: range) -> None:
    ended = open_still = 0
    for number in some:
        found = same([HANDSHAKE, *conversation(random.Random(f"light {number}"))], light=True)
        ended += not found[-2][2]
        open_still += found[-2][2]
    assert min(ended, open_still) > len(some) // 10, "it tried both"


@pytest.mark.parametrize("plain", [True, False], ids=["light", "daphne"])
async def test_what_waits_behind_a_frame_is_bounded(*, plain: bool) -> None:
    driven = Driven(plain=plain)
    driven.connect()
    await driven.feed(HANDSHAKE)
    await driven.feed(masked_frame(b"hang", MASK))
    reads = []
    for number in range(HIGH_FRAMES + 1):
        await driven.feed(masked_frame(b"%d behind" % number, MASK))
        reads.append(driven.reactor.reads)
    assert reads == [True] * HIGH_FRAMES + [False], "a client that sends more than the queue holds is not read"
    await driven.leave()


async def opened(**options: Any) -> tuple[Driven, Light, Sockets]:
    """A light connection, and the connections of its server."""
    driven = Driven(plain=True, **options)
    driven.connect()
    await driven.feed(HANDSHAKE)
    sockets = first.sockets_of(driven.server.http_factory)
    assert sockets is not None
    return driven, driven.transport.protocol, sockets


async def test_a_silent_client_gets_a_ping_and_is_cut_unless_it_sends_anything(
    pass_time: Callable[[float], Awaitable[None]],
) -> None:
    driven, light, sockets = await opened()
    sockets._look_at_all()
    assert (await driven.feed(b""))[1] == b"", "it has just come"
    light.last_seen -= 21
    sockets._look_at_all()
    _, ping, _ = await driven.feed(b"")
    assert (ping[:2], len(ping)) == (b"\x89\x0c", 14)
    await pass_time(25)
    await driven.feed(masked_frame(ping[2:], MASK, first=0x8A))
    await pass_time(25)
    assert (await driven.feed(b""))[2], "it answered"
    light.last_seen -= 21
    sockets._look_at_all()
    await pass_time(31)
    notes, _, open_still = await driven.feed(b"")
    assert (notes[-1], open_still) == (("end", 1006), False)
    assert not len(sockets)


@pytest.mark.parametrize("plain", [True, False], ids=["light", "daphne"])
async def test_a_connection_may_have_a_longest_time(*, plain: bool) -> None:
    driven = Driven(plain=plain, websocket_timeout=60)
    driven.connect()
    await driven.feed(HANDSHAKE)
    if plain:
        driven.transport.protocol.opened_at -= 61
        sockets = first.sockets_of(driven.server.http_factory)
        assert sockets is not None
        sockets._look_at_all()
    else:
        driven.transport.protocol.socket_opened -= 61
        driven.transport.protocol.check_timeouts()
    assert (await driven.feed(b""))[1:] == (b"\x88\x02\x03\xe8", True)
    notes, got, open_still = await driven.feed(masked_frame(b"\x03\xe8", MASK, first=0x88))
    assert (notes[-1], got, open_still) == (("end", 1000), b"", False)


async def test_a_consumer_that_does_not_end_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    driven, light, sockets = await opened()
    await driven.feed(masked_frame(b"hang", MASK))
    notes, _, _ = await driven.leave(wait=False)
    assert ("end", 1006) not in notes
    sockets._look_at_all()
    assert light in sockets._ending, "it has its time"
    sockets._ending[light] -= driven.server.application_close_timeout + 1
    with caplog.at_level(logging.WARNING, logger="daphne.server"):
        sockets._look_at_all()
    assert ("end", 1006) in (await driven.feed(b""))[0]
    assert "too long to shut down" in caplog.text
    assert not sockets._ending


async def test_all_consumers_end_with_the_reactor() -> None:
    driven, _, sockets = await opened()
    await asyncio.gather(*sockets.end_all(), return_exceptions=True)
    assert ("end", 1006) in (await driven.feed(b""))[0]
    working, _, others = await opened()
    await working.feed(masked_frame(b"hang", MASK))
    await asyncio.gather(*others.end_all(), return_exceptions=True)
    assert ("end", 1006) in (await working.feed(b""))[0]


async def test_nothing_is_left_of_a_connection_that_is_over() -> None:
    """Without the garbage collector: a connection must not stay in memory until that comes."""
    driven, light, _ = await opened()
    await driven.feed(masked_frame(b"1", MASK) + masked_frame(b"?", MASK, first=0x89) + masked_frame(b"later", MASK))
    await driven.feed(masked_frame(b"\x03\xe8", MASK, first=0x88))
    await driven.leave()
    before = gc.isenabled()
    gc.collect()
    gc.disable()
    known = {id(each) for each in gc.get_objects() if type(each) is Light}
    try:
        driven.connect()
        await driven.feed(HANDSHAKE)
        await driven.feed(masked_frame(b"1", MASK) + masked_frame(b"later", MASK))
        await driven.feed(masked_frame(b"\x03\xe8", MASK, first=0x88))
        await driven.leave()
        driven.transport = None
        assert not [each for each in gc.get_objects() if type(each) is Light and id(each) not in known]
        assert id(light) in known
    finally:
        if before:
            gc.enable()


def _accept(offers: list[PerMessageDeflateOffer]) -> Any:
    make: Any = PerMessageDeflateOfferAccept
    return make(offers[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda server: setattr(server.ws_factory, "allowedOrigins", ["http://a"]),
        lambda server: setattr(server.ws_factory, "headers", {"X": "1"}),
        lambda server: setattr(server.ws_factory, "perMessageCompressionAccept", _accept),
        lambda server: setattr(server.http_factory, "timeOut", 1),
        lambda server: setattr(server, "application", lambda *_: None),
    ],
    ids=["origins", "headers", "compression", "timeout", "application"],
)
async def test_a_server_with_other_options_is_left_to_daphne(change: Callable[[Any], None]) -> None:
    driven = Driven(plain=True)
    change(driven.server)
    driven.connect()
    if driven.server.application is not None:
        await driven.feed(handshake(**{"Sec-WebSocket-Extensions": "permessage-deflate"}))
    assert not driven.is_light


@pytest.mark.parametrize("plain", [True, False], ids=["light", "daphne"])
@pytest.mark.parametrize("first_to_close", ["client", "server"])
async def test_a_client_that_closes_and_does_not_read_is_cut(
    first_to_close: str, monkeypatch: pytest.MonkeyPatch, *, plain: bool
) -> None:
    monkeypatch.setattr(tests.servers.daphne.driven, "Bounds", partial(Bounds, deadline=0.2))
    driven = Driven(plain=plain)
    driven.connect()
    await driven.feed(HANDSHAKE)
    # It reads nothing from here on.
    while not driven.transport._tempDataBuffer and not driven.transport.dataBuffer:
        driven._read(masked_frame(b"1" * 60_000, MASK))
    if first_to_close == "server":
        driven._read(masked_frame(b"close", MASK))
        await asyncio.sleep(0.01)
        driven._read(b"\x81\x01a")  # Without a mask: Autobahn ends the connection.
    else:
        driven._read(masked_frame(b"\x03\xe8", MASK, first=0x88))
    assert driven.transport.connected
    assert not driven.transport._aborting
    async with asyncio.timeout(5):
        while not driven.transport._aborting:  # noqa: ASYNC110 - Twisted's flag
            await asyncio.sleep(0.05)
    assert ("end", 1000 if first_to_close == "client" else 1006) in (await driven.leave())[0]


@pytest.mark.parametrize("plain", [True, False], ids=["light", "daphne"])
async def test_a_connection_that_ends_while_it_is_checked_returns_what_it_holds(
    monkeypatch: pytest.MonkeyPatch, *, plain: bool
) -> None:
    config = SimpleNamespace(writer="auto", ping_interval=20, ping_timeout=30)
    node = SimpleNamespace(
        runtime=SimpleNamespace(settings=config), fragments=FragmentBudget(100_000), start=asyncio.Event().wait
    )
    monkeypatch.setattr(consumers, "current", lambda: node)
    driven = Driven(plain=plain)
    driven.server.application.consumer = BusConsumer()
    driven.connect()
    await driven.feed(HANDSHAKE)
    await driven.feed(masked_frame(b"x" * 40_000, MASK, first=0x01))
    assert node.fragments.left < 100_000
    await driven.leave()
    assert node.fragments.left == 100_000


class Proxy:
    """Stands for an application, as tracers do: what it has not itself is the application's."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def __getattr__(self, name: str) -> Any:
        return getattr(self._application, name)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._application(scope, receive, send)


def _wrapped(application: Any) -> Any:
    @functools.wraps(application)
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await application(scope, receive, send)

    return inner


@pytest.mark.parametrize("around", [_wrapped, Proxy], ids=["wraps", "proxy"])
async def test_what_a_project_puts_around_the_application_is_asked(around: Callable[[Any], Any]) -> None:
    driven = Driven(plain=True)
    driven.server.application = around(driven.server.application)
    assert first.sockets_of(driven.server.http_factory) is None
    marked = Driven(plain=True)
    listening: Any = SimpleNamespace(bus=[PORT], telemetry=[PORT])
    marked.server.application = on_two_ports(around(marked.server.application), listening)
    marked.connect()
    await marked.feed(HANDSHAKE)
    assert not marked.is_light


async def test_the_ordinary_way_is_taken_where_the_settings_or_the_log_level_want_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger = logging.getLogger("daphne")
    driven = Driven(plain=True)
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger.manager._clear_cache()  # type: ignore[attr-defined] # the levels that loggers remember
    assert first.sockets_of(driven.server.http_factory) is None
    monkeypatch.undo()
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    assert first.sockets_of(driven.server.http_factory) is not None
    monkeypatch.setattr(first, "config", lambda: SimpleNamespace(writer="portable", handshake_timeout=10))
    assert first.sockets_of(Driven(plain=True).server.http_factory) is None


def test_the_installed_versions_pass_the_self_test() -> None:
    assert asyncio.run(_fault()) is None


async def _fault() -> str | None:
    return selftest.fault()
