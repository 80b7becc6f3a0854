"""A frame that cannot be read is an "error" event, is shown in its place, and all others come."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.clients_javascript.conftest import node_flags
from tests.conftest import Connect
from tests.harness.older import older
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

pytestmark = [pytest.mark.needs("node"), pytest.mark.embedded]

_SCRIPT = """
import { connect } from "%s/clients/javascript/arqonbus.js";
const [url, address] = process.argv.slice(-2);
const bus = await connect(url);
const errors = [];
bus.on("error", (problem) => errors.push(problem.message));
const messages = await bus.subscribe(address).open();
process.stdout.write("open\\n");
const found = [];
for await (const message of messages) {
  found.push([message.seq, message.text, message.unreadable]);
  if (found.length === 3) break;
}
const refused = await bus.historyPage(address).catch((problem) => problem.message);
process.stdout.write(JSON.stringify({ found, errors, gaps: messages.gaps, refused }) + "\\n");
process.exit(0);
"""


async def test_a_client_goes_on_after_a_frame_that_it_cannot_read(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    address = f"{fresh_room}:talk"
    speaker = await wire(shared_server, room=fresh_room)
    async with older(shared_server.url) as url:
        node = await asyncio.create_subprocess_exec(
            "node", *node_flags(), "--input-type=module", "-e", _SCRIPT % PROJECT_ROOT, url, address,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert node.stdout is not None
        async with asyncio.timeout(60):
            assert await node.stdout.readline() == b"open\n"
            for text in ("one", "two", "three"):
                own_time = {"timestamp": "2026-01-01T00:00:00"} if text == "two" else {}
                await speaker.send({"channel": address, "message": text, **own_time})
            told = json.loads(await node.stdout.readline())
            await node.wait()
    assert told["found"] == [[1, "one", False], [2, "", True], [3, "three", False]]
    assert told["gaps"] == 0
    assert "cannot be read" in told["refused"]
    # The frame, and the page of history with it.
    assert len(told["errors"]) == 2
    assert all("cannot be read" in text for text in told["errors"])
