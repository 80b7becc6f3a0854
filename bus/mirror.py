"""Publish the changes of a model's rows: created, updated, deleted.

::

    from bus.mirror import mirror

    @mirror(Order, channel="shop:orders")
    def order_on_the_bus(order):
        return {"id": order.pk, "state": order.state}

Put the function into a module that is imported at start (``apps.py`` → ``ready``). The transaction of the change writes the
message. Subscribers receive it after the commit, and never after a rollback. Rows written through a proxy, a child or a
parent of the model count too (``bus.family``). Django sends no signals for ``QuerySet.update``, ``bulk_create``,
``bulk_update`` and your own SQL, so these are not mirrored. Call ``order_on_the_bus.publish(order, "updated")`` for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec
from django.db.models import Manager, Model, QuerySet
from django.db.models.signals import post_delete, post_save

from .db import inheritance as family
from .live import Position, position
from .protocol.errors import BusError, ErrorCode
from .services import Published, publish

M = TypeVar("M", bound=Model)

#: The events of a row.
EVENTS = ("created", "updated", "deleted")

#: The decorated function. It returns a row's public values, or None for a row that must not be published.
Describe = Callable[[M], dict[str, Any] | None]

#: The rows of a snapshot, or a function that returns them.
Rows = QuerySet[M] | Manager[M] | Callable[[], QuerySet[M] | Manager[M]]


class Snapshot(msgspec.Struct, frozen=True):
    """The rows of a mirror at one moment, and the position in its channel at which the later changes begin."""

    #: Each row as the mirror's messages have it: ``{"pk": 7, "data": {…}}``.
    state: list[dict[str, Any]]
    position: Position

    def as_json(self) -> dict[str, Any]:
        """Return the snapshot as the JavaScript client's ``snapshot`` takes it: ``{"state": …, "position": …}``."""
        return {"state": self.state, "position": self.position.as_json()}


class Mirror(Generic[M]):
    """The mirror of one model. :func:`mirror` returns it. A call returns the public values of a row."""

    def __init__(
        self,
        model: type[M],
        describe: Describe[M],
        channel: str | Callable[[M], str],
        events: frozenset[str],
        durable: bool,
        snapshot: Rows[M] | None = None,
    ) -> None:
        self.model = model
        self.events = events
        self._describe = describe
        self._channel = channel
        self._durable = durable
        self._snapshot = snapshot
        self.__doc__ = describe.__doc__

    def __call__(self, row: M) -> dict[str, Any] | None:
        """Return the public values of a row, or None for a row that is not published."""
        return self._describe(row)

    def publish(self, row: M, event: str, *, changed: Iterable[str] | None = None) -> Published | None:
        """Publish ``row`` now. Inside a transaction, subscribers receive it after the commit.

        Returns None if the row is not published, or if its channel is the inbox of a client that never connected. Raises
        ``BusError`` for an address or values that cannot be published.
        """
        data = self._describe(row)
        if data is None:
            return None
        payload: dict[str, Any] = {
            "event": event,
            "model": self.model._meta.label_lower,
            "pk": self._key(row),
            "data": data,
        }
        if changed is not None:
            payload["changed"] = sorted(changed)
        address = self._channel(row) if callable(self._channel) else self._channel
        try:
            return publish(address, payload, type="model", durable=self._durable)
        except BusError as problem:
            if problem.code == ErrorCode.TARGET_NOT_FOUND:
                return None
            raise

    def _key(self, row: M) -> int | str:
        key = family.key_in(row, self.model)
        return key if isinstance(key, int) else str(key)

    def snapshot(self, rows: Rows[M] | None = None, *, address: str | None = None) -> Snapshot:
        """Return the mirrored rows, and the position at which the later changes begin (:func:`bus.live.position`).

        ``rows`` are those of the decorator's ``snapshot`` by default. A mirror whose channel is a function needs ``address``.
        Raises ``ValueError`` without rows or address, and as :func:`bus.live.position`.
        """
        chosen: Any = self._snapshot if rows is None else rows
        where = address or ("" if callable(self._channel) else self._channel)
        if chosen is None or not where:
            lacks = "address" if not where else "rows"
            raise ValueError(f"The snapshot of {self.model.__name__} needs its {lacks}.")
        found: QuerySet[M] = (chosen() if not hasattr(chosen, "all") else chosen).all()
        with position(where) as at:
            described = [(row, self._describe(row)) for row in found.iterator(chunk_size=2000)]
            state = [{"pk": self._key(row), "data": data} for row, data in described if data is not None]
        return Snapshot(state, at)

    def connect(self) -> None:
        """Connect to the signals of the model and its relatives. The decorator calls this."""
        family.listen(post_save, self._saved, self.model, self)
        family.listen(post_delete, self._deleted, self.model, self)

    def disconnect(self) -> None:
        """Disconnect from the signals."""
        family.ignore(post_save, self.model, self)
        family.ignore(post_delete, self.model, self)

    def _saved(
        self,
        sender: type[Model],
        instance: Model,
        created: bool,
        raw: bool,
        using: str | None = None,
        update_fields: frozenset[str] | None = None,
        **_: Any,
    ) -> None:
        event = "created" if created else "updated"
        # `loaddata` saves old rows (`raw`), which are not published.
        if raw or event not in self.events:
            return
        if created and not family.is_below(sender, self.model):
            return  # A new row of a parent has no child yet.
        row = family.as_row_of(self.model, instance, using)
        if row is not None:
            self.publish(row, event, changed=update_fields)

    def _deleted(self, sender: type[Model], instance: Model, using: str | None = None, **_: Any) -> None:
        # Django deletes the rows of parents and children too, each with its own signal, and only our model's signal counts.
        # A child deleted with `keep_parents` sends none for its parent.
        if "deleted" not in self.events or sender._meta.concrete_model is not self.model._meta.concrete_model:
            return
        row = family.as_row_of(self.model, instance, using)
        if row is not None:
            self.publish(row, "deleted")


def mirror(
    model: type[M],
    *,
    channel: str | Callable[[M], str],
    events: Iterable[str] = EVENTS,
    durable: bool = True,
    snapshot: Rows[M] | None = None,
) -> Callable[[Describe[M]], Mirror[M]]:
    """Publish creations, updates and deletions of ``model`` to ``channel``. The decorated function describes a row.

    Rows may be written through a proxy, a child or a parent of the model. The function gets a row of ``model`` or of a child.

    ``channel`` is an address such as ``"shop:orders"``, or a function of the row. The type of the message is ``model``. Its
    payload is ``{"event": "created", "model": "shop.order", "pk": 7, "data": {…}}``. If the row was saved with
    ``update_fields``, it has ``changed`` with their names. ``durable=False`` writes the message after the commit instead of in
    the transaction. ``snapshot`` are the rows that :meth:`Mirror.snapshot` shows, such as ``Order.objects.filter(open=True)``.
    Raises ``ValueError`` for an unknown event, and for an abstract model, which has no rows.
    """
    if model._meta.abstract:
        raise ValueError(f"{model.__name__} is abstract and has no rows. Mirror the models that inherit from it")
    chosen = frozenset(events)
    if unknown := chosen - set(EVENTS):
        raise ValueError(f"unknown events {sorted(unknown)}. The events are {', '.join(EVENTS)}")

    def decorate(describe: Describe[M]) -> Mirror[M]:
        made = Mirror(model, describe, channel, chosen, durable, snapshot)
        made.connect()
        return made

    return decorate
