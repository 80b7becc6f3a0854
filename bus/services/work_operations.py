"""The operations of workers on jobs, and what they lead to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from ..directory.channels import ChannelRef
from ..notify import dispatch
from ..notify.messages import WorkChange, WorkChanged, WorkReady
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address

#: The longest delay of a released job, in seconds.
LONGEST_DELAY = 366 * 86400.0
#: The longest text of an error, in characters. The rest of a longer one is left out.
LONGEST_ERROR = 2000
#: The longest token of a claim, in characters.
LONGEST_TOKEN = 64
#: Jobs that a worker gets at once, and claims that it may say it has.
MOST_JOBS, MOST_KNOWN = 100, 1000


class Worker(NamedTuple):
    """Who claims and ends jobs. ``rest`` says that no connection shows whether the worker is still there."""

    client_id: str
    principal: str = ""
    rest: bool = False


class Claim(msgspec.Struct):
    """Claim up to ``most`` ready jobs of a channel. The answer is ``shapes.Claims``.

    ``have`` are the tokens that the worker knows. With it, other jobs that it has there already are answered first.
    ``connection_id`` is the worker's connection. The claim is refused if an anonymous worker's id has another one now.
    """

    ref: ChannelRef
    most: int
    worker: Worker
    have: tuple[str, ...] | None = None
    connection_id: str = ""


class Renew(msgspec.Struct):
    """Begin a lease anew. The answer is ``shapes.Renewed``."""

    token: str
    worker: Worker


class Done(msgspec.Struct):
    """End a job. ``result`` is raw JSON. The answer is ``shapes.Finished``."""

    token: str
    result: bytes | None
    worker: Worker


class Release(msgspec.Struct):
    """Give a job back. It is ready again after ``delay`` seconds, or dead after its last attempt.

    ``unused`` says that no worker ever heard of the claim, so it counts as no attempt. The answer is ``shapes.Returned``.
    """

    token: str
    delay: float
    error: str | None
    worker: Worker
    unused: bool = False


class Reject(msgspec.Struct):
    """Declare a job dead. The answer is ``shapes.Returned``."""

    token: str
    error: str | None
    worker: Worker


Operation = Claim | Renew | Done | Release | Reject


class Outcome(NamedTuple):
    """What one transaction did.

    ``answers`` has the answer to each operation, or its ``BusError``. ``changes`` are for the members of the channels.
    ``ready`` says how many jobs of which channels became ready. ``more`` says that a sweep has left some for the next one.
    """

    answers: list[Any]
    changes: list[WorkChange]
    ready: dict[int, int]
    more: bool = False


def joined(outcomes: Iterable[Outcome]) -> Outcome:
    """Return what several transactions did, as one outcome."""
    whole = Outcome([], [], {})
    for one in outcomes:
        whole.answers.extend(one.answers)
        whole.changes.extend(one.changes)
        for channel_id, count in one.ready.items():
            whole.ready[channel_id] = whole.ready.get(channel_id, 0) + count
    return whole


def no_work(address: Address) -> BusError:
    """Return the error for an operation on jobs in a channel that is no work channel."""
    message = "This channel has no work."
    return BusError(
        ErrorCode.VALIDATION_ERROR, message, [{"field": "channel", "message": message, "address": str(address)}]
    )


def announce_work(outcome: Outcome) -> None:
    """Tell the workers and the members of the channels what a transaction did, once it is committed."""
    if outcome.ready:
        dispatch.notify_on_commit(WorkReady(list(outcome.ready.items())))
    if outcome.changes:
        dispatch.notify_on_commit(WorkChanged(outcome.changes))
