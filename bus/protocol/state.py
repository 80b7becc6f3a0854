"""The states of one connection, and the steps between them.

A socket of the bus goes from ``CONNECTING`` to ``REGISTERED``. A telemetry socket or a stream of events is no client of the bus:
it goes to ``SERVED`` instead. Every state may end in ``CLOSING`` or ``CLOSED``.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a connection stands."""

    #: The connection is there; the bus has not counted it yet.
    CONNECTING = "connecting"
    #: The connection is counted and welcomed; its client has not said who it is.
    CONNECTED = "connected"
    #: The claim to a client id is on its way to the database, which may hold it from now on.
    CLAIMING = "claiming"
    #: The client id belongs to the connection; its first memberships begin.
    JOINING = "joining"
    #: The client has its answer to the registration.
    REGISTERED = "registered"
    #: The connection is in use without being a client: a telemetry socket, or a stream of events.
    SERVED = "served"
    #: This process has said that it closes the connection.
    CLOSING = "closing"
    #: The connection is over.
    CLOSED = "closed"


_ENDINGS = (State.CLOSING, State.CLOSED)

#: The states that may follow each state.
STEPS: dict[State, frozenset[State]] = {
    State.CONNECTING: frozenset({State.CONNECTED, State.SERVED, *_ENDINGS}),
    State.CONNECTED: frozenset({State.CLAIMING, State.SERVED, *_ENDINGS}),
    # A claim that was refused may be followed by another one.
    State.CLAIMING: frozenset({State.CLAIMING, State.JOINING, *_ENDINGS}),
    State.JOINING: frozenset({State.REGISTERED, *_ENDINGS}),
    State.REGISTERED: frozenset(_ENDINGS),
    State.SERVED: frozenset(_ENDINGS),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


class IllegalStep(RuntimeError):
    """A step that the table does not have: a fault of the program."""

    def __init__(self, before: State, after: State) -> None:
        super().__init__(f"A connection cannot go from {before.name} to {after.name}.")


class Ended(Exception):
    """The connection was closed while something was done for it; there is nobody left to answer."""


class Lifecycle:
    """The state of one connection, which changes by the steps of :data:`STEPS` only."""

    __slots__ = ("reached", "state")

    def __init__(self) -> None:
        self.state = State.CONNECTING
        #: The last state before the end; the state itself while the connection lasts.
        self.reached = State.CONNECTING

    def step(self, after: State) -> None:
        """Go on to ``after``.

        Raises :class:`Ended` where the connection has ended meanwhile, and :class:`IllegalStep` for a step of another kind.
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
        """Whether its frames are accepted: it is registered, or needs no registration."""
        return self.state is State.REGISTERED or self.state is State.SERVED

    @property
    def known(self) -> bool:
        """Whether it was ever registered, also once it is closing."""
        return self.reached is State.REGISTERED or self.reached is State.SERVED

    @property
    def claimed(self) -> bool:
        """Whether the database may hold its claim to a client id, also once it is closing."""
        return self.reached is State.CLAIMING or self.reached is State.JOINING or self.reached is State.REGISTERED
