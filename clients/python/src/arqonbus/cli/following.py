"""Show the messages of several subscriptions, each once."""

from __future__ import annotations

import asyncio
from typing import Any

from ..subscription import Subscription
from . import failures
from .growing import Show, ShowFrames


async def show_all(
    subscriptions: list[Subscription], show: Show | ShowFrames, count: int | None, timeout: float | None
) -> None:
    """Show messages until the subscriptions end, ``count`` is reached, or ``timeout`` seconds are over.

    Raises ``TooFew`` if the time is over before ``count`` messages arrived, and ``OSError`` if one could not be shown.
    """
    left = count
    #: Messages to a whole room or to all clients arrive with each subscription. They are shown once.
    shown: dict[str, int] = {}

    async def one(subscription: Subscription) -> None:
        try:
            await each(subscription)
        finally:
            await subscription._settle()  # A shown message is done.

    async def each(subscription: Subscription) -> None:
        nonlocal left
        async for message in subscription:
            if left == 0:
                return
            if message.address != subscription.address and message.seq is not None:
                if message.seq <= shown.get(message.address, 0):
                    continue
                shown[message.address] = message.seq
            show(message)
            if left is not None and not (message.type == "append" and message.seq is None):  # A part is no message.
                left -= 1
                if left == 0:
                    await show.finish()
                    for other in subscriptions:
                        await other.close()
                    return

    reading = asyncio.gather(*(one(subscription) for subscription in subscriptions))
    try:
        async with asyncio.timeout(timeout):
            # A message that is shown at its end can fail while all subscriptions only wait.
            both: set[asyncio.Future[Any]] = {reading, show.broken}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            (reading if reading.done() else show.broken).result()
    except TimeoutError:
        if left and count is not None:
            raise failures.TooFew(f"{count - left} of {count} messages arrived within {timeout:g} s.") from None
    finally:
        await show.stop()
