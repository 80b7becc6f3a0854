"""Requests that wait for the answer to a question: `?wait=` of REST, and the tool `ask` of MCP."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from .. import shapes
from ..log.question_batch import ANSWERED, OPEN, question_not_found
from ..models import Question
from ..services import asks
from .waiting import Waiter


def end_of(row: Question) -> shapes.Question | None:
    """The question with its answer; None while it is open. Raises ``BusError`` QUESTION_NOT_FOUND, or ASK_TIMEOUT."""
    now = asks.again(row.pk)
    if now is None:
        raise question_not_found(row.uid)
    if now.state == OPEN:
        return None
    if now.state != ANSWERED:
        raise asks.timeout_of(now)
    return asks.state_of(now)


async def wait_for_end(waiter: Waiter, row: Question, seconds: float) -> shapes.Question | None:
    """Wait for the answer to a question for at most some ``seconds``. Raises ``BusError`` as :func:`end_of`."""
    runtime = waiter.node.runtime
    until = runtime.loop.time() + seconds
    with waiter.node.questions.waiting(row.pk, row.client_id, row.uid) as wake:
        while True:
            wake.clear()
            found = await runtime.run(end_of, row)
            left = until - runtime.loop.time()
            if found is not None or left <= 0:
                return found
            with suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), left)
