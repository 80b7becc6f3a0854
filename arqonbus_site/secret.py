"""Files of development mode beside the database, readable by their owner only: the key and the SQLite file."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def development_key(folder: Path) -> str:
    """Return the key in ``folder/development.key``. The first call creates it.

    Raises ``ImproperlyConfigured`` if the folder is not writable.
    """
    path = folder / "development.key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text().strip()
        with os.fdopen(handle, "w") as file:
            key = secrets.token_urlsafe(50)
            file.write(key)
    except OSError as problem:
        raise ImproperlyConfigured(
            f"Cannot store the key of development mode in {folder} ({problem.strerror}). "
            "Make the folder writable, or set SECRET_KEY."
        ) from None
    return key


def prepare_sqlite(name: str, own_folder: Path) -> None:
    """Create an empty SQLite file ``name``. SQLite itself would let every local user read it.

    ``own_folder`` is created too. Another folder must exist, since a mistyped path would otherwise give an empty bus. Raises
    ``ImproperlyConfigured``.

    The database contains session keys, which are as good as passwords. SQLite gives its other files the same mode. An existing
    file keeps its mode, since somebody may share it on purpose. If this function cannot create the file, SQLite reports the
    error.
    """
    if name == ":memory:" or name.startswith("file:"):
        return
    folder = Path(name).parent
    with contextlib.suppress(OSError):
        if folder == own_folder:
            folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise ImproperlyConfigured(f"DATABASE_URL names a file in {folder}. There is no such folder.")
    with contextlib.suppress(OSError):
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
