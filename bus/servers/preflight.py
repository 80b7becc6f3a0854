"""Checks before a server starts. Each failure is one line that says what to do."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseError
from django.db.migrations.executor import MigrationExecutor
from django.utils.module_loading import import_string

from ..conf.settings import LAYER_HINT, in_memory_layer
from ..db import faults as database
from ..notify.layer import reach, shared_layer
from ..services import nodes

#: How long a server waits for the end of another one on its database, and how often it looks. In seconds.
PATIENCE = 5.0
LOOK_EVERY = 0.1


class NotReady(Exception):
    """Something that the server needs is missing; the text says what, and how to fix it."""


def check_database() -> None:
    """Raise ``NotReady`` when the database does not answer or lacks migrations."""
    connection = connections[DEFAULT_DB_ALIAS]
    # The pool's own warnings would repeat the error four times.
    pool = logging.getLogger("psycopg.pool")
    before = pool.level
    pool.setLevel(logging.ERROR)
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as problem:
        reason = database.one_line(database.first_hand(problem))
        raise NotReady(
            f"The database at {_shown(settings.DATABASES[DEFAULT_DB_ALIAS])} does not answer: {reason}. "
            "Start it, or correct DATABASE_URL."
        ) from None
    finally:
        connection.close()
        pool.setLevel(before)
    if missing:
        raise NotReady(
            f"The database lacks migrations ({len(missing)} of them). Run `manage.py migrate` first (`make run` does it for you)."
        )


def check_alone() -> None:
    """Raise ``NotReady`` when another process serves this database and no Redis connects the two.

    A killed server may need some seconds to disappear. So it counts only if it still runs after ``PATIENCE``.
    """
    if not in_memory_layer():
        return
    until = time.monotonic() + PATIENCE
    try:
        while (others := nodes.others()) and time.monotonic() < until:
            time.sleep(LOOK_EVERY)
    finally:
        connections[DEFAULT_DB_ALIAS].close()
    if others:
        raise NotReady(
            f"Another process already serves this database: {others[0]}. Without Redis the two cannot exchange messages. "
            f"Stop it, or use another database. For several processes: {LAYER_HINT}"
        )


def asgi_application() -> Any:
    """The project's application. Raises ``NotReady`` when ``ASGI_APPLICATION`` does not name one."""
    name = getattr(settings, "ASGI_APPLICATION", None)
    if not name:
        raise NotReady('ASGI_APPLICATION is not set. Name the application, such as "yourproject.asgi.application".')
    try:
        return import_string(name)
    except ImportError as problem:
        raise NotReady(f"ASGI_APPLICATION {name!r} cannot be imported: {problem}") from None


def check_layer(workers: int = 1) -> None:
    """Raise ``NotReady`` when Redis does not answer, or when several workers have an in-memory layer only."""
    layer = shared_layer()
    if layer is None:
        if workers > 1:
            raise NotReady(f"--workers {workers} needs Redis. Set REDIS_URL, such as redis://localhost:6379/0.")
        return

    try:
        asyncio.run(reach(layer))
    except Exception as problem:  # noqa: BLE001 - a layer may raise anything
        url = getattr(settings, "REDIS_URL", "")
        # Another project has only its CHANNEL_LAYERS, whose addresses may contain a password.
        where, mend = (
            (_without_password(url), "correct REDIS_URL, or unset it to run a single process.")
            if url
            else ("the address in CHANNEL_LAYERS", "correct it, or use the in-memory layer to run a single process.")
        )
        raise NotReady(f"Redis at {where} does not answer ({type(problem).__name__}). Start it, {mend}") from None


def _shown(database: dict[str, object]) -> str:
    name, host = database.get("NAME"), database.get("HOST")
    return f"{host}:{database.get('PORT') or 5432}/{name}" if host else str(name)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}"))
