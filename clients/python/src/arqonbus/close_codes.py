"""The meaning of each close code for a client."""

from __future__ import annotations

from typing import NamedTuple


class CloseKind(NamedTuple):
    """One row of the table of close codes: the meaning, and whether a client reconnects."""

    meaning: str
    reconnect: bool


CLOSE_CODES: dict[int, CloseKind] = {
    4008: CloseKind("too many invalid frames", reconnect=False),
    4012: CloseKind("the server restarts", reconnect=True),
    4013: CloseKind("slow reader, or a server that is overloaded or failed; resume", reconnect=True),
    4401: CloseKind("not authenticated", reconnect=False),
    4403: CloseKind("not allowed, or disconnected by an admin", reconnect=False),
    4409: CloseKind("client_id in use", reconnect=False),
    4410: CloseKind("taken over by a newer connection", reconnect=False),
    4429: CloseKind("too many frames or connections", reconnect=True),
}


def comes_back(code: int) -> bool:
    """Return whether a client reconnects after this close code.

    The table decides about the bus's own codes. Other codes (1000, 1001, 1006, …) mean a broken connection, except 1008 (policy).
    """
    kind = CLOSE_CODES.get(code)
    return kind.reconnect if kind is not None else code != 1008
