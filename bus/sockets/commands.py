"""The commands of a connection: read, run and answered."""

from __future__ import annotations

import logging

from django.db import Error as DatabaseError

from ..commands import Context
from ..commands.base import Command, Parameters, find, registry
from ..monitoring import metrics
from ..node.threads import store_error
from ..protocol import frames
from ..protocol.errors import BusError
from ..protocol.inbound import Inbound
from . import activity
from .connection import Connection
from .failures import failed
from .process_view import ProcessView

logger = logging.getLogger("arqonbus.connection")

#: The type of clients that show the bus to people, such as the console.
DASHBOARD = "dashboard"
#: Commands of one connection that may run beside its next frames at once. The connection waits for the next one.
BESIDE = 32


async def run(connection: Connection, inbound: Inbound) -> None:
    """Run a command and send its answer, or let it go on beside the next frames of the connection.

    An error of the command is an answer. Raises what the work after the answer raises.
    """
    node = connection.node
    try:
        command = find(inbound.command)
        connection.session.ask(command.cost)
        parameters = command.read(inbound.parameters, inbound.hints)
        if cost := parameters.cost():
            connection.session.ask(cost)
    except BusError as problem:
        _refuse(connection, inbound, problem)
        return
    if command.beside and connection.beside < BESIDE:
        connection.beside += 1
        node.runtime.spawn(_answer_beside(connection, inbound, command, parameters))
    else:
        await _answer(connection, inbound, command, parameters)


async def _answer_beside(connection: Connection, inbound: Inbound, command: Command, parameters: Parameters) -> None:
    traffic = connection.node.traffic
    traffic.in_progress += 1
    try:
        await _answer(connection, inbound, command, parameters)
    except Exception as problem:  # noqa: BLE001 - sent to the client, or logged
        failed(connection, problem, inbound.id)
    finally:
        traffic.in_progress -= 1
        connection.beside -= 1


async def _answer(connection: Connection, inbound: Inbound, command: Command, parameters: Parameters) -> None:
    node, client = connection.node, connection.client
    context = Context(
        client.actor,
        client.initial,
        inbound.room,
        inbound.channel,
        ProcessView(node, client),
        inbox_floor=client.inbox_floor,
        holder=client.holder,
    )
    try:
        answer = await command.run(context, parameters)
    except (BusError, DatabaseError) as met:
        _refuse(connection, inbound, met if isinstance(met, BusError) else store_error(met))
        return
    metrics.commands.labels(command.name).inc()
    # A dashboard asks again and again. Were its questions announced, it would soon see nothing but itself.
    watching = command.looks and client.client_type == DASHBOARD
    logger.log(
        logging.DEBUG if watching or command.beside or command.name == "ping" else logging.INFO,
        "%s ran %s",
        connection.label,
        command.name,
        extra={**connection.fields("command"), "command": command.name},
    )
    if command.beside and connection.writer.closed:
        return
    uid = node.publisher.new_uid()
    connection.send(frames.command_response(uid, inbound.id, command.name, answer.message, answer.result))
    if answer.follow is not None:
        await context.process.begin(answer.follow)
    if not watching:
        activity.announce(node, client, command.name, client.initial)


def _refuse(connection: Connection, inbound: Inbound, problem: BusError) -> None:
    connection.report(problem, inbound.command if inbound.command in registry else None)
    uid = connection.node.publisher.new_uid()
    connection.send(frames.command_error(uid, inbound.id, inbound.command, problem))
