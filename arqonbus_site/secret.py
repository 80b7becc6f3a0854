"""The key of development mode: generated once and kept beside the database."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def development_key(folder: Path) -> str:
    """The key in ``folder/development.key``, made on first use and readable by its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "development.key"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(handle, "w") as file:
        key = secrets.token_urlsafe(50)
        file.write(key)
    return key
