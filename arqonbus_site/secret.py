"""What development mode keeps beside the database, readable by its owner only: the key, and the SQLite file itself."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def development_key(folder: Path) -> str:
    """The key in ``folder/development.key``, made on first use.

    Raises ``ImproperlyConfigured`` where the folder cannot be written to.
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
    """Make the empty file ``name`` of a SQLite database, for SQLite would let every local user read it.

    ``own_folder`` is made with it; that of a file elsewhere has to be there, or a mistyped path would be served as an empty bus.
    Raises ``ImproperlyConfigured``.

    A session's key in it is as good as a password. SQLite gives the files beside it the same mode. A file that is there keeps
    its mode: somebody may have shared it on purpose. What cannot be made is left for SQLite to refuse.
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
