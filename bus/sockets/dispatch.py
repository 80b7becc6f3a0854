"""The frames of a connection: read, checked, and handed to the part that serves their kind.

A published message does not wait here. It is handed to the log with a callback, so the connection's next frame is read while
the commit of this one runs. The order of messages is that of the frames.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from django.apps import apps

from ..protocol.dialects import token_of
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import KIND_COMMAND, KIND_REGISTER, Inbound
from ..protocol.registration import Registration
from ..protocol.state import State
from ..publishing.plan import ROUTES
from . import commands, messages
from .connection import Connection
from .failures import failed

#: Serves a kind of frame of another app (``BusConfig.kinds``).
Handler = Callable[[Connection, Inbound], Awaitable[None]]

REGISTERED = State.REGISTERED


def begin(connection: Connection, data: bytes) -> Inbound | None:
    """Serve a frame as far as that goes without waiting: most messages are published at once.

    Returns the frame where :func:`finish` has to serve the rest. Errors are sent to the client; nothing is raised.
    """
    client, node = connection.client, connection.node
    client.touched = True
    node.traffic.received += 1
    node.traffic.received_bytes += len(data)
    inbound: Inbound | None = None
    try:
        inbound = connection.session.receive(data, time.monotonic())
        if node.traffic.draining:
            # The frame is refused and not lost: its sender has to send it again elsewhere.
            raise BusError(ErrorCode.RESTARTING, retry_after=1.0)
        if client.state is REGISTERED and inbound.kind in ROUTES and messages.publish_at_once(connection, inbound):
            return None
        if not client.registered and inbound.kind != KIND_REGISTER:
            # The token of an append is that of an adoption.
            inbound.registration = Registration(token=None if inbound.append is not None else token_of(data))
    except Exception as problem:  # noqa: BLE001 - sent to the client, or logged
        failed(connection, problem, inbound.id if inbound is not None else None)
        return None
    return inbound


async def finish(connection: Connection, inbound: Inbound) -> None:
    """Serve the rest of a frame that :func:`begin` returned. Errors are sent to the client; nothing is raised."""
    client, node = connection.client, connection.node
    node.traffic.in_progress += 1
    try:
        if not client.registered and inbound.kind != KIND_REGISTER:
            await connection.register_implicitly(inbound.registration.token if inbound.registration else None)
        if inbound.kind in ROUTES:
            await messages.publish(connection, inbound)
        elif inbound.kind == KIND_COMMAND:
            await commands.run(connection, inbound)
        elif inbound.kind == KIND_REGISTER:
            if client.registered:
                raise BusError(ErrorCode.ALREADY_REGISTERED)
            await connection.register(inbound.registration or Registration())
        else:
            await _serve_elsewhere(connection, inbound)
    except Exception as problem:  # noqa: BLE001 - sent to the client, or logged
        failed(connection, problem, inbound.id)
    finally:
        node.traffic.in_progress -= 1


async def serve(connection: Connection, data: bytes) -> None:
    """Serve a frame to its end. Errors are sent to the client; nothing is raised."""
    inbound = begin(connection, data)
    if inbound is not None:
        await finish(connection, inbound)


async def _serve_elsewhere(connection: Connection, inbound: Inbound) -> None:
    """Serve a kind of frame that belongs to another app. Raises ``BusError`` UNKNOWN_TYPE, and what that app raises."""
    handler: Handler | None = apps.get_app_config("bus").kinds.get(inbound.kind)  # type: ignore[attr-defined]
    if handler is None:
        raise BusError(ErrorCode.UNKNOWN_TYPE, f"This socket does not accept frames of type {inbound.type}.")
    await handler(connection, inbound)
