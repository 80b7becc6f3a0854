"""Database routers as Django's documentation has them."""

from __future__ import annotations

from typing import Any


class Replica:
    """Reads come from a copy, which is behind: here it knows nothing of what came after the start. Sessions apart."""

    def db_for_read(self, model: Any, **_: Any) -> str | None:
        return None if model._meta.app_label == "sessions" else "replica"

    def db_for_write(self, model: Any, **_: Any) -> str:
        return "default"

    def allow_relation(self, *_: Any, **__: Any) -> bool:
        return True


class OwnDatabase:
    """The bus has a database of its own."""

    def db_for_read(self, model: Any, **_: Any) -> str | None:
        return "bus" if model._meta.app_label == "bus" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
        return (db == "bus") == (app_label == "bus")
