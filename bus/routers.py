"""A database router for projects with routers of their own: ``DATABASE_ROUTERS = ["bus.routers.BusRouter", …]``."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS


class BusRouter:
    """Keeps the bus in the default database. Put it first in ``DATABASE_ROUTERS``, so that it overrides the other routers.

    The log is read in the transaction that writes it, and a publish is part of the project's transaction. Both need the same
    database, and not a replica that lags behind.
    """

    def db_for_read(self, model: Any, **_: Any) -> str | None:
        """The database to read the model's rows from. None for a model of another app."""
        return DEFAULT_DB_ALIAS if model._meta.app_label == "bus" else None

    def db_for_write(self, model: Any, **_: Any) -> str | None:
        """The database to write the model's rows to. None for a model of another app."""
        return DEFAULT_DB_ALIAS if model._meta.app_label == "bus" else None

    def allow_relation(self, one: Any, other: Any, **_: Any) -> bool | None:
        """Allow relations between the bus and any row, such as a user that was read from a replica."""
        return True if "bus" in (one._meta.app_label, other._meta.app_label) else None

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
        """Whether to create the app's tables in the database ``db``. None for another app."""
        return db == DEFAULT_DB_ALIAS if app_label == "bus" else None
