"""A client's questions and replies: whether somebody is there to answer, and whose question a reply answers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..auth.permissions import PUBLISH, SYSTEM
from ..directory.questions import find_question
from ..protocol.inbound import Ask, Inbound, Reply
from ..protocol.names import inbox
from ..publishing import questions
from .connection import Connection


async def reach(connection: Connection, ask: Ask, targets: Sequence[str], known: Collection[str]) -> None:
    """Check that the target of a question may answer it. ``known`` are the clients among ``targets`` that the bus knows.

    Raises ``BusError`` NO_RESPONDER, UNAVAILABLE.
    """
    here = connection.node.clients.by_id
    elsewhere = [target for target in targets if target not in here]
    if elsewhere:
        there = await connection.node.runtime.run(questions.responders, ask, elsewhere, known)
        questions.reach(elsewhere, there)


async def reply(connection: Connection, inbound: Inbound, said: Reply) -> None:
    """Publish a reply to the inbox of the asker.

    Raises ``BusError`` QUESTION_NOT_FOUND, VALIDATION_ERROR, FORBIDDEN, BUSY, UNAVAILABLE. The log finds QUESTION_ENDED.
    """
    node, client = connection.node, connection.client
    inbound.asked = await node.runtime.run(find_question, client.actor, said)
    ref = await node.channels.resolve(inbox(inbound.asked.asker), SYSTEM)
    node.permissions.check(client, PUBLISH, ref)
    connection.publish(inbound, ref)
