"""Clusters: several processes of one contender, which share a Redis, and a PostgreSQL where the contender has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench import databases
from bench.contenders import Bus, Centrifuge, admin_command, prepare_database
from bench.scenario import Dialect, Hello
from bench.servers import Server


@dataclass
class Cluster:
    """The processes of one contender, and the servers that they share."""

    key: str
    dialect: Callable[[str], Dialect | None]
    processes: list[Server]
    redis: Server
    postgres: Server | None
    #: Dialects that were given out. Each has channels of its own: a process hears for a while of what its members have left.
    runs: int = 0

    def fresh(self, kind: str) -> Dialect | None:
        """Return the dialect for channels of ``kind`` that nobody has used yet."""
        dialect = self.dialect(kind)
        if dialect is None:
            return None
        self.runs += 1
        room = "bench-ephemeral" if kind == "ephemeral" else "bench"
        if self.postgres is not None and kind == "ephemeral":
            admin_command(self.processes[0], "create_channel", room=f"{room}-{self.runs}", channel="c0", ephemeral=True)

        def apart(text: str) -> str:
            if self.postgres is None:
                return text.replace('"channel":"c%g"', f'"channel":"r{self.runs}c%g"')
            return text.replace(f'"room":"{room}"', f'"room":"{room}-{self.runs}"')

        hellos = tuple(Hello(apart(hello.text), hello.expect) for hello in dialect.sub_hello)
        return replace(dialect, publish=apart(dialect.publish), sub_hello=hellos)

    def stop(self) -> None:
        """End everything at once."""
        for server in (*self.processes, self.redis, *([self.postgres] if self.postgres else [])):
            server.kill()


def bus_cluster(bus: Bus, size: int, folder: Path) -> Cluster:
    """Start so many processes of the bus."""
    redis, postgres = databases.redis(folder), databases.postgres(folder)
    url = f"postgres://postgres@127.0.0.1:{postgres.port}/postgres"
    bus.more["REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
    cluster = Cluster(bus.key, bus.dialect, [], redis, postgres)
    try:
        token = prepare_database(url)
        for number in range(size):
            home = folder / f"process-{number}"
            home.mkdir()
            cluster.processes.append(bus.launch(home, url, token))
    except BaseException:
        cluster.stop()
        raise
    return cluster


def centrifuge_cluster(size: int, folder: Path) -> Cluster:
    """Start so many processes of Centrifuge with its Redis engine."""
    peer, redis = Centrifuge(), databases.redis(folder)
    cluster = Cluster("centrifuge-redis", peer.dialect, [], redis, None)
    try:
        for number in range(size):
            home = folder / f"process-{number}"
            home.mkdir()
            cluster.processes.append(peer.launch(home, redis))
    except BaseException:
        cluster.stop()
        raise
    return cluster
