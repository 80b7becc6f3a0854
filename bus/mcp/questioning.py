"""The tools of questions: ask, and reply."""

from __future__ import annotations

from typing import Any

import msgspec

from .. import shapes
from ..api.asking import end_of, wait_for_end
from ..api.waiting import Waiter
from ..models import Question, digest
from ..protocol.asking import REPLY
from ..publishing.django import publish_frames
from ..services import asks
from . import arguments
from .caller import Caller, Later, Result, shown, wrong

#: The longest id that a message may have, in characters.
LONGEST_ID = 128


def ask(caller: Caller, given: arguments.Ask) -> Later:
    """Ask, or go on to wait for an answer."""
    row = asks.find(caller.actor, given.question) if given.question is not None else _asked(caller, given)

    async def wait(waiter: Waiter, seconds: float) -> Result | None:
        return _told(await wait_for_end(waiter, row, seconds))

    def nothing() -> Result:
        return {"state": "open", "question": row.uid, "to": asks.asked_of(row)}

    return Later(given.timeout_seconds, lambda: _told(end_of(row)), wait, nothing)


def _asked(caller: Caller, given: arguments.Ask) -> Question:
    """Publish the question. One that was asked before under its id is the same question."""
    if (given.to is None) == (given.address is None):
        raise wrong("to", "Give `to` (a client_id), `address` (a work channel), or `question`.")
    if given.text is None and given.payload is None:
        raise wrong("text", "Give `text`, `payload`, or both.")
    place = {"type": "private", "to": given.to} if given.to is not None else {"room": given.address}
    inbound = caller.frame(
        **place,
        id=given.id,
        message=given.text,
        payload=given.payload,
        ask={"timeout": given.deadline, "durable": given.durable},
    )
    published = publish_frames([inbound], actor=caller.actor, may_wait=True).published[0]
    return asks.find(caller.actor, published.id, caller.actor.client_id)


def _told(found: shapes.Question | None) -> Result | None:
    if found is None:
        return None
    answer: Any = found.message
    # The asker's inbox may have lost the reply by its retention.
    kept = isinstance(answer, msgspec.Raw)
    return {
        "state": found.state,
        "question": found.ask,
        "to": found.to,
        "answer": shown(bytes(answer)) if kept else None,
    }


def reply(caller: Caller, given: arguments.Reply) -> Result:
    """Answer a question. A repeated reply has the id of the first one."""
    if given.text is None and given.payload is None and given.error is None:
        raise wrong("text", "Give `text`, `payload` or `error`.")
    named = f"{given.to_message}_reply"
    inbound = caller.frame(
        type=REPLY,
        to_message=given.to_message,
        id=named if len(named) <= LONGEST_ID else digest(named),
        message=given.text,
        payload=given.payload or {},
        error=given.error,
    )
    published = publish_frames([inbound], actor=caller.actor).published[0]
    return {"to_message": given.to_message, "id": published.id, **({"duplicate": True} if published.duplicate else {})}
