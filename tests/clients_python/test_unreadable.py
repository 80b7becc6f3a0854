"""A frame that cannot be read costs a client that frame: it is told and shown in its place, and all others come."""

from __future__ import annotations

import json
import logging

import pytest

import arqonbus
from arqonbus.errors import ServerError
from arqonbus.reading import Unreadable, decode
from tests.conftest import Connect
from tests.harness.older import older
from tests.harness.server import BusServer

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


async def test_a_client_goes_on_after_frames_that_it_cannot_read(
    shared_server: BusServer, wire: Connect, fresh_room: str, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"{fresh_room}:talk"
    speaker = await wire(shared_server)
    async with older(shared_server.url) as url, arqonbus.connect(url) as bus, bus.subscribe(address) as messages:
        caplog.set_level(logging.WARNING, "arqonbus.client")
        for said in (
            {"message": "one"},
            {"message": "two", "timestamp": "2026-01-01T00:00:00"},
            {"payload": {"n": 170717}},
            {"message": "four"},
        ):
            # Without blanks: the stand-in looks for the very text.
            await speaker.send(json.dumps({"channel": address, **said}, separators=(",", ":")))
        found = [await messages.get(20) for _ in range(4)]
        assert [(message.seq, message.text, message.unreadable) for message in found] == [
            (1, "one", False), (2, "", True), (3, "", True), (4, "four", False)
        ]  # fmt: skip
        assert {message.sender for message in found} == {speaker.client_id}
        assert messages.gaps == 0
        assert messages.position is not None
        assert messages.position.seq == 4
        assert len([line for line in caplog.records if "cannot read a frame" in line.getMessage()]) == 2
        # A page with such a frame in it is an answer that cannot be read: it fails at once, and not by its time.
        with pytest.raises(ServerError, match="cannot be read"):
            await bus.history_page(address)
        await bus.publish(address, "still here")


@pytest.mark.pure
@pytest.mark.parametrize(
    ("frame", "instead"),
    [
        ('{"id":"a\\"b","seq":4,"x":null,"payload":{"n":' + "9" * 5000 + "}}", {"id": 'a"b', "seq": 4, "x": None}),
        ('{"type":"system","payload":{"n":' + "9" * 5000 + "}}", None),
        ('{"seq":4,"x":"\\q","payload":{]', None),
        ("[" * 100_000, None),
        ("", None),
    ],
)
def test_what_stands_in_for_a_frame(frame: str, instead: dict[str, object] | None) -> None:
    for data in (frame, frame.encode()):
        with pytest.raises(Unreadable) as caught:
            decode(data)
        wanted = None if instead is None else {**instead, "payload": {}, "unreadable": True}
        assert caught.value.instead == wanted
    with pytest.raises(Unreadable):
        decode(b'{"seq":1,"x":"\xff"}')
