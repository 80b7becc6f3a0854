"""Clusters: several processes of one contender, which share a Redis, and a PostgreSQL where the contender has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import databases
from bench.contenders import Bus, Centrifuge, admin_command, prepare_database
from bench.scenario import Dialect
from bench.servers import Server


@dataclass
class Cluster:
    """The processes of one contender, and the servers that they share."""

    key: str
    dialect: Callable[[str], Dialect | None]
    processes: list[Server]
    redis: Server
    postgres: Server | None

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
        for channel in range(20):
            admin_command(
                cluster.processes[0], "create_channel", room="bench-ephemeral", channel=f"c{channel}", ephemeral=True
            )
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
