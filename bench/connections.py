"""`python -m bench.connections`: the bytes that an idle registered connection holds in the server, by object.

Plain daphne serves some hundred idle clients. Their objects are those that the garbage collector did not know before they came.
Plain values, dictionaries and methods count for the object that holds them. What the allocator rounds up and what the kernel
keeps is not in the table; the last line has the growth of the process, which is all of it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from bench import contenders, machine
from bench.servers import ROOT

#: Clients that come and stay, before and within the measurement. A type is a connection's own if half of them have one.
WARM, CLIENTS = 20, 500
#: Types whose objects count for the object that holds them.
_PLAIN = {
    "dict", "list", "tuple", "set", "frozenset", "str", "bytes", "int", "float", "deque", "method", "function", "cell", "partial",
    "builtin_function_or_method", "NoneType", "datetime", "Context", "weakref", "ReferenceType",
}  # fmt: skip


# ---- in the server ----


def serve(port: int) -> None:
    """Run the command `daphne`; a line on standard input asks for a census, which is a line on standard output."""
    from daphne.cli import CommandLineInterface
    from twisted.internet import reactor

    census = Census()

    def answer() -> None:
        print(json.dumps(census.take()), flush=True)

    def listen() -> None:
        for _ in sys.stdin:
            reactor.callFromThread(answer)

    threading.Thread(target=listen, daemon=True).start()
    CommandLineInterface().run(["-v", "0", "-b", "127.0.0.1", "-p", str(port), "arqonbus_site.asgi:application"])


class Census:
    """Counts the objects that are new since the last time."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._kept: list[object] = []

    def take(self) -> dict[str, Any]:
        """Return the count and the bytes of the new objects, by name, and the memory of the process in bytes."""
        memory = resident()
        gc.collect()
        tracked = [each for each in gc.get_objects() if each is not self.__dict__]
        # They are kept, so that no new object gets the id of one that has ended.
        self._kept = tracked
        known, self._known = self._known, {id(each) for each in tracked}
        found = [each for each in tracked if id(each) not in known] if known else []
        for each in tracked:
            self._known.update(id(held) for held in gc.get_referents(each))
        counted: set[int] = set(known)
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        # Other objects may be the first to reach what the collector was told to forget (`gc.freeze`).
        kinds = Counter(map(type, found))
        owners = [each for each in found if type(each).__name__ not in _PLAIN and kinds[type(each)] >= CLIENTS // 2]
        counted.update(id(each) for each in owners)
        for owner in owners:
            entry = counts[_name(owner)]
            entry[0] += 1
            entry[1] += _size(owner) + sum(_size(held) for held in _held(owner, counted))
        rest = [each for each in found if id(each) not in counted]
        counts["others"] = [len(rest), sum(_size(each) for each in rest)]
        return {"memory": memory, "objects": counts}


def _held(owner: object, counted: set[int]) -> Iterator[object]:
    """Yield the plain objects that only ``owner`` has held so far."""
    waiting = [owner]
    while waiting:
        for each in gc.get_referents(waiting.pop()):
            if id(each) in counted or type(each).__name__ not in _PLAIN:
                continue
            counted.add(id(each))
            waiting.append(each)
            yield each


def _name(each: object) -> str:
    kind = type(each)
    return f"{kind.__module__}.{kind.__qualname__}"


def _size(each: object) -> int:
    # The values of an object's attributes are beside it.
    beside = getattr(each, "__dict__", None) if type(each).__name__ not in _PLAIN else None
    return sys.getsizeof(each) + (sys.getsizeof(beside) if beside is not None else 0)


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---- the clients ----


def measure(env: dict[str, str]) -> dict[str, Any]:
    """Start a server, let the clients register, and return the bytes of one of them by object."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as exits:
        variables = contenders._environment(
            DATABASE_URL=f"sqlite:///{folder}/bus.sqlite3", DEBUG="1", ARQONBUS_RATE_LIMIT="0", **env
        )
        subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=ROOT, env=variables, check=True)
        port = machine.free_port()
        server = subprocess.Popen(
            [sys.executable, "-m", "bench.connections", "--serve", str(port)],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        exits.callback(server.wait)
        exits.callback(server.terminate)
        ask, answers = server.stdin, server.stdout
        assert ask is not None
        assert answers is not None

        def census() -> dict[str, Any]:
            ask.write("census\n")
            ask.flush()
            answer: dict[str, Any] = json.loads(answers.readline())
            return answer

        _wait_for(port)
        _come(exits, port, range(WARM))
        census()
        before = census()
        _come(exits, port, range(WARM, WARM + CLIENTS))
        after = census()
    return {
        "bytes": (after["memory"] - before["memory"]) / CLIENTS,
        "objects": {name: (count / CLIENTS, size / CLIENTS) for name, (count, size) in after["objects"].items()},
    }


def _wait_for(port: int) -> None:
    for _ in range(300):
        try:
            connect(f"ws://127.0.0.1:{port}/", compression=None).close()
        except OSError:
            threading.Event().wait(0.1)
        else:
            return
    raise SystemExit("the server did not start")


def _come(exits: ExitStack, port: int, numbers: range) -> None:
    """Register clients, each in a room of its own, which stay."""
    for number in numbers:
        client = exits.enter_context(connect(f"ws://127.0.0.1:{port}/", compression=None, ping_interval=None))
        client.send(json.dumps({"client_id": f"idle-{number}", "client_type": "app", "room": "bench", "channel": "c0"}))
        while '"registered"' not in client.recv():
            pass


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--portable", action="store_true", help="the ordinary way of daphne")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    measured = measure({"ARQONBUS_WRITER": "portable"} if options.portable else {})
    print("| object | for each connection | bytes |\n|---|--:|--:|")
    total = 0.0
    for name, (count, size) in sorted(measured["objects"].items(), key=lambda entry: -entry[1][1]):
        total += size
        if size >= 8:
            print(f"| `{name}` | {count:.2f} | {size:,.0f} |")
    print(f"| all objects | | {total:,.0f} |\n| growth of the process | | {measured['bytes']:,.0f} |")


if __name__ == "__main__":
    main()
