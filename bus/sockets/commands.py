"""The commands of a connection: read, run and answered."""

from __future__ import annotations

import logging

from django.db import Error as DatabaseError

from ..commands import Context
from ..commands.base import find, registry
from ..monitoring import metrics
from ..node.threads import store_error
from ..protocol import frames
from ..protocol.errors import BusError
from ..protocol.inbound import Inbound
from . import activity
from .connection import Connection
from .process_view import ProcessView

logger = logging.getLogger("arqonbus.connection")

#: The type of clients that show the bus to people, such as the console.
DASHBOARD = "dashboard"


async def run(connection: Connection, inbound: Inbound) -> None:
    """Run a command and send its answer. An error of the command is an answer; nothing else is raised."""
    node, client = connection.node, connection.client
    uid = node.publisher.new_uid()
    try:
        command = find(inbound.command)
        connection.session.ask(command.cost)
        parameters = command.read(inbound.parameters, inbound.hints)
        context = Context(
            client.actor,
            client.initial,
            inbound.room,
            inbound.channel,
            ProcessView(node, client),
            inbox_floor=client.inbox_floor,
        )
        answer = await command.run(context, parameters)
    except (BusError, DatabaseError) as met:
        problem = met if isinstance(met, BusError) else store_error(met)
        connection.report(problem, inbound.command if inbound.command in registry else None)
        connection.send(frames.command_error(uid, inbound.id, inbound.command, problem))
        return
    metrics.commands.labels(command.name).inc()
    # A dashboard asks again and again. Were its questions announced, it would soon see nothing but itself.
    watching = command.looks and client.client_type == DASHBOARD
    logger.log(
        logging.DEBUG if watching or command.name == "ping" else logging.INFO,
        "%s ran %s",
        connection.label,
        command.name,
        extra={**connection.fields("command"), "command": command.name},
    )
    connection.send(frames.command_response(uid, inbound.id, command.name, answer.message, answer.result))
    if answer.follow is not None:
        await node.members.follow(client, answer.follow)
    if not watching:
        activity.announce(node, client, command.name, client.initial)
