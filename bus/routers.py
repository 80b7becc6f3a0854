"""A database router for projects that have some of their own: ``DATABASE_ROUTERS = ["bus.routers.BusRouter", …]``."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS


class BusRouter:
    """First in ``DATABASE_ROUTERS``, it keeps the bus in the default database, whatever the project's own routers say.

    The log is read in the transaction that writes it, and a publish within a transaction of the project is part of that: both
    need one database, and no copy of it that is behind.
    """

    def db_for_read(self, model: Any, **_: Any) -> str | None:
        """Where to read the model's rows."""
        return DEFAULT_DB_ALIAS if model._meta.app_label == "bus" else None

    def db_for_write(self, model: Any, **_: Any) -> str | None:
        """Where to write them."""
        return DEFAULT_DB_ALIAS if model._meta.app_label == "bus" else None

    def allow_relation(self, one: Any, other: Any, **_: Any) -> bool | None:
        """A user who was read from a copy is the same one."""
        return True if "bus" in (one._meta.app_label, other._meta.app_label) else None

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
        """Where the tables are made."""
        return db == DEFAULT_DB_ALIAS if app_label == "bus" else None
