"""The C sources of the extension, and their digest: an extension that was built from other sources is not used."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).parent


def sources() -> list[Path]:
    """Return the C files in the order of their names. An installed wheel may have none."""
    return sorted(HERE.glob("*.c"))


@lru_cache(maxsize=1)
def digest() -> str:
    """Return the digest of all sources and headers; empty where there are none."""
    files = sorted([*HERE.glob("*.c"), *HERE.glob("*.h")])
    if not files:
        return ""
    found = hashlib.sha256()
    for file in files:
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:16]
