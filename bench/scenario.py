"""The input of the load generator as typed values. `load/load.c` explains the modes and marks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Hello:
    """A greeting, and a text in the frame that answers it. Without `expect` the generator waits for nothing."""

    text: str
    expect: str = ""


@dataclass(frozen=True)
class Dialect:
    """How the load generator speaks to one contender.

    Places in texts: %i connection, %g channel, %M mark, %P padding, %L their length, %n operation.
    """

    sub_path: str
    pub_path: str
    publish: str
    sub_hello: tuple[Hello, ...] = ()
    pub_hello: tuple[Hello, ...] = ()
    headers: str = ""
    first: str = ""
    #: A publish whose durable (or at least server-side) acceptance is answered, and a part of that answer.
    acked: bool = False
    ackmark: str = ""
    ackall: bool = False
    #: A request that every tenth operation of the mixed workload makes.
    request: str = ""
    carry: bool = False
    ping: str = ""
    pong: str = ""
    errmark: str = ""
    #: What to say of this contender's figures.
    note: str = ""


@dataclass
class Group:
    """Connections of one kind."""

    name: str
    count: int
    path: str
    hello: tuple[Hello, ...] = ()
    channels: int = 1
    base: int = 0
    subscriber: bool = False
    hold: bool = False
    publish: str = ""
    alt: str = ""
    altevery: int = 0
    #: The port of the server's process that the group connects to; 0: the scenario's.
    port: int = 0


@dataclass
class Scenario:
    """One run of the generator."""

    port: int
    server_pid: int
    dialect: Dialect
    groups: list[Group]
    mode: str = "closed"
    complete: str = "delivery"
    tokens: int = 8
    rate: float = 100.0
    warmup: float = 0.4
    seconds: float = 2.0
    timeout: float = 60.0
    frame: int = 200
    limit: int = 0
    need: int = 0
    parallel: int = 64
    #: Whether the generator says on standard error when the measurement begins and ends.
    announce: int = 0
    extra: dict[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Return the lines of the scenario in the generator's format."""
        yield f"port {self.port}"
        yield f"server_pid {self.server_pid}"
        for key in (
            "mode",
            "complete",
            "tokens",
            "rate",
            "warmup",
            "seconds",
            "timeout",
            "frame",
            "limit",
            "need",
            "parallel",
            "announce",
        ):
            yield f"{key} {getattr(self, key)}"
        d = self.dialect
        if d.errmark:
            yield f"errmark {_escaped(d.errmark)}"
        for group in self.groups:
            yield f"group {group.name}"
            yield f"count {group.count}"
            if group.port:
                yield f"port {group.port}"
            yield f"path {group.path}"
            if d.headers:
                yield f"headers {_escaped(d.headers)}"
            if d.first and group.hello:
                yield f"first {_escaped(d.first)}"
            for hello in group.hello:
                yield f"hello {_escaped(hello.text)}"
                if hello.expect:
                    yield f"expect {_escaped(hello.expect)}"
            yield f"channels {group.channels}"
            yield f"base {group.base}"
            yield f"subscriber {int(group.subscriber)}"
            yield f"hold {int(group.hold)}"
            yield f"carry {int(d.carry)}"
            if group.publish:
                yield f"publish {_escaped(group.publish)}"
                if d.ackmark:
                    yield f"ackmark {_escaped(d.ackmark)}"
                    yield f"ackall {int(d.ackall)}"
            if group.alt and group.altevery:
                yield f"alt {_escaped(group.alt)}"
                yield f"altevery {group.altevery}"
            if d.ping:
                yield f"ping {_escaped(d.ping)}"
                yield f"pong {_escaped(d.pong)}"

    def text(self) -> str:
        """Return all lines as one text."""
        return "\n".join(self.lines()) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")
