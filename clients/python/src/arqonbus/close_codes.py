"""What each close code means for a client (contract §8)."""

from __future__ import annotations

from typing import NamedTuple


class CloseKind(NamedTuple):
    """One row of the close-code table: what it means and whether a client comes back."""

    meaning: str
    reconnect: bool


CLOSE_CODES: dict[int, CloseKind] = {
    4008: CloseKind("repeated bad frames", reconnect=False),
    4012: CloseKind("the server restarts", reconnect=True),
    4013: CloseKind("too slow a reader, or overload; resume", reconnect=True),
    4401: CloseKind("not identified", reconnect=False),
    4403: CloseKind("not allowed, or sent away", reconnect=False),
    4409: CloseKind("client_id in use", reconnect=False),
    4410: CloseKind("taken over by a newer connection", reconnect=False),
    4429: CloseKind("too many frames or connections", reconnect=True),
}


def comes_back(code: int) -> bool:
    """Whether a client reconnects after this close code: by the table; other codes (1000, 1001, 1006, …) are a line that broke.

    Of the protocol's own codes only 1008 (policy) is final.
    """
    kind = CLOSE_CODES.get(code)
    return kind.reconnect if kind is not None else code != 1008
