"""The AsyncAPI 3.0 document: sockets, frames, commands, errors and close codes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .. import shapes
from ..commands import Command, registry
from ..protocol.dialects import KEY_ALIASES, TYPE_ALIASES
from ..protocol.errors import CLOSE_CODES, ERRORS
from ..version import VERSION
from . import frames

#: Host of the server in the committed document.
DEFAULT_HOST = "localhost:8765"
_REF = "#/components/schemas/{name}"


@dataclass(frozen=True)
class Message:
    """One kind of frame: its name in the document, its struct and examples. The struct's docstring is the summary."""

    name: str
    struct: type[msgspec.Struct]
    examples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Socket:
    """One socket: its path, and its frames in each direction. ``replies`` names the answers to each received frame."""

    name: str
    path: str
    title: str
    description: str
    takes: tuple[Message, ...]
    sends: tuple[Message, ...]
    replies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Whether this socket accepts the commands of the registry.
    commands: bool = False


BUS = Socket(
    name="bus",
    path="/",
    title="The bus",
    description="Rooms, channels, private messages and commands. The socket is also at /ws/. See docs/protocol.md.",
    takes=(
        Message(
            "register",
            frames.Register,
            ({"client_id": "my-client-1", "client_type": "app", "room": "science:explore", "screen_name": "MyApp"},),
        ),
        Message(
            "event",
            frames.Event,
            (
                {"type": "event", "room": "science", "channel": "explore", "message": "hello"},
                {
                    "version": "1.0",
                    "id": "arq_7f3a",
                    "type": "event",
                    "room": "science",
                    "channel": "explore",
                    "payload": {"message": "hi"},
                    "metadata": {},
                    "ack": True,
                },
            ),
        ),
        Message(
            "private",
            frames.Private,
            (
                {"type": "private", "to": ["other-client"], "message": "psst"},
                {"type": "private", "id": "q1", "to": "adder", "ask": {"timeout": 20}, "payload": {"a": 1, "b": 2}},
            ),
        ),
        Message("system", frames.System, ({"type": "system", "room": "science", "message": "maintenance at noon"},)),
        Message(
            "append",
            frames.Append,
            (
                {"type": "append", "of": "arq_a1", "n": 1, "delta": "Hel"},
                {"type": "append", "of": "arq_a1", "n": 2, "delta": "lo", "end": "complete", "id": "e1", "ack": True},
            ),
        ),
        Message("reply", frames.Reply, ({"type": "reply", "to_message": "arq_q1", "payload": {"sum": 3}},)),
        Message(
            "amend",
            frames.Amend,
            (
                {
                    "type": "amend",
                    "channel": "science:explore",
                    "of": "arq_7f3a",
                    "of_seq": 42,
                    "do": "edit",
                    "message": "hi",
                },
                {"type": "amend", "channel": "science:explore", "of": "arq_7f3a", "do": "react", "reaction": "👍"},
            ),
        ),
    ),
    sends=(
        Message("notice", frames.Notice),
        Message(
            "message",
            shapes.Message,
            (
                {
                    "version": "1.0",
                    "id": "arq_7f3a",
                    "type": "event",
                    "room": "science",
                    "channel": "explore",
                    "from": "my-client-1",
                    "timestamp": "2026-01-01T00:00:00.000Z",
                    "seq": 42,
                    "payload": {"message": "hello"},
                    "message": "hello",
                },
            ),
        ),
        Message(
            "ack",
            frames.Ack,
            ({"type": "ack", "request_id": "arq_7f3a", "seq": 42, "room": "science", "channel": "explore"},),
        ),
        Message(
            "part",
            frames.Part,
            ({"type": "append", "room": "chat", "channel": "42", "of": "arq_a1", "n": 1, "delta": "Hel"},),
        ),
        Message(
            "snapshot",
            frames.Snapshot,
            (
                {
                    "type": "append",
                    "room": "chat",
                    "channel": "42",
                    "of": "arq_a1",
                    "upto": 2,
                    "text": "Hello",
                    "snapshot": True,
                    "attempt": 1,
                    "mode": "text",
                },
            ),
        ),
        Message("commandError", frames.CommandError),
        Message("error", frames.Error),
    ),
    replies={
        "register": ("notice", "error"),
        "event": ("ack", "error"),
        "private": ("ack", "error"),
        "system": ("ack", "error"),
        "append": ("ack", "error"),
        "reply": ("ack", "error"),
        "amend": ("ack", "error"),
    },
    commands=True,
)

_sockets: dict[str, Socket] = {BUS.name: BUS}


def register(socket: Socket) -> None:
    """Add a socket to the document. Apps such as telemetry call this when they are ready."""
    _sockets[socket.name] = socket


def document(host: str = DEFAULT_HOST, *, prefix: str = "/", secure: bool = False) -> dict[str, Any]:
    """The document as plain values, ready for JSON. ``host``, ``prefix`` (a path) and ``secure`` give the server's address."""
    made = _Document()
    for name in sorted(_sockets):
        made.add(_sockets[name])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ArqonBus",
            "version": VERSION,
            "description": (
                "The sockets of ArqonBus. Frames are JSON objects in UTF-8 text frames, with one of the shapes below. "
                "`x-aliases` lists the accepted alternative spellings of keys. "
                "/api/openapi.json describes HTTP."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "this": {
                "host": host,
                **({"pathname": prefix.rstrip("/")} if prefix != "/" else {}),
                "protocol": "wss" if secure else "ws",
                "title": "This server",
                "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY],
            }
        },
        "channels": made.channels,
        "operations": made.operations,
        "components": {
            "messages": made.messages,
            "schemas": dict(sorted(made.schemas.items())),
            "securitySchemes": _SECURITY,
        },
        "x-aliases": {"keys": KEY_ALIASES, "types": TYPE_ALIASES},
        "x-errors": {
            code: {"number": kind.number, "meaning": kind.text, "retry": kind.retry} for code, kind in ERRORS.items()
        },
        "x-close-codes": {
            str(code): {"meaning": kind.meaning, "reconnect": kind.reconnect} for code, kind in CLOSE_CODES.items()
        },
    }


_SECURITY: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token (`manage.py create_token NAME`, or the admin) or a JWT, in the Authorization header. "
        "Browsers send it as the sub-protocol `bearer.<token>` beside `arqonbus.v1`, or as `token` in the registration.",
    },
    "session": {
        "type": "httpApiKey",
        "name": "sessionid",
        "in": "cookie",
        "description": "The session of a logged-in user, from pages of the same site.",
    },
}


class _Document:
    """The parts of the document, while it is built."""

    def __init__(self) -> None:
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}
        self.schemas: dict[str, Any] = {}

    def add(self, socket: Socket) -> None:
        """Add a socket with its frames and operations."""
        names = [self._message(socket, message) for message in (*socket.takes, *socket.sends)]
        commands = sorted(registry.values(), key=lambda command: command.name) if socket.commands else []
        for command in commands:
            names += self._command(command)
        self.channels[socket.name] = {
            "address": socket.path,
            "title": socket.title,
            "description": socket.description,
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
        }
        for message in socket.takes:
            self._operation(
                socket, "receive", message.name, message.struct.__doc__, socket.replies.get(message.name, ())
            )
        for message in socket.sends:
            self._operation(socket, "send", message.name, message.struct.__doc__)
        for command in commands:
            self._operation(
                socket,
                "receive",
                f"command.{command.name}",
                command.summary,
                (f"command.{command.name}.response", "commandError"),
                who=command.who,
                errors=command.errors,
            )

    def _operation(
        self,
        socket: Socket,
        action: str,
        message: str,
        summary: str | None,
        replies: Iterable[str] = (),
        *,
        who: str | None = None,
        errors: Iterable[str] = (),
    ) -> None:
        channel = {"$ref": f"#/channels/{socket.name}"}
        operation: dict[str, Any] = {
            "action": action,
            "channel": channel,
            "summary": (summary or "").strip().split("\n")[0],
            "messages": [{"$ref": f"#/channels/{socket.name}/messages/{message}"}],
        }
        replies = list(replies)
        if replies:
            operation["reply"] = {
                "channel": channel,
                "messages": [{"$ref": f"#/channels/{socket.name}/messages/{name}"} for name in replies],
            }
        if who is not None:
            operation["x-who"] = who
        errors = list(errors)
        if errors:
            operation["x-errors"] = errors
        self.operations[f"{socket.name}.{action}.{message}"] = operation

    def _message(self, socket: Socket, message: Message) -> str:
        schema = self._schema(message.struct)
        described: dict[str, Any] = {
            "name": message.name,
            "title": message.name,
            "summary": inspect.getdoc(message.struct) or "",
            "payload": schema,
        }
        if message.examples:
            described["examples"] = [{"payload": dict(example)} for example in message.examples]
        self.messages[message.name] = described
        return message.name

    def _command(self, command: Command) -> tuple[str, str]:
        """Add the request of a command, and its successful answer."""
        request, response = f"command.{command.name}", f"command.{command.name}.response"
        head = {"version": {"const": "1.0"}, "id": {"type": ["string", "integer", "null"]}}
        self.messages[request] = {
            "name": request,
            "title": command.name,
            "summary": command.summary,
            "description": "v1 clients may send `command` and `parameters` inside `payload`.",
            "payload": {
                "type": "object",
                "required": ["command"],
                "properties": {
                    **head,
                    "type": {"const": "command"},
                    "command": {"const": command.name},
                    "parameters": self._schema(command.parameters),
                    "room": {"type": ["string", "null"]},
                    "channel": {"type": ["string", "null"]},
                },
            },
        }
        self.messages[response] = {
            "name": response,
            "title": f"answer of {command.name}",
            "summary": "The only answer. v0 clients read the top level; v1 clients read the same values in `payload`.",
            "correlationId": {"location": "$message.payload#/request_id"},
            "payload": {
                "type": "object",
                "required": ["version", "type", "id", "request_id", "from", "command", "status", "message", "result"],
                "properties": {
                    "version": {"const": "1.0"},
                    "type": {"const": "command_response"},
                    "id": {"type": "string"},
                    "request_id": {"type": ["string", "null"]},
                    "from": {"const": "arqonbus_server"},
                    "command": {"const": command.name},
                    "status": {"const": "success"},
                    "message": {"type": "string"},
                    "result": self._schema(command.result),
                    "payload": {"type": "object"},
                },
            },
        }
        return request, response

    def _schema(self, struct: type[msgspec.Struct]) -> dict[str, Any]:
        """A reference to the struct's schema. The schema and all schemas it refers to are added to the components."""
        (reference,), components = msgspec.json.schema_components([struct], ref_template=_REF)
        for name, schema in components.items():
            _without_discriminators(schema)
            known = self.schemas.setdefault(name, schema)
            if known != schema:
                raise ValueError(f"two schemas are called {name}")
        return reference


def _without_discriminators(value: Any) -> None:
    """Remove OpenAPI's ``discriminator``, which AsyncAPI does not have. The constants contain the same information."""
    if isinstance(value, dict):
        value.pop("discriminator", None)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _without_discriminators(item)
