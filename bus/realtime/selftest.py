"""Whether a module that touches a server's internals may be used in this process: asked once, a failure is said in one line."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

logger = logging.getLogger("arqonbus.realtime")

_PACKAGES = {"daphne": ("daphne", "autobahn", "twisted"), "uvicorn": ("uvicorn", "websockets")}


@functools.cache
def passed(server: str, what: str, fault: Callable[[], str | None]) -> bool:
    """Run the self-test ``fault`` of the module that does ``what`` under ``server``; it returns what is wrong, or None.

    What it raises is wrong too: whatever another version of a server does.
    """
    try:
        found = fault()
    except Exception as problem:  # noqa: BLE001 - said in the line below
        found = f"{type(problem).__name__}: {problem}"
    if found is None:
        return True
    logger.warning(
        "%s go the ordinary, slower way: %s failed the self-test of the direct one (%s)",
        what,
        ", ".join(f"{package} {_version(package)}" for package in _PACKAGES[server]),
        found,
        extra={"event": "selftest_failed"},
    )
    return False


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"
