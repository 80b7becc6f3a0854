"""Requests that wait: the look before, the wait after Django has ended, and every way in which it may end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from bus.api import listening, waiting
from bus.auth.identity import ANONYMOUS
from bus.node import Node, current
from bus.protocol.errors import BusError, ErrorCode
from bus.testing import live_bus
from tests.harness.waiting import wait_for
from tests.rest.test_listening import Peer

pytestmark = pytest.mark.embedded

SCOPE = {"type": "http", "path": "/api/v1/asks/arq_1", "query_string": b"wait=20"}


@pytest.fixture
async def node(transactional_db: None) -> AsyncIterator[Node]:
    """The node of this loop, as a process has it."""
    async with live_bus():
        made = current()
        await made.start()
        yield made


def nothing() -> waiting.Answer:
    return waiting.answer({"state": "open"}, 202)


def project(wait: waiting.Wait, *, seconds: float = 20.0) -> Callable[..., Awaitable[None]]:
    """An application as Django's, whose view finds nothing at first and then waits."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        request = RequestFactory().get("/api/v1/asks/arq_1")
        request.scope = scope  # type: ignore[attr-defined] # as on Django's requests under ASGI
        made = waiting.wait_for(request, ANONYMOUS, seconds, look=lambda: None, wait=wait, nothing=nothing)
        headers = [(b"x-middleware", b"1"), (b"Content-Type", b"application/json")]
        await send({"type": "http.response.start", "status": made.status_code, "headers": headers})
        assert isinstance(made, StreamingHttpResponse)
        async for chunk in made:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    return application


def answered(peer: Peer) -> tuple[int, Any]:
    """The status and the JSON that went out, with the headers of Django and one length."""
    start, body = peer.got
    headers = dict(start["headers"])
    assert headers[b"x-middleware"] == b"1"
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    return start["status"], json.loads(body["body"])


async def test_what_is_found_late_is_the_answer_and_holds_nothing_afterwards(node: Node) -> None:
    found = asyncio.Event()

    async def wait(waiter: waiting.Waiter, seconds: float) -> waiting.Answer:
        assert waiter.node is node
        await found.wait()
        return waiting.Answer(201, b'{"n":1}', {"Content-Type": "application/json", "X-Own": "2"})

    peer = Peer()
    asking = asyncio.create_task(peer.ask(project(wait), SCOPE))
    await wait_for(lambda: len(node.clients.by_connection) == 1, "the request waits, and is counted")
    assert peer.got == []
    found.set()
    await asking
    assert answered(peer) == (201, {"n": 1})
    assert dict(peer.got[0]["headers"])[b"x-own"] == b"2"
    assert not node.clients.by_connection


async def test_a_wait_in_vain_gives_the_answer_for_nothing(node: Node) -> None:
    async def wait(waiter: waiting.Waiter, seconds: float) -> None:
        assert seconds == 20.0

    peer = Peer()
    await peer.ask(project(wait), SCOPE)
    assert answered(peer) == (202, {"state": "open"})


async def test_errors_and_faults_have_the_form_of_rest(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    async def refused(waiter: waiting.Waiter, seconds: float) -> None:
        raise BusError(ErrorCode.RATE_LIMITED, retry_after=2.5)

    peer = Peer()
    await peer.ask(project(refused), SCOPE)
    status, body = answered(peer)
    assert (status, body["error"]["code"], dict(peer.got[0]["headers"])[b"retry-after"]) == (429, "RATE_LIMITED", b"3")

    async def broken(waiter: waiting.Waiter, seconds: float) -> None:
        raise RuntimeError("broken")

    peer = Peer()
    await peer.ask(project(broken), SCOPE)
    assert answered(peer)[0] == 500
    assert "request failed" in caplog.text
    assert not node.clients.by_connection


async def test_a_wait_ends_with_its_client_with_its_right_and_with_the_process(node: Node) -> None:
    ended = asyncio.Semaphore(0)

    async def endless(waiter: waiting.Waiter, seconds: float) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.release()

    async def begun() -> tuple[Peer, asyncio.Task[None]]:
        peer = Peer()
        asking = asyncio.create_task(peer.ask(project(endless), SCOPE))
        await wait_for(lambda: len(node.clients.by_connection) == 1, "the request waits")
        return peer, asking

    peer, asking = await begun()
    peer.hang_up()
    await asking
    assert peer.got == []
    await ended.acquire()

    peer, asking = await begun()
    (client,) = node.clients.by_connection.values()
    client.drop(4403, BusError(ErrorCode.REVOKED))
    await asking
    await ended.acquire()
    assert answered(peer)[1]["error"]["code"] == "REVOKED"

    peer, asking = await begun()
    await node.stop()
    await asking
    await ended.acquire()
    assert answered(peer)[1]["error"]["code"] == "RESTARTING"
    late = Peer()
    await late.ask(project(endless), SCOPE)
    assert answered(late)[1]["error"]["code"] == "RESTARTING"


async def test_a_wait_that_does_not_end_by_itself_is_ended(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(waiter: waiting.Waiter, seconds: float) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(waiting, "OVERDUE", 0.01)
    peer = Peer()
    await peer.ask(project(endless, seconds=0.01), SCOPE)
    assert answered(peer)[0] == 202


def test_without_the_application_of_the_bus_the_thread_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PAUSE", 0.001)
    looks: list[waiting.Answer | None] = [None, None, waiting.answer({"n": 3})]
    request = RequestFactory().get("/")

    async def never(waiter: waiting.Waiter, seconds: float) -> None:
        raise AssertionError

    def asked(seconds: float, look: waiting.Look) -> tuple[int, bytes]:
        made = waiting.wait_for(request, ANONYMOUS, seconds, look=look, wait=never, nothing=nothing)
        assert isinstance(made, HttpResponse)
        return made.status_code, made.content

    assert asked(20.0, lambda: looks.pop(0)) == (200, b'{"n":3}')
    assert asked(0.0, lambda: None) == (202, b'{"state":"open"}')
    assert asked(0.01, lambda: None) == (202, b'{"state":"open"}')


@pytest.mark.parametrize("text", ["-1", "25.1", "nan", "inf", "x", "1_0", "٣"])
def test_the_seconds_of_a_wait_are_bounded(text: str) -> None:
    assert waiting.seconds_of(None) == waiting.seconds_of("") == 0.0
    assert waiting.seconds_of("2.5") == 2.5
    with pytest.raises(BusError) as refused:
        waiting.seconds_of(text)
    assert refused.value.details[0]["field"] == "wait"


def test_a_request_may_wait_where_the_bus_has_its_addresses() -> None:
    def may(path: str, query: bytes = b"") -> bool:
        return listening.listens({"path": path, "query_string": query})

    assert may("/bus/api/v1/channels/a:b/claims", b"client_id=x&wait=2")
    assert may("/mcp")
    assert not may("/api/v1/channels/a:b/claims")
    assert not may("/shop/", b"wait=2")
