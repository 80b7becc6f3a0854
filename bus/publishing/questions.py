"""Questions and replies on the way of every message: what they do in the log, and whom they may reach.

A question is a private message, or a message to a work channel, whose entry has an effect. A reply has no address of its own:
its ``to_message`` names the question, and the asker is looked up first (``directory.questions``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..auth.permissions import Actor
from ..conf.settings import config
from ..directory.channels import ChannelRef
from ..directory.questions import connected, find_question, no_responder
from ..log.question_effects import Answering, Asking
from ..protocol import asking
from ..protocol.inbound import Ask, Asked, Inbound
from ..protocol.names import inbox
from ..protocol.routing import Route
from .streamed import Owner, invalid


def question_of(inbound: Inbound, ask: Ask, refs: Sequence[ChannelRef], asker: Owner, uid: str) -> tuple[Asking, bytes]:
    """What a message with ``ask`` does, and the keys that only a delivered question has.

    ``refs`` are the logs that it goes into, and ``uid`` is its id.

    Raises ``BusError`` VALIDATION_ERROR for one that cannot be asked there.
    """
    settings = config()
    if len(refs) != 1:
        raise invalid("ask", "A question has one target.")
    (ref,) = refs
    if not ref.address.is_inbox and ref.work is None:
        raise invalid("ask", "A question goes to one client (a private message), or to a work channel.")
    if ask.timeout > settings.ask_timeout:
        raise invalid("ask", f"`timeout` may be at most {settings.ask_timeout:g} seconds.")
    question = Asking(
        ref.address.channel if ref.address.is_inbox else "",
        asker.client_id,
        asker.principal,
        timeout=ask.timeout,
        correlation=ask.correlation or inbound.id or uid,
        request_id=inbound.id or "",
        trace=inbound.trace.decode(),
        most=0 if asker.unlimited else settings.asks,
    )
    return question, asking.question_keys(ask, asker.client_id, question.correlation)


def answer_of(inbound: Inbound, asked: Asked) -> tuple[Answering, bytes]:
    """What a reply does, and the keys that only a delivered reply has."""
    error = inbound.reply.error if inbound.reply is not None else None
    keys = asking.reply_keys(asked.uid, asked.correlation, error)
    if not inbound.trace:
        keys += asked.trace
    return Answering(asked.id, asked.uid), keys


def responders(ask: Ask, targets: Collection[str], known: Collection[str]) -> Collection[str]:
    """The clients among ``targets`` that may answer: the ``known`` ones for a durable question, else the connected ones."""
    return known if ask.durable else connected(targets)


def reach(targets: Collection[str], there: Collection[str]) -> None:
    """Check that the targets of a question are among those that may answer it, ``there``.

    Raises ``BusError`` NO_RESPONDER, so that nothing of the question is kept.
    """
    missing = [target for target in targets if target not in there]
    if missing:
        raise no_responder(missing[0])


def placed(frames_in: Sequence[Inbound], routes: Sequence[Route], actor: Actor) -> list[Route]:
    """The routes of messages, with those of replies to the inboxes of the askers. Queries for each reply.

    Raises ``BusError`` QUESTION_NOT_FOUND, or VALIDATION_ERROR.
    """
    found: list[Route] = []
    for inbound, route in zip(frames_in, routes, strict=True):
        if inbound.reply is not None:
            inbound.asked = find_question(actor, inbound.reply)
            route = Route(inbox(inbound.asked.asker))
        found.append(route)
    return found
