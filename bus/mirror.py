"""Publish what happens to a model's rows: created, updated, deleted.

::

    from bus.mirror import mirror

    @mirror(Order, channel="shop:orders")
    def order_on_the_bus(order):
        return {"id": order.pk, "state": order.state}

Put it into a module that is imported at start (``apps.py`` → ``ready``). The message is written in the transaction of the
change: subscribers hear of it after the commit, and never after a rollback. ``QuerySet.update`` and ``bulk_create`` send no
signals in Django, so they are not mirrored; ``order_on_the_bus.publish(order, "updated")`` does it by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from django.db.models import Model
from django.db.models.signals import post_delete, post_save

from .protocol.errors import BusError
from .services import Published, publish

M = TypeVar("M", bound=Model)

#: What can happen to a row.
EVENTS = ("created", "updated", "deleted")

#: The decorated function: a row's public values, or None for a row that is not to be told of.
Describe = Callable[[M], dict[str, Any] | None]


class Mirror(Generic[M]):
    """A model's place on the bus. Made by :func:`mirror`; calling it describes a row."""

    def __init__(
        self,
        model: type[M],
        describe: Describe[M],
        channel: str | Callable[[M], str],
        events: frozenset[str],
        durable: bool,
    ) -> None:
        self.model = model
        self.events = events
        self._describe = describe
        self._channel = channel
        self._durable = durable
        self.__doc__ = describe.__doc__

    def __call__(self, row: M) -> dict[str, Any] | None:
        """What the bus tells of a row."""
        return self._describe(row)

    def publish(self, row: M, event: str, *, changed: Iterable[str] | None = None) -> Published | None:
        """Tell of ``row`` now (inside a transaction: after its commit).

        None when it is not to be told of, or nobody is there to be told: its channel is the inbox of a client that was never
        here. Raises ``BusError`` for an address or values that cannot be published.
        """
        data = self._describe(row)
        if data is None:
            return None
        payload: dict[str, Any] = {
            "event": event,
            "model": self.model._meta.label_lower,
            "pk": row.pk if isinstance(row.pk, int) else str(row.pk),
            "data": data,
        }
        if changed is not None:
            payload["changed"] = sorted(changed)
        address = self._channel(row) if callable(self._channel) else self._channel
        try:
            return publish(address, payload, type="model", durable=self._durable)
        except BusError as problem:
            if problem.code == "TARGET_NOT_FOUND":
                return None
            raise

    def connect(self) -> None:
        """Begin to listen to the model's signals; the decorator has done it."""
        post_save.connect(self._saved, sender=self.model, dispatch_uid=self)
        post_delete.connect(self._deleted, sender=self.model, dispatch_uid=self)

    def disconnect(self) -> None:
        """Listen no more."""
        post_save.disconnect(sender=self.model, dispatch_uid=self)
        post_delete.disconnect(sender=self.model, dispatch_uid=self)

    def _saved(
        self, instance: M, created: bool, raw: bool, update_fields: frozenset[str] | None = None, **_: Any
    ) -> None:
        event = "created" if created else "updated"
        # Fixtures (`loaddata`) are no news.
        if not raw and event in self.events:
            self.publish(instance, event, changed=update_fields)

    def _deleted(self, instance: M, **_: Any) -> None:
        if "deleted" in self.events:
            self.publish(instance, "deleted")


def mirror(
    model: type[M],
    *,
    channel: str | Callable[[M], str],
    events: Iterable[str] = EVENTS,
    durable: bool = True,
) -> Callable[[Describe[M]], Mirror[M]]:
    """Publish creations, updates and deletions of ``model`` to ``channel``, as what the decorated function makes of a row.

    ``channel`` is an address such as ``"shop:orders"``, or a function of the row. The message's type is ``model``, its payload
    ``{"event": "created", "model": "shop.order", "pk": 7, "data": {…}}``, and ``changed`` with the names where the row was saved
    with ``update_fields``. ``durable=False`` writes the message after the commit instead of within the transaction. Raises
    ``ValueError`` for an unknown event.
    """
    chosen = frozenset(events)
    if unknown := chosen - set(EVENTS):
        raise ValueError(f"unknown events {sorted(unknown)}: choose from {', '.join(EVENTS)}")

    def decorate(describe: Describe[M]) -> Mirror[M]:
        made = Mirror(model, describe, channel, chosen, durable)
        made.connect()
        return made

    return decorate
