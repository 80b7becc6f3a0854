"""The services of the bus: one function per verb, for sockets, REST, the admin, commands and Django code.

The functions are synchronous and use the database connection of the caller's thread. A function that changes something
sends its notifications after the commit. This package exports the functions for Django code.
"""

from __future__ import annotations

from ..publishing.django import (
    abroadcast_to_channel,
    abroadcast_to_room,
    apublish,
    apublish_all,
    asend_private,
    broadcast_to_channel,
    broadcast_to_room,
    publish,
    publish_all,
    send_private,
)
from ..shapes import Published
from .asks import aask, aquestion, areply, ask, question, reply
from .decision_requests import arequest_decision, request_decision
from .decisions import (
    acancel_decision,
    aconsume_decision,
    adecide,
    adecision,
    cancel_decision,
    consume_decision,
    decide,
    decision,
)
from .growing import (
    StreamWriter,
    aadopt_stream,
    aappend_to_stream,
    adopt_stream,
    aend_stream,
    aopen_stream,
    append_to_stream,
    astop_stream,
    end_stream,
    open_stream,
    stop_stream,
    stream,
)
from .marking import amark, aunread, mark, unread
from .working import (
    aclaim_jobs,
    afinish_job,
    areject_job,
    arelease_job,
    arenew_claim,
    claim_jobs,
    finish_job,
    reject_job,
    release_job,
    renew_claim,
)

__all__ = [
    "Published",
    "StreamWriter",
    "aadopt_stream",
    "aappend_to_stream",
    "aask",
    "abroadcast_to_channel",
    "abroadcast_to_room",
    "acancel_decision",
    "aclaim_jobs",
    "aconsume_decision",
    "adecide",
    "adecision",
    "adopt_stream",
    "aend_stream",
    "afinish_job",
    "amark",
    "aopen_stream",
    "append_to_stream",
    "apublish",
    "apublish_all",
    "aquestion",
    "areject_job",
    "arelease_job",
    "arenew_claim",
    "areply",
    "arequest_decision",
    "asend_private",
    "ask",
    "astop_stream",
    "aunread",
    "broadcast_to_channel",
    "broadcast_to_room",
    "cancel_decision",
    "claim_jobs",
    "consume_decision",
    "decide",
    "decision",
    "end_stream",
    "finish_job",
    "mark",
    "open_stream",
    "publish",
    "publish_all",
    "question",
    "reject_job",
    "release_job",
    "renew_claim",
    "reply",
    "request_decision",
    "send_private",
    "stop_stream",
    "stream",
    "unread",
]
