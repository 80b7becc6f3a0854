"""Commands of a connection: some run beside its next frames, and a bounded number of them."""

from __future__ import annotations

import asyncio

import pytest

from bus.commands.base import Answer, Command, Context, Parameters, registry
from bus.shapes import Shape
from bus.sockets.commands import BESIDE
from tests.harness.waiting import wait_for
from tests.sockets.conftest import Client, Connect

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.embedded]


class Waits:
    """A command that runs beside the connection, and ends when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = asyncio.Event()

    async def __call__(self, context: Context, parameters: Parameters) -> Answer:
        self.begun += 1
        await self.go_on.wait()
        return Answer("waited", Shape())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    made = Waits()
    monkeypatch.setitem(registry, "waits", Command("waits", Parameters, Shape, made, "Waits.", "any", (), beside=True))
    return made


async def _ada(connect: Connect) -> Client:
    client = connect()
    await client.connection.opened()
    await client.send(type="register", client_id="ada", room="lab", channel="bench")
    return client


def _answered(client: Client) -> list[str]:
    return [frame["request_id"] for frame in client.frames() if frame["type"] == "command_response"]


async def test_the_next_frames_do_not_wait_for_a_command_beside_them(connect: Connect, waits: Waits) -> None:
    ada = await _ada(connect)
    await ada.send(type="command", id="c1", command="waits")
    await ada.send(type="command", id="c2", command="ping")
    assert _answered(ada) == ["c2"]
    waits.go_on.set()
    await wait_for(lambda: _answered(ada) == ["c2", "c1"], "the answer")
    assert ada.connection.beside == 0


async def test_a_connection_waits_for_the_command_above_the_bound(connect: Connect, waits: Waits) -> None:
    ada = await _ada(connect)
    for number in range(BESIDE):
        await ada.send(type="command", id=f"c{number}", command="waits")
    await wait_for(lambda: waits.begun == BESIDE, "the commands run")
    one_more = asyncio.create_task(ada.send(type="command", id="more", command="waits"))
    await wait_for(lambda: waits.begun == BESIDE + 1, "one more runs in its turn")
    assert not one_more.done()
    waits.go_on.set()
    await one_more
    await wait_for(lambda: len(_answered(ada)) == BESIDE + 1, "the answers")


async def test_a_fault_beside_the_connection_is_answered(
    connect: Connect, waits: Waits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> Answer:
        raise ValueError("not foreseen")

    failing = Command("waits", Parameters, Shape, fail, "Fails.", "any", (), beside=True)
    monkeypatch.setitem(registry, "waits", failing)
    ada = await _ada(connect)
    await ada.send(type="command", id="c1", command="waits")
    await wait_for(lambda: ada.codes() == ["INTERNAL_ERROR"], "the error")
    assert "not foreseen" in caplog.text
