"""Signals of a model's rows, whichever related class saves them.

A row may be saved by its own class, by a proxy, and with inherited tables by a child or a parent. Django sends a signal
in the name of the class that was saved. A receiver for one class gets none of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

from django.db.models import Model
from django.db.models.signals import ModelSignal, class_prepared

M = TypeVar("M", bound=Model)

Receiver = Callable[..., Any]


def is_below(one: type[Model], other: type[Model]) -> bool:
    """Return whether a row of ``one`` is a row of ``other`` too: its proxy or child, or a class of the same table."""
    return issubclass(_table(one), _table(other))


def relatives(model: type[Model]) -> Iterator[type[Model]]:
    """Yield every present class whose rows may be rows of ``model``: parents, children, and proxies of the same table."""
    table = _table(model)
    waiting = [
        base for base in table.__mro__ if issubclass(base, Model) and base is not Model and not _is_abstract(base)
    ]
    seen: set[type[Model]] = set()
    while waiting:
        found = waiting.pop()
        if found in seen:
            continue
        seen.add(found)
        waiting += found.__subclasses__()
        if not _is_abstract(found) and (is_below(found, model) or is_below(model, found)):
            yield found


def listen(signal: ModelSignal, receiver: Receiver, model: type[Model], uid: Hashable) -> None:
    """Connect ``receiver`` to ``signal`` of all :func:`relatives` of ``model``, also of classes that are defined later."""

    def prepared(sender: type[Model], **_: Any) -> None:
        if is_below(sender, model) or is_below(model, sender):
            signal.connect(receiver, sender=sender, dispatch_uid=uid)

    for relative in relatives(model):
        prepared(relative)
    class_prepared.connect(prepared, weak=False, dispatch_uid=(id(signal), uid))


def ignore(signal: ModelSignal, model: type[Model], uid: Hashable) -> None:
    """Undo :func:`listen`."""
    class_prepared.disconnect(dispatch_uid=(id(signal), uid))
    for relative in relatives(model):
        signal.disconnect(sender=relative, dispatch_uid=uid)


def key_in(row: Model, model: type[Model]) -> Any:
    """Return the primary key of the row of ``model`` that belongs to a relative's ``row``."""
    return getattr(row, _table(model)._meta.pk.attname) if is_below(type(row), model) else row.pk


def as_row_of(model: type[M], row: Model, using: str | None = None) -> M | None:
    """Return a relative's ``row`` as a row of ``model``, or None if it is not one.

    ``using`` is the alias of the database. The function costs a query if ``row`` is of a parent, which may have children
    of another kind or none.
    """
    if isinstance(row, model):
        return row
    if _table(type(row)) is _table(model):
        # Proxies differ in their behaviour and not in their fields.
        same = model.__new__(model)
        same.__dict__.update(row.__dict__)
        return same
    if is_below(type(row), model):
        return as_row_of(model, _parent_of(row, _table(model)), using)
    if is_below(model, type(row)):
        return model._base_manager.using(using).filter(**{_table(type(row))._meta.pk.name: row.pk}).first()
    return None


def _parent_of(row: Any, table: type[Model]) -> Model:
    """Return a child's row as one of its parent's table, without a query."""
    values = {field.attname: getattr(row, field.attname) for field in table._meta.concrete_fields}
    parent = table(**values)
    parent._state.db, parent._state.adding = row._state.db, False
    return parent


def _table(model: type[Model]) -> type[Model]:
    return model._meta.concrete_model or model


def _is_abstract(model: type[Model]) -> bool:
    return bool(model._meta.abstract)
