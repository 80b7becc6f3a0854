"""The contenders: how each server starts, and how the load generator speaks to it.

Each contender is set up as its own documentation says, with the server on one core, without compression and TLS. If a
contender lacks a kind of channel, its dialect is ``None``, and the table has no line for it.
"""

from __future__ import annotations

import abc
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from websockets.sync.client import connect

from bench import build, databases, machine, servers
from bench.scenario import Dialect, Hello
from bench.servers import ROOT, Server

#: Kinds of channel: `plain` (the contender's ordinary fan-out), `durable` (stored before it is acknowledged),
#: `ephemeral` (never stored; acknowledged where the contender can).
KINDS = ("plain", "durable", "ephemeral")


class Contender(abc.ABC):
    """One server of the comparison."""

    key: ClassVar[str]
    title: ClassVar[str]
    #: Ours, a peer, or the floor.
    role: ClassVar[str] = "peer"
    #: Whether it takes part in every workload that names no contenders.
    everywhere: ClassVar[bool] = True

    def missing(self) -> str | None:
        """The reason why it cannot be measured here, or ``None``."""
        try:
            self.prepare()
        except build.MissingError as reason:
            return str(reason)
        return None

    def prepare(self) -> None:
        """Build or install the server. Raises :class:`bench.build.MissingError`."""
        return

    @abc.abstractmethod
    def start(self, folder: Path) -> Server:
        """Start a new server in the empty ``folder``."""

    @abc.abstractmethod
    def dialect(self, kind: str) -> Dialect | None:
        """Return the dialect for channels of ``kind``, or None."""


def _environment(**more: str) -> dict[str, str]:
    """Return the environment of a Python server, without the caller's settings for Django or the bus."""
    dropped = ("ARQONBUS_", "DJANGO_", "DATABASE_", "REDIS_")
    plain = ("DEBUG", "SECRET_KEY", "ALLOWED_HOSTS", "INSECURE_HTTP")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped) and key not in plain}
    return {**kept, **more}


# ---- this bus ----


@dataclass
class BusFiles:
    """A migrated and seeded database to start from, and an admin's token for it."""

    database: Path
    token: str


class Bus(Contender):
    """This project with its whole path: parsing, permission, log, layer, hub."""

    role = "bus"

    def __init__(self, files: Callable[[], BusFiles]) -> None:
        self._files = files
        #: Further variables of the server's environment.
        self.more: dict[str, str] = {}

    @abc.abstractmethod
    def argv(self, port: int) -> list[str]:
        """Return the command of the server."""

    def start(self, folder: Path) -> Server:
        """Start the server with its own copy of the database. Rate limits are off; other settings have their defaults."""
        files = self._files()
        database = folder / "bus.sqlite3"
        database.write_bytes(files.database.read_bytes())
        return self.serve(folder, f"sqlite:///{database}", files.token)

    def serve(self, folder: Path, database_url: str, token: str) -> Server:
        """Start the server over a prepared database, whose admin has ``token``, and make the ephemeral channel."""
        server = self.launch(folder, database_url, token)
        admin_command(server, "create_channel", room="bench-ephemeral", channel="c0", ephemeral=True)
        return server

    def launch(self, folder: Path, database_url: str, token: str) -> Server:
        """Start one more process over a prepared database, whose admin has ``token``."""
        port = machine.free_port()
        env = _environment(
            DATABASE_URL=database_url,
            DEBUG="1",
            ARQONBUS_RATE_LIMIT="0",
            ARQONBUS_RETENTION_COUNT="0",
            **self.more,
        )
        server = servers.start(self.argv(port), folder, port, env=env)
        server.extra["token"] = token
        return server

    def dialect(self, kind: str) -> Dialect | None:
        """Return the frames of the simple dialect. A durable publish has an id, so its idempotency is measured too."""
        room = "bench-ephemeral" if kind == "ephemeral" else "bench"
        registered = '"event":"registered"'
        target = f'"room":"{room}","channel":"c%g"'
        acked = kind != "plain"
        publish = f'{{"type":"event",{target},"payload":{{"d":"%M%P"}}}}'
        if kind == "durable":
            publish = f'{{"type":"event","id":"%M",{target},"ack":true,"payload":{{"d":"%P"}}}}'
        elif kind == "ephemeral":
            publish = f'{{"type":"event",{target},"ack":true,"payload":{{"d":"%M%P"}}}}'
        return Dialect(
            sub_path="/",
            pub_path="/",
            sub_hello=(Hello(f'{{"client_id":"s-%i-%g","client_type":"app",{target}}}', registered),),
            pub_hello=(
                Hello(
                    '{"client_id":"p-%i","client_type":"service","room":"bench-pub","channel":"pub"}',
                    registered,
                ),
            ),
            publish=publish,
            acked=acked,
            # The same mark ends an acknowledged publish and the mixed workload's pings.
            ackmark='"type":"ack"' if acked else '"type":"command_response"',
            request='{"type":"command","command":"ping","id":"r%n"}',
            errmark='"type":"error"',
            note="SQLite, own message id" if kind == "durable" else "",
        )


class BusOnDaphne(Bus):
    """The bus on the plain `daphne` command."""

    key = "bus-daphne"
    title = "ArqonBus on daphne"

    def argv(self, port: int) -> list[str]:
        """Return `daphne arqonbus_site.asgi:application`."""
        return [
            sys.executable,
            "-m",
            "daphne",
            "-b",
            "127.0.0.1",
            "-p",
            str(port),
            "arqonbus_site.asgi:application",
        ]


class BusOnUvloop(BusOnDaphne):
    """The bus on the plain `daphne` command, on uvloop."""

    key = "bus-daphne-uvloop"
    title = "ArqonBus on daphne, uvloop"
    everywhere = False

    def __init__(self, files: Callable[[], BusFiles]) -> None:
        super().__init__(files)
        self.more["ARQONBUS_LOOP"] = "uvloop"


class BusInPython(BusOnDaphne):
    """The bus on the plain `daphne` command, without the compiled path."""

    key = "bus-daphne-python"
    title = "ArqonBus on daphne, Python path"

    def __init__(self, files: Callable[[], BusFiles]) -> None:
        super().__init__(files)
        self.more["ARQONBUS_COMPILED"] = "0"


class BusOnUvicorn(Bus):
    """The bus on uvicorn."""

    key = "bus-uvicorn"
    title = "ArqonBus on uvicorn"

    def argv(self, port: int) -> list[str]:
        """Return `uvicorn arqonbus_site.asgi:application`."""
        return [
            *(
                sys.executable,
                "-m",
                "uvicorn",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--log-level",
                "warning",
            ),
            *("--no-access-log", "--ws-per-message-deflate", "false", "arqonbus_site.asgi:application"),
        ]


class BusOnPostgres(BusOnUvicorn):
    """The bus on uvicorn over PostgreSQL, which has its defaults and shares the servers' core."""

    key = "bus-postgres"
    title = "ArqonBus on uvicorn, PostgreSQL"
    everywhere = False

    def prepare(self) -> None:
        """Find PostgreSQL."""
        databases.find_postgres()

    def start(self, folder: Path) -> Server:
        """Start PostgreSQL, prepare a database and start the server."""
        database = databases.postgres(folder)
        url = f"postgres://postgres@127.0.0.1:{database.port}/postgres"
        try:
            server = self.serve(folder, url, prepare_database(url))
        except BaseException:
            database.kill()
            raise
        server.needs.append(database)
        return server


def admin_command(server: Server, command: str, **parameters: object) -> dict[str, object]:
    """Run a command as admin and return its result. Raises ``RuntimeError`` if the server refuses."""
    with connect(
        f"ws://127.0.0.1:{server.port}/",
        compression=None,
        additional_headers={"Authorization": f"Bearer {server.extra['token']}"},
    ) as socket:
        socket.send(
            json.dumps(
                {
                    "client_id": "bench-admin",
                    "client_type": "service",
                    "room": "bench-admin",
                    "channel": "admin",
                }
            )
        )
        socket.send(json.dumps({"type": "command", "command": command, "id": "admin-1", "parameters": parameters}))
        while True:
            frame = json.loads(socket.recv(timeout=10))
            if frame.get("type") in ("command_response", "error") and frame.get("request_id") == "admin-1":
                if frame.get("status") != "success":
                    raise RuntimeError(f"{command} was refused: {frame.get('error')}")
                result: dict[str, object] = frame["result"]
                return result


def make_bus_files(folder: Path) -> BusFiles:
    """Migrate and seed a database in ``folder``, and create an admin's token."""
    database = folder / "template.sqlite3"
    token = prepare_database(f"sqlite:///{database}")
    import sqlite3

    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return BusFiles(database, token)


def prepare_database(url: str) -> str:
    """Migrate and seed a database. Return an admin's token. Raises :class:`bench.build.MissingError`."""
    import subprocess

    env = _environment(DATABASE_URL=url, DEBUG="1")
    output = ""
    for arguments in (
        ["migrate", "--verbosity", "0"],
        ["seed_science_rooms"],
        ["create_token", "bench", "--admin"],
    ):
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise build.MissingError(
                f"manage.py {arguments[0]} failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:160]}"
            )
        output = done.stdout
    return output.strip().splitlines()[-1]


# ---- peers ----


class Textbook(Contender):
    """The consumer of the Channels tutorial."""

    key = "textbook"
    title = "textbook Channels consumer on daphne"

    def start(self, folder: Path) -> Server:
        """Start daphne with the tutorial's application and the in-memory layer."""
        port = machine.free_port()
        argv = [
            sys.executable,
            "-m",
            "daphne",
            "-b",
            "127.0.0.1",
            "-p",
            str(port),
            "bench.peers.textbook.asgi:application",
        ]
        return servers.start(argv, folder, port, env=_environment(BENCH_TEXTBOOK_DB=str(folder / "textbook.sqlite3")))

    def dialect(self, kind: str) -> Dialect | None:
        """Return the tutorial's frames. `save` stores and acknowledges."""
        save = ',"save":true' if kind == "durable" else ""
        return Dialect(
            sub_path="/ws/chat/c%g/",
            pub_path="/ws/chat/publishers/",
            publish=f'{{"room":"c%g","message":"%M%P"{save}}}',
            acked=kind == "durable",
            ackmark='{"ack":',
            note="SQLite, save()" if kind == "durable" else "",
        )


class _Plain(Contender):
    """The small protocol of the servers written here: a path to join, `<channel> <text>` to publish."""

    def dialect(self, kind: str) -> Dialect | None:
        """Return the dialect. Nothing is stored or acknowledged: a message is complete when it is delivered."""
        if kind == "durable":
            return None
        return Dialect(sub_path="/sub/%g", pub_path="/pub", publish='%g {"payload":{"d":"%M%P"}}')


class WebsocketsBroadcast(_Plain):
    """A server with `websockets.broadcast`."""

    key = "websockets"
    title = "websockets.broadcast"

    def start(self, folder: Path) -> Server:
        """Start it with the project's Python and its `websockets`."""
        port = machine.free_port()
        return servers.start(
            [sys.executable, "-m", "bench.peers.websockets_broadcast", str(port)],
            folder,
            port,
            env=_environment(),
        )


class Picows(_Plain):
    """picows on uvloop."""

    key = "picows"
    title = "picows on uvloop"

    def prepare(self) -> None:
        """Install picows into the benchmark's own folder."""
        build.python_peers()

    def start(self, folder: Path) -> Server:
        """Start the picows server."""
        port = machine.free_port()
        env = _environment(PYTHONPATH=str(build.python_peers()))
        return servers.start([sys.executable, "-m", "bench.peers.picows_server", str(port)], folder, port, env=env)


class Floor(_Plain):
    """A C program that only writes frames. It joins the frames of one turn of its loop."""

    key = "floor"
    title = "floor: C, joined writes"
    role = "floor"
    mode = "join"

    def prepare(self) -> None:
        """Compile the program."""
        build.c_program("floor")

    def start(self, folder: Path) -> Server:
        """Start the program."""
        port = machine.free_port()
        return servers.start([str(build.c_program("floor")), str(port), self.mode], folder, port)


class FloorEach(Floor):
    """The same program with one write per frame and member."""

    key = "floor-each"
    title = "floor: C, one write per frame"
    mode = "each"


class Nats(Contender):
    """NATS over WebSocket. Durable messages use JetStream with file storage."""

    key = "nats"

    def __init__(self) -> None:
        self.version = ""

    @property
    def title(self) -> str:  # type: ignore[override]
        """The title with the installed version."""
        return f"NATS {self.version} over WebSocket".replace("  ", " ")

    def prepare(self) -> None:
        """Find or install a nats-server."""
        self.version = build.nats()[1]

    def start(self, folder: Path) -> Server:
        """Start nats-server with a WebSocket listener and a stream `bench` over `js.>`."""
        port, client_port = machine.free_port(), machine.free_port()
        config = folder / "nats.conf"
        config.write_text(
            f"listen: 127.0.0.1:{client_port}\n"
            f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}\n'
            f'jetstream {{ store_dir: "{folder / "jetstream"}" }}\n'
        )
        server = servers.start([str(build.nats()[0]), "-c", str(config)], folder, port)
        server.extra["client_port"] = str(client_port)
        with connect(f"ws://127.0.0.1:{port}/", compression=None, subprotocols=None) as socket:
            stream = json.dumps({"name": "bench", "subjects": ["js.>"], "storage": "file", "num_replicas": 1})
            socket.send(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB made 1\r\n')
            socket.send(f"PUB $JS.API.STREAM.CREATE.bench made {len(stream)}\r\n{stream}\r\n".encode())
            seen = b""
            while b'"created"' not in seen:
                frame = socket.recv(timeout=10)
                seen += frame if isinstance(frame, bytes) else frame.encode()
        return server

    def dialect(self, kind: str) -> Dialect | None:
        """Return the text protocol. Subscribers of a durable subject are ordinary subscriptions."""
        subject = "js.c%g" if kind == "durable" else "c%g"
        hello = 'CONNECT {"verbose":false,"pedantic":false,"lang":"c","version":"1","protocol":1}\r\n'
        reply = " ack.%i" if kind == "durable" else ""
        return Dialect(
            sub_path="/",
            pub_path="/",
            first="INFO ",
            sub_hello=(Hello(hello + f"SUB {subject} 1\r\nPING\r\n", "PONG"),),
            pub_hello=(Hello(hello + "SUB ack.%i 1\r\nPING\r\n", "PONG"),),
            publish=f"PUB {subject}{reply} %L\r\n%M%P\r\n",
            acked=kind == "durable",
            ackmark='"stream":"bench"' if kind == "durable" else "PONG\r\n",
            ackall=True,
            request="PING\r\n",
            carry=True,
            ping="PING",
            pong="PONG\r\n",
            errmark="-ERR",
            note="JetStream, file storage" if kind == "durable" else "",
        )


class SocketIo(Contender):
    """Socket.IO on node with its default in-memory adapter."""

    key = "socketio"
    title = "Socket.IO on node"

    def prepare(self) -> None:
        """Run `npm ci`."""
        build.socketio()

    def start(self, folder: Path) -> Server:
        """Start node, with the WebSocket transport only."""
        port = machine.free_port()
        return servers.start(["node", str(build.socketio() / "server.js"), str(port)], folder, port)

    def dialect(self, kind: str) -> Dialect | None:
        """Return Engine.IO 4 and Socket.IO 5 packets. An acknowledgement only says that the handler ran."""
        if kind == "durable":
            return None
        acked = kind == "ephemeral"
        return Dialect(
            sub_path="/socket.io/?EIO=4&transport=websocket",
            pub_path="/socket.io/?EIO=4&transport=websocket",
            first='0{"sid"',
            sub_hello=(Hello("40", '40{"sid"'), Hello('421["sub","c%g"]', "431[")),
            pub_hello=(Hello("40", '40{"sid"'),),
            publish=('421["pub","c%g",{"d":"%M%P"}]' if acked else '42["pub","c%g",{"d":"%M%P"}]'),
            acked=acked,
            ackmark="431[",
            request='421["sub","elsewhere"]',
            ping="2",
            pong="3",
            errmark='44{"message"',
        )


class Centrifuge(Contender):
    """The Go library under Centrifugo, with the memory broker and the JSON protocol."""

    key = "centrifuge"
    title = "Centrifuge 0.15 (Go)"

    def prepare(self) -> None:
        """Build the server from Debian's sources."""
        build.centrifuge()

    def start(self, folder: Path) -> Server:
        """Start the compiled server."""
        return self.launch(folder)

    def launch(self, folder: Path, redis: Server | None = None) -> Server:
        """Start one process, which reaches others over ``redis``."""
        port = machine.free_port()
        more = [f"127.0.0.1:{redis.port}"] if redis is not None else []
        return servers.start([str(build.centrifuge()), str(port), *more], folder, port)

    def dialect(self, kind: str) -> Dialect | None:
        """Return protocol v1. Nothing is durable: the answer to a publish only says that it was broadcast."""
        if kind == "durable":
            return None
        return Dialect(
            sub_path="/connection/websocket",
            pub_path="/connection/websocket",
            sub_hello=(
                Hello('{"id":1,"params":{}}', '"id":1,"result"'),
                Hello('{"id":2,"method":1,"params":{"channel":"c%g"}}', '"id":2,"result"'),
            ),
            pub_hello=(Hello('{"id":1,"params":{}}', '"id":1,"result"'),),
            publish='{"id":3,"method":3,"params":{"channel":"c%g","data":{"d":"%M%P"}}}',
            acked=kind == "ephemeral",
            ackmark='"id":3,"result"' if kind == "ephemeral" else '"id":4',
            ackall=True,
            request='{"id":4,"method":7,"params":{}}',
            errmark='"error":{',
        )


class CeleryOnRedis(Contender):
    """Celery's worker over Redis with an append-only file. Redis is the measured server."""

    key = "celery"
    title = "Celery 5 on Redis"
    everywhere = False

    def prepare(self) -> None:
        """Install Celery into the benchmark's own folder, and find Redis."""
        build.python_peers()
        databases.find_redis()

    def start(self, folder: Path) -> Server:
        """Start Redis."""
        return databases.redis(folder)

    def dialect(self, kind: str) -> Dialect | None:
        """Return None: it is no server of messages."""
        return None


def all_contenders(files: Callable[[], BusFiles]) -> list[Contender]:
    """Return every contender, ours first."""
    return [
        BusOnDaphne(files),
        BusOnUvloop(files),
        BusInPython(files),
        BusOnUvicorn(files),
        BusOnPostgres(files),
        Centrifuge(),
        Nats(),
        CeleryOnRedis(),
        WebsocketsBroadcast(),
        Picows(),
        SocketIo(),
        Textbook(),
        Floor(),
        FloorEach(),
    ]
