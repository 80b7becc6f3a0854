"""A database that goes on without the last commits while the servers run, as after a failover to a server that lagged behind."""

from __future__ import annotations

import asyncio

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient
from tests.reliability.traffic import query

_FORGET = """
DELETE FROM bus_message WHERE seq > 3 AND channel_id = (SELECT id FROM bus_channel WHERE name = 'bench');
UPDATE bus_channel SET head = 3 WHERE name = 'bench'
"""


async def test_a_log_that_lost_its_end_gets_a_new_epoch_before_its_numbers_come_twice(
    start_server: StartServer, storage: Storage
) -> None:
    server = await asyncio.to_thread(start_server)
    reader = await WireClient.connect(server.url, client_id="reader", room="lab:bench")
    async with await WireClient.connect(server.url, room="lab:door") as publisher:
        for number in range(1, 6):
            await publisher.publish(f"old {number}", room="lab", channel="bench", ack=True)
        await reader.wait_seq("lab:bench", 5)
        # It knows where the log ends, and no message of it.
        fresh = await WireClient.connect(server.url, client_id="fresh", room="lab:bench")
        for statement in _FORGET.split(";"):
            await asyncio.to_thread(query, storage, statement)
        assert (await publisher.publish("new 4", room="lab", channel="bench", ack=True))["seq"] == 4
        for client in (reader, fresh):
            assert await client.wait_closed() == 4013
            assert (await client.expect(type="error"))["error"]["code"] == "RESTARTING"
            back = await client.reconnect()
            try:
                told = back.registered["channels"]["lab:bench"]
                assert (told["recovered"], told["first_seq"], told["seq"]) == (False, 1, 4)
                assert told["epoch"] != client.positions["lab:bench"]["epoch"]
                await back.wait_seq("lab:bench", 4)
                texts = [frame["message"] for frame in back.messages("lab:bench")]
                assert texts == ["old 1", "old 2", "old 3", "new 4"]
            finally:
                await back.close()
        assert server.log().count("log_went_back") == 1
