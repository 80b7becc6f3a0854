"""Gates: functions of the project that decide on a message before the bus keeps it.

::

    # shop/gates.py
    from bus.gates import Refuse, before

    @before("shop:bids")
    def check(message, actor):
        if message.payload["amount"] < 12:
            raise Refuse("TOO_LOW", "Bid 12 or more.")

The bus imports the module ``gates`` of each app when it is ready. A gate runs in the transaction that keeps the message, so
the rows that it writes are kept together with the message, or not at all. ``bus.publishing.gating`` runs the gates.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec

from .auth.permissions import matches
from .protocol.inbound import Inbound
from .protocol.names import INBOX_ROOM, Address

#: A pattern that can match an address: names of rooms and channels, with ``*`` for any text.
_PATTERN = re.compile(r"[A-Za-z0-9_\-./*]{1,64}(:[A-Za-z0-9_\-./*]{1,64})?", re.ASCII)
#: The form of a code: as those of the bus.
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)

Function = TypeVar("Function", bound=Callable[..., Any])


class Refuse(Exception):
    """A gate raises it to refuse a message. The publisher gets REFUSED with ``code`` and ``text``, and nothing is kept.

    ``code`` is 1 to 64 capital letters, digits and ``_``. Raises ``ValueError`` for another one.
    """

    def __init__(self, code: str, text: str) -> None:
        if not _CODE.fullmatch(code):
            raise ValueError("The code of Refuse is 1 to 64 capital letters, digits and _, such as TOO_LOW.")
        self.code = code
        self.text = str(text)
        super().__init__(code)


class Swallow(Exception):
    """A gate raises it to keep no message: the publisher's ack has ``"kept": false``. The rows of the gate are kept."""


class GateMessage:
    """A message as a gate sees it. ``payload``, ``message`` and ``metadata`` may be changed; all else is as it came.

    ``id`` is the message's ``arq_…`` id, ``address`` is ``room:channel``, and ``sender`` the true client id. ``payload`` is
    a dictionary, ``message`` a text or None, and ``metadata`` a dictionary or None. ``ask`` and ``stream`` say whether the
    message is a question, and whether it opens a streamed message. ``do`` says what an amendment does.
    """

    __slots__ = ("_inbound", "_message", "_metadata", "_payload", "address", "channel", "id", "room", "sender", "swallowed",
                 "type")  # fmt: skip

    def __init__(self, inbound: Inbound, address: Address, uid: str, sender: str) -> None:
        self._inbound = inbound
        self.id = uid
        self.type = inbound.type
        self.room, self.channel = address
        self.address = str(address)
        self.sender = sender
        #: Whether a gate wants the message not to be kept.
        self.swallowed = False
        self._payload: Any = _decoded(inbound.payload) if inbound.payload else {}
        self._message: Any = _decoded(inbound.message)
        self._metadata: Any = _decoded(inbound.metadata)

    @property
    def ask(self) -> bool:
        """Whether the message is a question."""
        return self._inbound.ask is not None

    @property
    def stream(self) -> bool:
        """Whether the message opens a streamed message."""
        return self._inbound.stream is not None

    @property
    def do(self) -> str | None:
        """What an amendment does: ``edit``, ``delete``, ``react`` or ``unreact``; None for any other message.

        Only an edit has a payload or a text, and perhaps only one of both.
        """
        return None if self._inbound.amend is None else self._inbound.amend.do

    @property
    def payload(self) -> dict[str, Any]:
        """The payload, which the gate may change or replace."""
        value: dict[str, Any] = self._payload
        return value

    @payload.setter
    def payload(self, value: dict[str, Any]) -> None:
        self._payload = value

    @property
    def message(self) -> str | None:
        """The text, which the gate may replace."""
        value: str | None = self._message
        return value

    @message.setter
    def message(self, value: str | None) -> None:
        self._message = value

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The metadata, which the gate may change or replace."""
        value: dict[str, Any] | None = self._metadata
        return value

    @metadata.setter
    def metadata(self, value: dict[str, Any] | None) -> None:
        self._metadata = value

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Payload, text and metadata as JSON. Raises ``TypeError`` or ``ValueError`` for a value that JSON does not have."""
        return _encoded(self._payload), _encoded(self._message), _encoded(self._metadata)

    def swallow(self) -> None:
        """Keep no message. The publisher's ack has ``"kept": false``; the rows of the gate are kept."""
        self.swallowed = True


def _decoded(text: bytes | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _encoded(value: Any) -> bytes | None:
    return None if value is None else msgspec.json.encode(value)


class Gate(NamedTuple):
    """A registered function with the pattern of its addresses."""

    pattern: str
    function: Callable[[GateMessage, Any], Any]

    @property
    def name(self) -> str:
        """The function as people look for it: ``module.name``."""
        return f"{self.function.__module__}.{getattr(self.function, '__qualname__', self.function)}"

    def fault(self) -> str | None:
        """What is wrong with the gate, in a sentence; None for a good one."""
        if not _PATTERN.fullmatch(self.pattern):
            return f"{self.pattern!r} is no pattern of an address, such as shop:bids or shop:*."
        if inspect.iscoroutinefunction(self.function):
            return (
                "The function is asynchronous. A gate runs in a transaction of the database, so it is a usual function."
            )
        try:
            inspect.signature(self.function).bind(None, None)
        except TypeError:
            return "The function does not take two arguments: the message and the actor."
        except ValueError:
            return None  # A function without a signature, such as one of C.
        return None


class _Registry:
    """The gates of this process, in the order of their registration. It is closed once a channel was looked up."""

    def __init__(self) -> None:
        self.gates: list[Gate] = []
        self.closed = False

    def add(self, gate: Gate) -> None:
        if self.closed:
            raise RuntimeError(
                f"The gate {gate.name} comes too late: the bus has begun to publish. Put it into the module `gates` of an app."
            )
        self.gates.append(gate)


_registry = _Registry()


def before(pattern: str) -> Callable[[Function], Function]:
    """Register a gate: a function ``(message, actor)`` that decides on each message to an address that ``pattern`` matches.

    In the pattern ``*`` stands for any text, as in grants: ``shop:bids``, ``shop:*``, ``*:audit``. The gate raises
    :class:`Refuse` to refuse the message. It may change ``message.payload``, write rows, or call ``message.swallow()``.

    Raises ``ValueError`` for the inboxes of private messages (``pm``), and ``RuntimeError`` once messages were published.
    """
    if pattern.partition(":")[0] == INBOX_ROOM:
        raise ValueError("A gate has a pattern such as shop:bids. Private messages (pm) have no gate.")

    def register(function: Function) -> Function:
        _registry.add(Gate(pattern, function))
        return function

    return register


def registered() -> tuple[Gate, ...]:
    """Return all gates of this process."""
    return tuple(_registry.gates)


def gates_of(address: Address) -> tuple[Gate, ...]:
    """Return the gates that a message to ``address`` meets, in the order of their registration. Afterwards none can be added."""
    _registry.closed = True
    return _gates_of(address) if _registry.gates else ()


@lru_cache(maxsize=4096)
def _gates_of(address: Address) -> tuple[Gate, ...]:
    if address.is_inbox:
        return ()
    text = str(address)
    return tuple(gate for gate in _registry.gates if matches(gate.pattern, text))


@contextmanager
def only(*gates: tuple[str, Callable[[GateMessage, Any], Any]]) -> Iterator[None]:
    """For tests: within the block these gates, each a pattern and a function, are all that there are.

    A running node remembers whether a channel has gates. So the block begins before the node meets the channel.
    """
    before_, was_closed = _registry.gates, _registry.closed
    _registry.gates, _registry.closed = [Gate(*gate) for gate in gates], False
    _gates_of.cache_clear()
    try:
        yield
    finally:
        _registry.gates, _registry.closed = before_, was_closed
        _gates_of.cache_clear()
