"""Whether a module that touches a server's internals may be used in this process: asked once, a failure is said in one line."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

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


def server_of(send: Any) -> str | None:
    """The known server whose ``send`` it is, by the module of the object behind it; None for another one."""
    behind = send.args[0] if isinstance(send, functools.partial) and send.args else getattr(send, "__self__", None)
    module = type(behind).__module__
    return next((server for server in _PACKAGES if module.startswith(f"{server}.")), None)


@functools.cache
def stands_aside(server: str, what: str, why: str) -> None:
    """Say, once for each reason, that a known server is not gone through directly though nobody asked for that."""
    logger.warning("%s go the ordinary, slower way under %s: %s", what, server, why, extra={"event": "selftest_failed"})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"
