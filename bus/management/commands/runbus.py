"""``manage.py runbus``: serve the bus and telemetry on two ports."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable
from typing import Any

from django.core.checks import ERROR
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import handlers
from ...checks import bus as checks
from ...servers import banner, preflight
from ...servers import serve as servers
from ...servers.listeners import CannotListen, listen
from ...servers.workers import Workers, report_ready


class Command(BaseCommand):
    """Serve until SIGTERM or Ctrl+C. Then close all sockets with 4012 and commit all accepted messages."""

    help = (
        "Serve the bus, with its console, REST and admin, on one port, and telemetry on another. "
        "With --workers, several processes share the ports. They need PostgreSQL and Redis. "
        "With --handlers, a process beside them runs the handlers of the project."
    )
    requires_system_checks = []  # noqa: RUF012 - Django's own form

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument(
            "--host", default="localhost", help="Address to listen on (localhost). 0.0.0.0 means all addresses."
        )
        parser.add_argument("--port", type=int, default=8765, help="Port of the bus (8765).")
        parser.add_argument(
            "--telemetry-port", type=int, default=8766, help="Port of telemetry (8766). 0 means no telemetry port."
        )
        parser.add_argument("--workers", type=int, default=1, help="Number of processes that share the ports (1).")
        parser.add_argument(
            "--handlers", type=int, default=0, help="Threads of a process that runs the project's handlers (0: none)."
        )
        parser.add_argument(
            "--server",
            choices=servers.SERVERS,
            default="daphne",
            help="ASGI server (daphne). uvicorn uses uvloop if it is installed.",
        )
        # A worker gets its parent's sockets through these file descriptors.
        parser.add_argument("--bus-fds", default="", help=argparse.SUPPRESS)
        parser.add_argument("--telemetry-fds", default="", help=argparse.SUPPRESS)
        # A worker reports to its parent through this file descriptor that it serves.
        parser.add_argument("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until the end. Raises ``CommandError`` if the server cannot start."""
        if options["bus_fds"]:
            self._work(options)
            return
        if options["workers"] < 1:
            raise CommandError("--workers must be 1 or more.")
        if options["handlers"] < 0:
            raise CommandError("--handlers must be 0 or more.")
        self._look_at_settings()
        if options["handlers"]:
            try:
                handlers.chosen()
            except ValueError as problem:
                raise CommandError(str(problem)) from None
        try:
            preflight.asgi_application()
            preflight.check_database()
            preflight.check_layer(options["workers"])
            preflight.check_alone()
            bus = listen(options["host"], options["port"])
            telemetry: list[socket.socket] = []
            if options["telemetry_port"]:
                telemetry = listen(options["host"], options["telemetry_port"], "--telemetry-port")
        except (preflight.NotReady, CannotListen) as problem:
            raise CommandError(str(problem)) from None
        # The lines are built before the event loop runs, since Django's ORM refuses calls inside of one.
        lines = banner.lines(
            options["host"],
            bus[0].getsockname()[1],
            telemetry[0].getsockname()[1] if telemetry else None,
            workers=options["workers"],
            server=options["server"],
        )
        if options["workers"] == 1 and not options["handlers"]:
            listening = servers.Listening(bus, telemetry)
            self._serve(options["server"], listening, opened=lambda: self._print(lines), leave_port=False)
            return
        self._print(lines)
        manage = ["-c", "from django.core.management import execute_from_command_line; execute_from_command_line()"]
        serving = [
            *(*manage, "runbus"),
            f"--server={options['server']}",
            f"--bus-fds={_numbers(bus)}",
            f"--telemetry-fds={_numbers(telemetry)}",
        ]
        commands = [serving] * options["workers"]
        if options["handlers"]:
            commands.append([*manage, "runhandlers", "--skip-checks", f"--threads={options['handlers']}"])
        sys.exit(Workers(commands, [*bus, *telemetry]).run())

    def _work(self, options: dict[str, Any]) -> None:
        """Serve as one of several workers, on the parent's sockets."""
        listening = servers.Listening(_adopted(options["bus_fds"]), _adopted(options["telemetry_fds"]))
        self._serve(options["server"], listening, ready=lambda: report_ready(options["ready_fd"]), leave_port=True)

    def _look_at_settings(self) -> None:
        """Print a warning for each unwise setting. Raises ``CommandError`` with a line for each impossible one."""
        found = checks.before_serving()
        wrong = [f"{message.msg} {message.hint}" for message in found if message.level >= ERROR]
        if wrong:
            raise CommandError("\n".join(wrong))
        for message in found:
            self.stderr.write(f"{message.msg} {message.hint}")

    def _print(self, lines: list[str]) -> None:
        self.stdout.write("\n".join(lines))
        self.stdout.flush()

    @staticmethod
    def _serve(
        server: str,
        listening: servers.Listening,
        *,
        opened: Callable[[], None] = lambda: None,
        ready: Callable[[], None] = lambda: None,
        leave_port: bool,
    ) -> None:
        servers.serve(
            server, preflight.asgi_application(), listening, opened=opened, ready=ready, leave_port=leave_port
        )


def _numbers(sockets: list[socket.socket]) -> str:
    return ",".join(str(made.fileno()) for made in sockets)


def _adopted(numbers: str) -> list[socket.socket]:
    return [socket.socket(fileno=int(number)) for number in numbers.split(",") if number]
