"""Whose signals tell of a model's rows: its own, its proxies', and with inherited tables its children's and parents'.

Django sends a signal in the name of the class that was saved, and nobody who asks for one class hears of another's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

from django.db.models import Model
from django.db.models.signals import ModelSignal, class_prepared

M = TypeVar("M", bound=Model)

Receiver = Callable[..., Any]


def is_below(one: type[Model], other: type[Model]) -> bool:
    """Whether a row of ``one`` is a row of ``other`` too: its proxy or child, or the same table."""
    return issubclass(_table(one), _table(other))


def relatives(model: type[Model]) -> Iterator[type[Model]]:
    """Every class that is there now and whose rows may be rows of ``model``: above it, beside it as a proxy, and below."""
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
    """Have ``receiver`` hear ``signal`` of all :func:`relatives` of ``model``, also of classes that are made later."""

    def prepared(sender: type[Model], **_: Any) -> None:
        if is_below(sender, model) or is_below(model, sender):
            signal.connect(receiver, sender=sender, dispatch_uid=uid)

    for relative in relatives(model):
        prepared(relative)
    class_prepared.connect(prepared, weak=False, dispatch_uid=(id(signal), uid))


def ignore(signal: ModelSignal, model: type[Model], uid: Hashable) -> None:
    """The end of :func:`listen`."""
    class_prepared.disconnect(dispatch_uid=(id(signal), uid))
    for relative in relatives(model):
        signal.disconnect(sender=relative, dispatch_uid=uid)


def key_in(row: Model, model: type[Model]) -> Any:
    """The primary key of the row of ``model`` that a relative's ``row`` is."""
    return getattr(row, _table(model)._meta.pk.attname) if is_below(type(row), model) else row.pk


def as_row_of(model: type[M], row: Model, using: str | None = None) -> M | None:
    """``row``, which a relative of ``model`` is told of, as a row of ``model``; None where it is none.

    It costs a query where ``row`` is of a parent, which may have children of another kind or none.
    """
    if isinstance(row, model):
        return row
    if _table(type(row)) is _table(model):
        # Proxies differ in what they can do, and not in what they hold.
        same = model.__new__(model)
        same.__dict__.update(row.__dict__)
        return same
    if is_below(type(row), model):
        return as_row_of(model, _parent_of(row, _table(model)), using)
    if is_below(model, type(row)):
        return model._base_manager.using(using).filter(**{_table(type(row))._meta.pk.name: row.pk}).first()
    return None


def _parent_of(row: Any, table: type[Model]) -> Model:
    """A child's row as one of its parent's table, from what the child holds."""
    values = {field.attname: getattr(row, field.attname) for field in table._meta.concrete_fields}
    parent = table(**values)
    parent._state.db, parent._state.adding = row._state.db, False
    return parent


def _table(model: type[Model]) -> type[Model]:
    return model._meta.concrete_model or model


def _is_abstract(model: type[Model]) -> bool:
    return bool(model._meta.abstract)
