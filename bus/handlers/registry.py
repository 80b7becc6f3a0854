"""The decorator ``on``, the handlers that it registered, and what a handler gets."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar

from django.apps import apps
from django.utils.module_loading import autodiscover_modules

from ..auth.permissions import matches
from ..conf.settings import config
from ..protocol.names import INBOX_ROOM, WHOLE, Address, is_name

#: The channel of messages that a handler gave up.
DEAD = Address("handlers", "dead")

#: The longest name of a handler, in characters.
LONGEST_NAME = 100


class HandledMessage:
    """A message as a handler gets it. ``frame`` has all of it, as it was delivered."""

    def __init__(self, frame: bytes, address: Address, seq: int, attempt: int) -> None:
        #: The bytes of the frame.
        self.raw = frame
        #: The room of the log, also for a message to the whole room.
        self.room = address.room
        #: The channel of the log; ``*`` for a message to the whole room.
        self.channel = address.channel
        #: The place of the message in its log.
        self.seq = seq
        #: 1 for the first call with this message, 2 for the next one.
        self.attempt = attempt

    def __repr__(self) -> str:
        """Return the place of the message, without its text."""
        return f"<HandledMessage {self.address} #{self.seq}>"

    @property
    def address(self) -> str:
        """The address of the log, ``room:channel``."""
        return f"{self.room}:{self.channel}"

    @cached_property
    def frame(self) -> dict[str, Any]:
        """The frame as values."""
        frame: dict[str, Any] = json.loads(self.raw)
        return frame

    @property
    def id(self) -> str:
        """The id of the message."""
        return str(self.frame["id"])

    @property
    def type(self) -> str:
        """The type of the message, such as ``event``."""
        return str(self.frame["type"])

    @property
    def sender(self) -> str:
        """The client id of the sender."""
        return str(self.frame["from"])

    @property
    def payload(self) -> dict[str, Any]:
        """The payload; empty without one."""
        payload: dict[str, Any] = self.frame.get("payload") or {}
        return payload

    @property
    def message(self) -> Any:
        """The text of the message; None without one."""
        return self.frame.get("message")

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata; empty without any."""
        metadata: dict[str, Any] = self.frame.get("metadata") or {}
        return metadata

    @property
    def timestamp(self) -> datetime:
        """When the message was kept."""
        return datetime.fromisoformat(self.frame["timestamp"])


Function = TypeVar("Function", bound=Callable[[HandledMessage], Any])


class Registered(NamedTuple):
    """A handler: its function and the arguments of :func:`on`."""

    function: Callable[[HandledMessage], Any]
    pattern: str
    name: str
    attempts: int = 5
    since: Literal["now", "start"] = "now"
    on_error: Literal["dead", "stop"] = "dead"
    types: frozenset[str] | None = None

    @property
    def asynchronous(self) -> bool:
        """Whether the function is a coroutine function, which runs without a transaction."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def place(self) -> str:
        """The module and the name of the function."""
        return f"{self.function.__module__}.{getattr(self.function, '__qualname__', repr(self.function))}"

    def covers(self, address: Address) -> bool:
        """Whether the handler gets the messages of a log.

        A pattern with stars covers no inbox, and no log in which the bus tells of itself: those must be named.
        """
        if not matches(self.pattern, str(address)):
            return False
        if address.is_inbox:
            return self.pattern == str(address)
        if address.room in (DEAD.room, config().system_room):
            return self.pattern == address.room or self.pattern.startswith(f"{address.room}:")
        return True


#: The handlers of the project. The decorator fills it when the modules are imported.
REGISTERED: list[Registered] = []


def on(
    pattern: str,
    *,
    name: str,
    attempts: int = 5,
    since: Literal["now", "start"] = "now",
    on_error: Literal["dead", "stop"] = "dead",
    types: Collection[str] | None = None,
) -> Callable[[Function], Function]:
    """Let the decorated function get each message of the channels that ``pattern`` matches. The function stays as it is.

    ``pattern`` is an address in which ``*`` is any text, as in grants. ``name`` belongs to the position of the handler in the
    database, so keep it when the function moves. At its first run the handler begins behind the messages that are there, or with
    ``since="start"`` before them. ``types`` are the types of messages that it gets; without it all. After ``attempts`` failures
    the message goes to ``handlers:dead``. With ``on_error="stop"`` the handler stops in that channel until somebody retries.
    A wrong argument is reported by the system check and by ``runhandlers``.
    """

    def register(function: Function) -> Function:
        kinds = None if types is None else frozenset(types)
        REGISTERED.append(Registered(function, pattern, name, attempts, since, on_error, kinds))
        return function

    return register


def known() -> list[Registered]:
    """Import the modules ``handlers`` of the apps, and return the handlers of the project."""
    autodiscover_modules("handlers")
    return list(REGISTERED)


def chosen(names: Collection[str] = ()) -> list[Registered]:
    """Import the modules ``handlers`` of the apps, and return the handlers with these names; without names, all.

    Raises ``ValueError`` without a handler, for an unknown name, and for a handler that cannot run.
    """
    wanted = [one for one in known() if not names or one.name in names]
    if missing := sorted(set(names) - {one.name for one in wanted}):
        raise ValueError(f"No handler has the name {', '.join(missing)}.")
    if not wanted:
        raise ValueError("No app has a module handlers with a function that @on decorates.")
    if wrong := [f"{text} {hint}" for text, hint in problems(wanted)]:
        raise ValueError("\n".join(wrong))
    return wanted


class Problem(NamedTuple):
    """Why a handler cannot run, and what to do."""

    text: str
    hint: str


def problems(registered: Sequence[Registered]) -> Iterator[Problem]:
    """Yield a problem for each handler that cannot run as its author meant. :func:`misplaced` has one kind more."""
    names = Counter(one.name for one in registered)
    for one in registered:
        place = f"The handler {one.name!r} ({one.place})"
        if names[one.name] > 1:
            yield Problem(f"{place} has the name of another handler.", "Give each handler its own name.")
        if not one.name.strip() or len(one.name) > LONGEST_NAME:
            yield Problem(f"{place} has no usable name.", f"A name has 1 to {LONGEST_NAME} characters.")
        if wrong := _wrong_pattern(one.pattern):
            yield Problem(f"{place} has the pattern {one.pattern!r}. {wrong}", "Use a pattern such as shop:*.")
        if one.attempts < 1:
            yield Problem(f"{place} has {one.attempts!r} attempts.", "attempts is at least 1.")
        for argument, value, allowed in (
            ("since", one.since, ("now", "start")),
            ("on_error", one.on_error, ("dead", "stop")),
        ):
            if value not in allowed:
                yield Problem(f"{place} has {argument}={value!r}.", f"Use one of {', '.join(allowed)}.")
        if not _takes_one(one.function):
            yield Problem(f"{place} cannot be called with one message.", "Write def handler(message): …")
        if inspect.isgeneratorfunction(one.function) or inspect.isasyncgenfunction(one.function):
            yield Problem(f"{place} is a generator, which does nothing when it is called.", "Use no yield in it.")


def misplaced(registered: Sequence[Registered]) -> Iterator[Problem]:
    """Yield a problem for each handler that some other module than ``handlers`` of an installed app has."""
    for one in registered:
        if not _found_by_command(one.function):
            yield Problem(
                f"The handler {one.name!r} ({one.place}) is in no module that runhandlers imports.",
                "Put it into the module handlers of an app in INSTALLED_APPS.",
            )


def _wrong_pattern(pattern: str) -> str:
    """Return what is wrong with a pattern; "" if nothing is."""
    room, colon, channel = pattern.partition(":")
    parts = (room, channel) if colon else (room,)
    if not all(part and is_name(part.replace(WHOLE, "") or "x") for part in parts):
        return "That matches no address."
    if room == INBOX_ROOM and (not colon or WHOLE in channel):
        return "A handler gets the messages of one inbox, and not of all."
    return ""


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # A function of C may have no signature.
        return True
    return True


def _found_by_command(function: Callable[..., Any]) -> bool:
    """Whether an installed app's module ``handlers``, or one below it, has the function."""
    module = getattr(function, "__module__", "") or ""
    return any(
        module == own or module.startswith(f"{own}.")
        for own in (f"{app.name}.handlers" for app in apps.get_app_configs())
    )
