"""The tools about those who take part: who is there, and what an agent does."""

from __future__ import annotations

import msgspec

from ..auth.permissions import JOIN
from ..directory.channels import ensure
from ..protocol.errors import BusError, ErrorCode
from ..services import clients as client_service
from ..services import statuses
from ..services.questions import bounded
from . import arguments
from .caller import Caller, Result

#: Members that one answer names.
MOST = 200
#: What a model does not need of a member: its other channels cost more than they say.
_LEFT_OUT = frozenset({"channels", "personality"})


def who_is_there(caller: Caller, given: arguments.WhoIsThere) -> Result:
    """The members of a channel, with their status and card."""
    address = caller.address(given.address)
    rows, more = bounded(lambda: client_service.list_clients(caller.actor, limit=MOST, channel=address))
    members = [
        {key: value for key, value in msgspec.to_builtins(row, enc_hook=str).items() if key not in _LEFT_OUT}
        for row in rows
    ]
    told: Result = {"address": given.address, "count": len(members), "participants": members}
    return told if more is None else {**told, "more": True}


def set_status(caller: Caller, given: arguments.SetStatus) -> Result:
    """Say what the caller does. It is seen in a channel while the status lasts."""
    if caller.actor.anonymous:
        raise BusError(ErrorCode.FORBIDDEN, "Only a client with an access token has a status here.")
    channel = None if given.address is None else caller.address(given.address)
    said = statuses.Said(given.status, given.task, given.text, given.tokens, given.ttl)
    if channel is not None and not said.nothing:
        ensure(channel, caller.actor, action=JOIN)
    told = statuses.set_status(caller.actor, caller.actor.client_id, said, channel=channel)
    return {"client_id": told.client_id, "status": msgspec.to_builtins(told.status, enc_hook=str)}
