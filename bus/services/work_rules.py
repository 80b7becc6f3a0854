"""The rule of a work channel: checked, given to a channel, changed and taken away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..auth.permissions import PUBLISH, Actor, require
from ..conf.settings import config
from ..directory.channels import ensure
from ..models import Channel, Job
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address, parse_address
from ..shapes import WorkRule


def checked(actor: Actor, address: Address, rule: Mapping[str, Any], *, ephemeral: bool) -> dict[str, Any]:
    """Return the rule of the work channel at ``address`` as its column keeps it. The channel for dead jobs is made if missing.

    Raises ``BusError`` VALIDATION_ERROR on ``work``, and FORBIDDEN or CHANNEL_NOT_FOUND where ``actor`` may not publish to the
    channel for dead jobs.
    """
    if ephemeral:
        raise refusal("An ephemeral channel has no work, because it stores no messages.")
    try:
        read = msgspec.convert({**rule}, WorkRule, strict=False)
    except msgspec.ValidationError as problem:
        raise refusal(str(problem)[:300]) from None
    if "hold" not in rule:
        read = msgspec.structs.replace(read, hold=max(config().claim_hold, read.lease))
    if read.hold < read.lease:
        raise refusal("`hold` must be at least `lease`.")
    if read.dead is not None:
        dead = _dead(actor, address, read.dead)
        read = msgspec.structs.replace(read, dead=str(dead))
    kept: dict[str, Any] = msgspec.to_builtins(read)
    return kept


def _dead(actor: Actor, address: Address, text: str) -> Address:
    """Return the address of the channel for dead jobs, which exists then."""
    dead = parse_address(text)
    if dead is None or not dead.is_channel:
        raise refusal("`dead` must be the room:channel of another channel.")
    if dead == address:
        raise refusal("`dead` must be another channel.")
    ref, _ = ensure(dead, actor, action=PUBLISH)
    require(actor, PUBLISH, dead, private=ref.private)
    if ref.ephemeral:
        raise refusal("`dead` must be a channel that stores its messages.")
    return dead


def check_removal(channel: Channel) -> None:
    """Raise ``BusError`` VALIDATION_ERROR while a channel has jobs that are ready or claimed. Costs a query."""
    if channel.jobs.filter(state__in=(Job.State.READY, Job.State.CLAIMED)).exists():
        raise refusal("The channel has jobs that are ready or claimed. Let workers end them, or discard them.")


def refusal(message: str) -> BusError:
    """Return the error for a rule that cannot be."""
    return BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "work", "message": message}])
