"""Error messages that say what to do, and exit codes for scripts.

===  =======================================================
0    done
1    refused by the server (400, 413, 429, 5xx)
2    wrong usage of the command line
3    the server is not reachable, or the connection was lost
4    not authenticated, or not allowed (401, 403)
5    no such room, channel or client (404)
6    a conflict (409)
7    timed out
8    a reader stopped the streamed message
130  Ctrl+C
===  =======================================================
"""

from __future__ import annotations

from ..errors import (
    ArqonBusError,
    AskFailed,
    ClientNotFound,
    ClosedByServer,
    Conflict,
    ConnectionFailed,
    ConnectionLost,
    Forbidden,
    IdentityInUse,
    NoResponder,
    NotFound,
    ServerError,
    TargetNotFound,
    Unauthenticated,
    ValidationFailed,
)


class NotThere(Exception):
    """The address of a command does not exist. ``creatable`` says whether the command could create it."""

    def __init__(self, text: str, *, creatable: bool) -> None:
        super().__init__(text)
        self.creatable = creatable


class NeverHere(Exception):
    """A durable question went to a client that the server does not know."""


class TooFew(Exception):
    """The timeout was over before enough messages arrived."""


class Stopped(Exception):
    """A reader stopped the streamed message that the command wrote."""


class Mismatch(Exception):
    """The bench found a message that a subscriber received twice, not at all, or out of order."""


REFUSED, USAGE, UNREACHABLE, NOT_ALLOWED, NOT_FOUND, CONFLICT, TIMED_OUT, STOPPED, INTERRUPTED = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    130,
)

_IDENTIFY = (
    "Create a token on the server:    python manage.py create_token NAME\n"
    "Then pass it to this command:    export ARQONBUS_TOKEN=…"
)

_PATH = (
    "Is the path right?      ws://HOST:PORT/ for the ready server\n"
    "In a Django project?    Use its prefix, such as ws://HOST:PORT/bus/. The server's log lists its sockets."
)

_TLS = "Without TLS?            Use ws:// instead of wss://"

_PROXY = "Do you want the proxy?  It comes from https_proxy, http_proxy or all_proxy. no_proxy=HOST skips it."

_START = (
    "Is the server running?  make run  (in the ArqonBus folder)\n"
    "Is it elsewhere?        --url ws://HOST:PORT/  or  export ARQONBUS_URL=ws://HOST:PORT/\n"
    "In a Django project?    Use its prefix, such as ws://HOST:PORT/bus/"
)


def explain(error: BaseException, url: str) -> tuple[int, str, str]:
    """Return the exit code, the error message and a hint, which may be empty. Raises ``error`` itself if it is a bug."""
    if isinstance(error, BaseExceptionGroup):
        return explain(error.exceptions[0], url)
    if isinstance(error, ClosedByServer) and error.error is not None:
        code, what, hint = explain(error.error, url)
        return code, f"{what} (closed with {error.close_code})", hint
    if isinstance(error, ConnectionFailed):
        if not url.startswith(("ws://", "wss://")):
            return USAGE, str(error), ""
        if error.answered:
            return UNREACHABLE, str(error), _PATH
        if error.proxy:
            return UNREACHABLE, str(error), _PROXY
        return UNREACHABLE, str(error), f"{_START}\n{_TLS}" if url.startswith("wss:") else _START
    if isinstance(error, ConnectionLost):
        return UNREACHABLE, str(error), "The server may be restarting. Try again."
    if isinstance(error, Stopped):
        return STOPPED, str(error), ""
    if isinstance(error, TooFew):
        return TIMED_OUT, str(error), ""
    if isinstance(error, TimeoutError):
        return TIMED_OUT, str(error) or "The server did not answer in time.", ""
    if isinstance(error, NotThere):
        create = "--create creates it. " if error.creatable else ""
        return NOT_FOUND, str(error), f"{create}`arqonbus channels` lists the channels."
    if isinstance(error, NeverHere):
        return NOT_FOUND, str(error), "Is the name right? `arqonbus status` lists the connected clients."
    if isinstance(error, Unauthenticated) or (isinstance(error, ClosedByServer) and error.close_code == 4401):
        return NOT_ALLOWED, str(error), _IDENTIFY
    if isinstance(error, Forbidden) or (isinstance(error, ClosedByServer) and error.close_code == 4403):
        return NOT_ALLOWED, str(error), "Ask an admin for a grant, or use a token with the right (ARQONBUS_TOKEN)."
    if isinstance(error, NoResponder):
        who = error.first_detail.get("to", "The responder")
        return (
            NOT_FOUND,
            f"{who} is not connected. {error}",
            "`arqonbus status` lists the connected clients. --durable waits.",
        )
    if isinstance(error, (TargetNotFound, ClientNotFound)):
        return NOT_FOUND, str(error), "`arqonbus status` lists the connected clients."
    if isinstance(error, NotFound):
        return NOT_FOUND, str(error), "`arqonbus channels` lists the channels."
    if isinstance(error, (Conflict, IdentityInUse)) or (
        isinstance(error, ClosedByServer) and error.close_code in (4409, 4410)
    ):
        return CONFLICT, str(error), ""
    if isinstance(error, ValidationFailed) and "no work" in error.message:
        return REFUSED, str(error), "`arqonbus work --create room:channel -- PROGRAM` creates a work channel."
    if isinstance(error, (ServerError, AskFailed)):
        return REFUSED, str(error), ""
    if isinstance(error, Mismatch):
        return REFUSED, str(error), "This is a bug. Please report it with the server's log."
    if isinstance(error, ValueError):
        return USAGE, str(error), ""
    if isinstance(error, ArqonBusError):
        return UNREACHABLE, str(error), ""
    if isinstance(error, OSError):
        return USAGE, f"{error.filename}: {error.strerror}" if error.filename else str(error), ""
    raise error
