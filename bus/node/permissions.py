"""The permission table's answers, remembered by each connection while the rules stay as they are."""

from __future__ import annotations

from ..auth.permissions import RuleTable, can, require, table
from ..directory.channels import ChannelRef
from ..protocol.errors import BusError, ErrorCode
from .client import ClientState

#: Answers that one connection remembers. Above that it forgets all of them.
REMEMBERED = 1000


class Permissions:
    """Says what a client of this process may do. Called from the event loop for every message, so it does not wait."""

    def __init__(self) -> None:
        self._rules = table()

    @property
    def rules(self) -> RuleTable:
        """The table whose answers are remembered."""
        return self._rules

    def may(self, client: ClientState, action: str, ref: ChannelRef) -> bool:
        """Return :func:`bus.auth.permissions.can`, from the connection's memory if its answer is there."""
        rules = self._rules
        version = rules.version
        if client.rules_version != version:
            client.allowed.clear()
            client.rules_version = version
        key = (action, ref.id)
        allowed = client.allowed.get(key)
        if allowed is None:
            if len(client.allowed) >= REMEMBERED:
                client.allowed.clear()
            allowed = client.allowed[key] = can(
                client.actor, action, ref.address, private=ref.private, rules=rules.loaded
            )
        return allowed

    def refusal(self, client: ClientState, action: str, ref: ChannelRef) -> BusError:
        """Return the error for a client that may not. It does not reveal a channel that is hidden from the client."""
        try:
            require(client.actor, action, ref.address, private=ref.private, rules=self._rules.loaded)
        except BusError as problem:
            return problem
        return BusError(ErrorCode.FORBIDDEN)

    def check(self, client: ClientState, action: str, ref: ChannelRef) -> None:
        """Raise ``BusError`` FORBIDDEN, or CHANNEL_NOT_FOUND for a hidden channel, unless the client may."""
        if not self.may(client, action, ref):
            raise self.refusal(client, action, ref)
