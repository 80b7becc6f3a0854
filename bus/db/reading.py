"""Which database the rows of a page come from: the default one, or a replica of it for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)

_alias: ContextVar[str] = ContextVar("database to read from", default=DEFAULT_DB_ALIAS)


def rows(model: type[M]) -> QuerySet[M]:
    """Return the rows of a model in the database to read from."""
    return model._default_manager.using(_alias.get())


def database() -> Any:
    """Return the connection to the database to read from."""
    return connections[_alias.get()]


@contextmanager
def reading_from(alias: str, longest: float) -> Iterator[None]:
    """Read from another database within the block, with ``longest`` seconds for a statement (PostgreSQL).

    The connection is given back at the end: no thread waits for its next question with it.
    """
    wrapper: Any = connections[alias]
    token = _alias.set(alias)
    try:
        with transaction.atomic(using=alias, savepoint=False):
            if wrapper.vendor == "postgresql":
                with wrapper.cursor() as cursor:
                    cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{longest * 1000:.0f}"])
            yield
    finally:
        _alias.reset(token)
        if not wrapper.in_atomic_block:
            wrapper.close()
