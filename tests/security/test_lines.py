"""What a server writes down of those who come, go, are refused, and meet limits."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.conftest import Connect, StartServer
from tests.harness.client import WireClient
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until
from tests.security.conftest import PRODUCTION, Console

pytestmark = pytest.mark.embedded

PAGE = "https://app.example"


def lines(server: BusServer, **fields: Any) -> list[dict[str, Any]]:
    """The lines of the log with these fields."""
    rows = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [row for row in rows if all(row.get(name) == value for name, value in fields.items())]


def from_(address: str, **headers: str) -> dict[str, Any]:
    """Options of a client at that address, on our page."""
    return {"headers": {"X-Forwarded-For": address, **headers}, "origin": PAGE}


async def test_each_of_eight_events_is_one_line_with_who_from_where_and_which_page(
    wire: Connect, start_server: StartServer
) -> None:
    server = start_server(
        env={
            **PRODUCTION,
            "ARQONBUS_ANONYMOUS": "0",
            "ARQONBUS_LOG_FORMAT": "json",
            "ARQONBUS_ALLOWED_ORIGINS": PAGE,
            "ARQONBUS_CONNECTIONS_PER_ADDRESS": "1",
            "ARQONBUS_RATE_LIMIT": "5",
            "ARQONBUS_RATE_BURST": "5",
            "ARQONBUS_BAD_FRAMES": "3",
        }
    )
    with contextlib.closing(Console(server)) as console:
        console.user("ada")
        session = {"Cookie": f"sessionid={console.session('ada')}"}
        secrets = [console.token("first", user="ada"), console.token("second")]
        await eight_events(wire, server, session, secrets, console)
    check_lines(server)
    log = server.log()
    assert not [text for text in (*secrets, session["Cookie"], "arq_tok_forged", "psst") if text in log]


async def eight_events(
    wire: Connect, server: BusServer, session: dict[str, str], secrets: list[str], console: Console
) -> None:
    """Make them happen, each at an address of its own."""

    async def refused(**options: Any) -> WireClient:
        client = await wire(server, register=False, **options)
        with contextlib.suppress(ConnectionClosed):
            await client.send({"client_id": "nobody-yet"})
        await client.wait_closed()
        return client

    # 1 and 2: coming and going.
    first = await wire(server, client_id="ada-1", token=secrets[0], **from_("192.0.2.1"))
    # 3: as many connections as there may be.
    await refused(**from_("192.0.2.1"))
    await first.close()
    # 4: a page of another site. 5: credentials that are none. 6: none at all.
    await refused(**{**from_("192.0.2.4", **session), "origin": "https://evil.example"})
    await refused(**from_("192.0.2.5", Authorization="Bearer arq_tok_forged"))
    await refused(**from_("192.0.2.6"))
    # 7: too many frames.
    flooder = await wire(server, **from_("192.0.2.7", **session))
    with contextlib.suppress(ConnectionClosed):
        for _ in range(500):
            await flooder.send({"message": "psst, do not write this down"})
    await flooder.wait_closed()
    # 8: what was given is withdrawn.
    revoked = await wire(server, token=secrets[1], **from_("192.0.2.8"))
    console.run("tokens.revoke(SYSTEM, AccessToken.objects.get(name='second'), door='test')")
    await revoked.wait_closed()


def check_lines(server: BusServer) -> None:
    """Each has one."""
    ada, second = "user:1", "token:2"
    expected: list[tuple[dict[str, Any], str, str]] = [
        ({"event": "registered", "client": "ada-1"}, ada, "192.0.2.1"),
        ({"event": "disconnected", "client": "ada-1", "code": 1000}, ada, "192.0.2.1"),
        ({"event": "closed", "code": 4429, "error": "LIMIT_REACHED"}, "", "192.0.2.1"),
        ({"event": "closed", "code": 4403, "error": "ORIGIN_REFUSED", "level": "warning"}, "", "192.0.2.4"),
        ({"event": "closed", "code": 4401, "error": "UNAUTHENTICATED", "reason": "unknown token"}, "", "192.0.2.5"),
        ({"event": "closed", "code": 4401, "error": "UNAUTHENTICATED", "reason": None}, "", "192.0.2.6"),
        ({"event": "closed", "code": 4429, "error": "RATE_LIMITED"}, ada, "192.0.2.7"),
        ({"event": "closed", "code": 4403, "error": "REVOKED"}, second, "192.0.2.8"),
    ]
    for fields, principal, address in expected:
        wait_until(lambda fields=fields: lines(server, **fields), f"a line of {fields}")  # type: ignore[misc]
        (line,) = lines(server, **fields)
        page = "https://evil.example" if line.get("error") == "ORIGIN_REFUSED" else PAGE
        assert (line["principal"], line["peer"], line["origin"]) == (principal, address, page), fields
    for address in ("192.0.2.4", "192.0.2.5"):
        # Who was refused at the door has no other line.
        assert len(lines(server, peer=address)) == 1, address
