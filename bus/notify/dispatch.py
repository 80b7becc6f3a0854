"""Notifications from any thread of any process: Django code, the admin, management commands."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from asgiref.sync import async_to_sync
from channels.layers import BaseChannelLayer
from django.apps import apps
from django.db import transaction

from . import layer
from .layer_broker import line_number
from .messages import Notification, to_layer
from .topics import by_topic

logger = logging.getLogger("arqonbus.broker")

Handed = TypeVar("Handed", bound=Notification)


def _nodes() -> list[Any]:
    return list(apps.get_app_config("bus").nodes)  # type: ignore[attr-defined]


def overloaded() -> bool:
    """Whether this process should accept no ephemeral message now (``Broker.overloaded``)."""
    return any(node.broker.overloaded for node in _nodes())


def notify(notification: Notification) -> None:
    """Tell the nodes of this process and, through one of them or directly, the other processes."""
    nodes = _nodes()
    for position, node in enumerate(nodes):
        node.receive_threadsafe(notification, pass_on=position == 0)
    if not nodes:
        _send_directly(notification)


def hand_on_commit(notification: Handed, instead: Callable[[Handed], Notification]) -> None:
    """Hand a notification to one node of this process once the caller's transaction is committed.

    In a process without a node, the other processes get the notification that ``instead`` makes of it.
    """

    def hand() -> None:
        nodes = _nodes()
        if nodes:
            nodes[0].receive_threadsafe(notification, pass_on=False)
        else:
            notify(instead(notification))

    transaction.on_commit(hand)


def _send_directly(notification: Notification) -> None:
    """Send from a process without a node of its own, such as a management command."""
    shared = layer.shared_layer()
    if shared is None:
        return  # There is one process, which finds in the log what was written.
    try:
        async_to_sync(_send_over)(shared, notification)
    except Exception as problem:  # noqa: BLE001 - a layer may raise anything
        logger.error("the channel layer does not answer: %s", problem, extra={"event": "layer_lost"})


async def _send_over(shared: BaseChannelLayer, notification: Notification) -> None:
    links = layer.links_over(shared)
    try:
        for topic, part in by_topic(notification):
            await links[line_number(topic, len(links))].send([(topic, to_layer([part], ""))])
    finally:
        for link in links:
            await link.close()


def notify_on_commit(notification: Notification) -> None:
    """Notify once the caller's transaction is committed, and never when it is rolled back."""
    transaction.on_commit(lambda: notify(notification))
