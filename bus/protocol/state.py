"""The states of one connection, and the steps between them.

A socket of the bus goes from ``CONNECTING`` to ``REGISTERED``. A telemetry socket or an event stream is no client of the bus, so
it goes to ``SERVED`` instead. ``CLOSING`` or ``CLOSED`` may follow every state.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """The state of a connection."""

    #: The connection exists, but the bus has not counted it yet.
    CONNECTING = "connecting"
    #: The connection is counted and has its welcome. Its client has not registered.
    CONNECTED = "connected"
    #: The claim to a client id goes to the database, which may hold it from now on.
    CLAIMING = "claiming"
    #: The client id belongs to the connection, and its first memberships begin.
    JOINING = "joining"
    #: The client has received the answer to its registration.
    REGISTERED = "registered"
    #: The connection is in use, but is no client: a telemetry socket or an event stream.
    SERVED = "served"
    #: This process has begun to close the connection.
    CLOSING = "closing"
    #: The connection is over.
    CLOSED = "closed"


_ENDINGS = (State.CLOSING, State.CLOSED)

#: The states that may follow each state.
STEPS: dict[State, frozenset[State]] = {
    State.CONNECTING: frozenset({State.CONNECTED, State.SERVED, *_ENDINGS}),
    State.CONNECTED: frozenset({State.CLAIMING, State.SERVED, *_ENDINGS}),
    # After a refused claim the client may try another one.
    State.CLAIMING: frozenset({State.CLAIMING, State.JOINING, *_ENDINGS}),
    State.JOINING: frozenset({State.REGISTERED, *_ENDINGS}),
    State.REGISTERED: frozenset(_ENDINGS),
    State.SERVED: frozenset(_ENDINGS),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


class IllegalStep(RuntimeError):
    """A step that :data:`STEPS` does not allow. This is a bug."""

    def __init__(self, before: State, after: State) -> None:
        super().__init__(f"A connection cannot go from {before.name} to {after.name}.")


class Ended(Exception):
    """The connection has ended before a step. Nobody is left to answer."""


class Lifecycle:
    """The state of one connection. Only the steps of :data:`STEPS` change it."""

    __slots__ = ("reached", "state")

    def __init__(self) -> None:
        self.state = State.CONNECTING
        #: The last state before the end. While the connection lasts, this is its state.
        self.reached = State.CONNECTING

    def step(self, after: State) -> None:
        """Change the state to ``after``.

        Raises :class:`Ended` if the connection has ended meanwhile, and :class:`IllegalStep` for any other impossible step.
        """
        before = self.state
        if after not in STEPS[before]:
            if before in _ENDINGS and after not in _ENDINGS:
                raise Ended
            raise IllegalStep(before, after)
        self.state = after
        if after not in _ENDINGS:
            self.reached = after

    @property
    def ending(self) -> bool:
        """Whether the connection is closing or closed."""
        return self.state in _ENDINGS

    @property
    def registered(self) -> bool:
        """Whether the frames of the connection are accepted: it is registered, or needs no registration."""
        return self.state is State.REGISTERED or self.state is State.SERVED

    @property
    def known(self) -> bool:
        """Whether the connection was ever registered or served. This stays true at its end."""
        return self.reached is State.REGISTERED or self.reached is State.SERVED

    @property
    def claimed(self) -> bool:
        """Whether the database may hold the connection's claim to a client id. This stays true at its end."""
        return self.reached is State.CLAIMING or self.reached is State.JOINING or self.reached is State.REGISTERED
