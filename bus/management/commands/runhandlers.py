"""``manage.py runhandlers``: run the handlers of the project."""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connection

from ... import handlers
from ...auth.permissions import SYSTEM
from ...db import faults as database
from ...handlers.board import PAUSE, Board
from ...protocol.names import parse_address
from ...servers.workers import report_ready
from ...services import handlers as service
from ..base import StoreCommand
from ..crew import Crew, process_name

#: Seconds until the next try after an error of the database.
AFTER_AN_ERROR = 1.0
#: The name of management commands in the audit log.
DOOR = "command"


class Command(StoreCommand):
    """Run the handlers until SIGTERM or SIGINT. A message that is being handled is finished first."""

    help = (
        "Run the functions that @on registered in the handlers modules of the apps. "
        "Several of these processes share the channels."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("names", nargs="*", metavar="NAME", help="Only these handlers. The default is all.")
        parser.add_argument("--threads", type=int, default=1, help="Messages at the same time. The default is 1.")
        parser.add_argument("--until-empty", action="store_true", help="End when no message is left to handle now.")
        parser.add_argument("--list", action="store_true", help="Only show how far each handler is.")
        parser.add_argument(
            "--retry", metavar="ROOM:CHANNEL", help="Only let the named handler try its next message there at once."
        )
        parser.add_argument(
            "--skip", metavar="ROOM:CHANNEL", help="Only let the named handler pass over its next message there."
        )

        parser.add_argument(
            "--forget",
            action="store_true",
            help="Only remove the named handler, whose function is gone, with its positions.",
        )
        # A parent that keeps this process alive hears through this file descriptor that it runs.
        parser.add_argument("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, or change one position. Raises ``CommandError`` without a handler, and for one that cannot run."""
        if options["list"]:
            self._list()
            return
        if options["forget"]:
            name = self._one(options["names"], "--forget")
            has_function = any(one.name == name for one in handlers.known())
            service.forget(SYSTEM, name, has_function=has_function, door=DOOR)
            self.stdout.write(f"{name} is forgotten.")
            return
        for action, change in (("retry", service.retry), ("skip", service.skip)):
            if options[action] is not None:
                self._change(change, options["names"], options[action])
                return
        if options["threads"] < 1:
            raise CommandError("--threads must be at least 1.")
        try:
            chosen = handlers.chosen(options["names"])
        except ValueError as problem:
            raise CommandError(str(problem)) from None
        self._crew = Crew()
        board = Board(chosen)
        name = process_name("handlers")
        work = [partial(self._work, board, f"{name}-{n}", options["until_empty"]) for n in range(options["threads"])]
        self._parent = os.getppid() if options["ready_fd"] >= 0 else None
        self._crew.run(work, partial(self._begin, chosen, options["ready_fd"]))

    def _begin(self, chosen: list[handlers.Registered], ready_fd: int) -> None:
        for one in chosen:
            self.stdout.write(f"{one.place} handles {one.pattern} as {one.name}.")
        self.stdout.flush()
        report_ready(ready_fd)

    def _work(self, board: Board, holder: str, until_empty: bool) -> None:
        stopping = self._crew.stopping
        # Without the parent that started it, nobody would ever end this process.
        while not stopping.is_set() and self._parent in (None, os.getppid()):
            try:
                if board.work_once(holder, stopping):
                    continue
                if until_empty and board.empty():
                    return
                stopping.wait(PAUSE)
            except DatabaseError as problem:
                self.stderr.write(database.in_words(problem))
                connection.close()
                stopping.wait(AFTER_AN_ERROR)

    def _list(self) -> None:
        states = service.rows()
        rows = [
            [
                row.name,
                row.pattern,
                "yes" if row.running else "no",
                f"{row.seen_at[:19]}Z",
                *map(str, (row.lag, row.handled, row.failed, row.lost)),
            ]
            for row in states
        ]
        begun = {row.name for row in states}
        rows += [[one.name, one.pattern, "never", *"-----"] for one in handlers.known() if one.name not in begun]
        self.table(["NAME", "PATTERN", "RUNS", "SEEN", "BEHIND", "HANDLED", "FAILED", "LOST"], rows)
        for row in states:
            for at in row.positions:
                state = "stopped" if at.state == "stopped" else f"next attempt at {at.retry_at}"
                self.stdout.write(f"{row.name} at {at.room}:{at.channel} after #{at.seq}: {state}, {at.error}")

    def _change(self, change: Any, names: list[str], place: str) -> None:
        name = self._one(names, "--retry shop:orders")
        address = parse_address(place)
        if address is None:
            raise CommandError(f"{place!r} is not an address. Use room:channel.")
        change(SYSTEM, name, address, door=DOOR)
        self.stdout.write(f"{name} goes on at {address}.")

    @staticmethod
    def _one(names: list[str], what: str) -> str:
        if len(names) != 1:
            raise CommandError(f"Name one handler, such as: manage.py runhandlers billing {what}")
        return names[0]
