"""The activity of clients, announced by a signal: that a client did something, never what it said."""

from __future__ import annotations

from .. import signals
from ..node import ClientState, Node
from ..protocol.names import Address

#: An activity of a client is announced at most once in this many seconds.
INTERVAL = 1.0


def announce(node: Node, client: ClientState, activity: str, address: Address) -> None:
    """Announce that ``client`` did something at ``address``, unless it did the same a moment ago.

    ``activity`` is the type of a message or the name of a command. The path of a message looks into ``client.noted`` first.
    """
    if activity in client.noted:
        return
    if not isinstance(client.noted, set):
        client.noted = set()
    client.noted.add(activity)
    node.runtime.loop.call_later(INTERVAL, client.noted.discard, activity)
    ref = node.channels.known(address)
    if ref is not None or address.is_inbox:
        # An inbox is in no private room, and its owner is not announced.
        _send(client, activity, address, private=ref is not None and ref.private)
    else:
        node.runtime.spawn(_look_up_and_send(node, client, activity, address))


async def _look_up_and_send(node: Node, client: ClientState, activity: str, address: Address) -> None:
    _send(client, activity, address, private=await node.channels.is_private(address))


def _send(client: ClientState, activity: str, address: Address, *, private: bool) -> None:
    signals.client_active.send_robust(
        ClientState, client=client, activity=activity, room=address.room, channel=address.channel, private=private
    )
