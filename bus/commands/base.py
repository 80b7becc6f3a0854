"""The registry of commands, and their parameters, contexts and answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Protocol

import msgspec

from ..auth.permissions import Actor
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from ..protocol.values import holds_nul
from ..realtime.frame import LoggedFrame
from ..services.statuses import Said
from ..shapes import Shape


class Process(Protocol):
    """The services of the process that commands may use."""

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a service in a database thread."""
        ...

    async def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a service that may read many rows, in the thread for expensive reads."""
        ...

    async def run_writer(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a service that writes."""
        ...

    async def join(
        self,
        address: Address,
        since: int | str | None,
        epoch: str | None,
        *,
        parts: bool | None = None,
        last: int | None = None,
    ) -> Any:
        """Make the caller a member. ``parts`` as in the command ``join_channel``; None leaves it as it is."""
        ...

    async def follow(self, room: str, positions: Mapping[str, tuple[int, str | None]]) -> Any:
        """Let the caller follow a room, from its positions in the channels."""
        ...

    async def unfollow(self, room: str) -> list[str]:
        """End the following of a room. Return the rooms that are left."""
        ...

    async def begin(self, begun: Any) -> None:
        """Send what follows the answer to a join or a follow."""
        ...

    async def leave(self, address: Address) -> list[str]:
        """End the caller's membership."""
        ...

    async def mark(self, address: Address, seq: int, *, back: bool, epoch: str | None, begin: bool) -> Any:
        """Move the caller's mark in a log."""
        ...

    async def claim(self, address: Address, most: int, wait: float, have: tuple[str, ...] | None) -> Any:
        """Claim jobs of a work channel for the caller, and wait for the first one."""
        ...

    async def work(self, operation: Any) -> Any:
        """Renew or end a claim of the caller."""
        ...

    async def decide(self, function: Callable[[], Any]) -> Any:
        """Call a service that writes a decision. It may wait for the row of a channel."""
        ...

    async def await_decision(self, uid: str, wait: float) -> Any:
        """Return a decision as the caller sees it, at its end or after ``wait`` seconds."""
        ...

    async def set_status(self, said: Said) -> Any:
        """Set the caller's status."""
        ...

    def recent(self, address: Address, limit: int) -> list[LoggedFrame] | None:
        """The newest messages from memory. None if memory lacks some of them, or the caller may not read them."""
        ...

    @property
    def started_at(self) -> datetime:
        """The start time of the process."""
        ...


class Context(msgspec.Struct):
    """The caller of a command. ``room`` and ``channel`` are those of the frame, ``initial`` the pair of the registration.

    ``holder`` is the holder of the caller's marks; None for a caller that surely has none.
    ``inbox_floor`` is the seq in the caller's inbox up to which the messages belong to an earlier client with this id.
    """

    actor: Actor
    initial: Address
    room: str | None
    channel: str | None
    process: Process
    inbox_floor: int = 0
    holder: str | None = None

    def named(self, room: str | None, channel: str | None) -> tuple[str | None, str | None]:
        """The room and channel of a command. Parameters win over the fields of the frame."""
        if room and ":" in room and not channel:
            return room, None
        if channel and ":" in channel:
            return None, channel
        return room or self.room, channel or self.channel


class Answer(msgspec.Struct):
    """The result of a command. ``follow`` is the work that the connection does after sending the answer."""

    message: str
    result: Shape
    follow: Any = None


class Parameters(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of every command's parameters."""

    def cost(self) -> int:
        """The cost in frames that these parameters add to that of the command."""
        return 0


#: Cost, in frames, of commands that read many rows: a page of a list, and one channel or log.
LISTING, LOOK = 10, 4

Run = Callable[[Context, Any], Awaitable[Answer]]


class Description(Shape, frozen=True, kw_only=True):
    """The description of a command."""

    command: str
    summary: str
    who: str
    parameters: Annotated[dict[str, Any], msgspec.Meta(description="JSON Schema of each parameter.")]
    required: list[str]
    errors: list[str]


class Command(msgspec.Struct, frozen=True):
    """A registered command."""

    name: str
    parameters: type[Parameters]
    result: type[Shape]
    run: Run
    summary: str
    who: str
    errors: tuple[ErrorCode, ...]
    cost: int = 1
    #: Whether the command only reads.
    looks: bool = False
    #: Whether the connection's next frames are served while the command runs. The order of the answers is then open.
    beside: bool = False

    def read(self, parameters: dict[str, Any], hints: dict[str, Any]) -> Parameters:
        """The typed parameters. ``hints`` are keys of the frame beside ``parameters``; unknown ones are ignored.

        Raises ``BusError`` VALIDATION_ERROR, which names the parameter.
        """
        fields = self.parameters.__struct_fields__
        values = {key: value for key, value in hints.items() if key in fields and key not in parameters}
        values.update(parameters)
        faults = [
            {"field": key, "message": "NUL characters are not allowed."}
            for key, value in values.items()
            if holds_nul(value)
        ]
        try:
            read: Parameters = msgspec.convert(values, self.parameters, strict=False)
        except msgspec.ValidationError:
            faults += [fault for key, value in values.items() if (fault := self._fault(key, value)) is not None]
            read = self.parameters()
        if faults:
            raise BusError(
                ErrorCode.VALIDATION_ERROR, f"Invalid parameters of {self.name}: {faults[0]['message']}", faults
            )
        return read

    def _fault(self, key: str, value: Any) -> dict[str, str] | None:
        """The fault of one parameter, or None. All parameters have defaults."""
        try:
            msgspec.convert({key: value}, self.parameters, strict=False)
        except msgspec.ValidationError as problem:
            words = allowed_words(self.describe().parameters.get(key, {}))
            told = f"`{key}` is {words}." if words else str(problem)[:300]
            return {"field": key[:80], "message": told}
        return None

    @lru_cache  # noqa: B019 - ten commands live as long as the process, and a flood of `help` must not build schemas in the loop
    def describe(self) -> Description:
        """The command for ``help`` and the docs: summary, permission, own errors, and each parameter as JSON Schema.

        The result is cached, so callers must not change it.
        """
        schema = msgspec.json.schema(self.parameters)
        definition = inlined(schema["$ref"], schema["$defs"])
        return Description(
            command=self.name,
            summary=self.summary,
            who=self.who,
            parameters=definition.get("properties", {}),
            required=definition.get("required", []),
            errors=list(self.errors),
        )


def allowed_words(schema: dict[str, Any], mark: str = "") -> str:
    """Return the words that a parameter may be, such as ``names or none``; empty where it is not one of a few words.

    ``mark`` stands on both sides of each word.
    """
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    words = [f"{mark}{word}{mark}" for kind in kinds for word in kind.get("enum", ())]
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def inlined(reference: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema with all references replaced by the schemas that they name."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return {
                    **walk(definitions[value["$ref"].rpartition("/")[2]]),
                    **{k: v for k, v in value.items() if k != "$ref"},
                }
            return {key: walk(item) for key, item in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    inlined: dict[str, Any] = walk({"$ref": reference})
    return inlined


registry: dict[str, Command] = {}


def command(
    name: str,
    parameters: type[Parameters],
    result: type[Shape],
    *,
    who: str = "any",
    errors: tuple[ErrorCode, ...] = (),
    cost: int = 1,
    looks: bool = False,
    beside: bool = False,
) -> Callable[[Run], Run]:
    """Register a command with the shape of its ``result``. The first line of the function's docstring is its summary.

    The command counts as ``cost`` frames. ``looks`` says that it only reads. With ``beside`` the connection's next frames
    do not wait for it.
    """

    def register(run: Run) -> Run:
        summary = (run.__doc__ or "").strip().split("\n")[0]
        registry[name] = Command(name, parameters, result, run, summary, who, errors, cost, looks, beside)
        return run

    return register


def find(name: str) -> Command:
    """The command of that name. Raises ``BusError`` UNKNOWN_COMMAND."""
    found = registry.get(name)
    if found is None:
        raise BusError(
            ErrorCode.UNKNOWN_COMMAND,
            f"There is no command {name[:64]!r}. The `help` command lists all commands.",
            [{"field": "command", "value": name[:64], "known": sorted(registry)}],
        )
    return found
