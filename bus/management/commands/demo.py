"""``manage.py demo``: serve with a few demo agents, so that the console shows traffic at once."""

from __future__ import annotations

import logging
import secrets
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db.models import EmailField

from ...auth.permissions import SYSTEM
from ...conf.settings import config
from ...db import faults as database
from ...demo import RULE, SAMPLES
from ...protocol.errors import BusError, ErrorCode
from ...protocol.names import Address
from ...servers import preflight
from ...servers.banner import address, reachable
from ...services import channels
from .runbus import Command as RunBus

USER = "demo"


class Command(RunBus):
    """Serve like ``runbus``. The agents are ordinary clients in a second process, which ends with the server."""

    help = "Serve the bus with demo agents in the science room, and with a temporary admin user."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments of ``runbus`` and one more."""
        super().add_arguments(parser)
        parser.add_argument("--no-agents", action="store_true", help="Start no agents.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve. Raises ``CommandError`` outside of development mode."""
        if not settings.DEBUG:
            raise CommandError(
                "The demo creates an admin user and prints its password. It runs in development mode only (DEBUG=1)."
            )
        if options["workers"] != 1:
            raise CommandError("The demo runs in one process. Use `runbus --workers` for several.")
        if find_spec("websockets") is None:
            raise CommandError("The demo agents need the package websockets: pip install websockets.")
        # Send statistics every second, so that the charts move during a short demo.
        settings.ARQONBUS.setdefault("telemetry_interval", 1.0)
        config.cache_clear()
        self._options = options
        self._agents: subprocess.Popen[bytes] | None = None
        try:
            preflight.check_database()
        except preflight.NotReady as problem:
            raise CommandError(str(problem)) from None
        self._password = self._make_user()
        if not options["no_agents"]:
            _make_queue()
        try:
            super().handle(*args, **options)
        finally:
            self._end()

    def _print(self, lines: list[str]) -> None:
        """Print the address and the log-in, and start the agents. The server accepts connections now."""
        # Keep the line with the log-in visible. It must happen here, since creating the application configures the logs.
        logging.getLogger("arqonbus").setLevel(logging.ERROR)
        host, port = reachable(self._options["host"]), self._options["port"]
        there = [line for line in lines if "make admin" not in line]
        prefix = address("bus:console") or "/"
        super()._print(
            [*there, f"Demo: open http://{host}:{port}{prefix} and log in as {_name()} with {self._password}"]
        )
        if not self._options["no_agents"]:
            # The agents end when their standard input closes, however this process ends.
            command = [sys.executable, "-m", "bus.demo.agents", f"ws://{host}:{port}{prefix}"]
            self._agents = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 - the project's own module

    @staticmethod
    def _make_user() -> str:
        """Enable the admin user of the demo and return its new password."""
        password = secrets.token_urlsafe(9)
        users = get_user_model()
        user = _demo_user() or users(**{users.USERNAME_FIELD: _name()})
        _enable(user, True)
        user.set_password(password)
        try:
            user.save()
        except DatabaseError as problem:
            raise CommandError(
                f"The demo cannot create a user of {users._meta.label} with its {users.USERNAME_FIELD} alone "
                f"({database.one_line(problem)}). Create a user {_name()} yourself; the demo sets its password."
            ) from None
        return password

    def _end(self) -> None:
        if self._agents is not None:
            assert self._agents.stdin is not None
            self._agents.stdin.close()
            try:
                self._agents.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._agents.kill()
                self._agents.wait()
        user = _demo_user()
        if user is not None:
            _enable(user, False)
            user.set_unusable_password()
            user.save()


def _make_queue() -> None:
    """Create the work channel of the demo. One that is there gets the rule, whatever it was before."""
    # Nobody needs the note in the log, and it would come before the line with the log-in.
    logging.getLogger("arqonbus.audit").setLevel(logging.ERROR)
    where = Address(*SAMPLES.split(":"))
    try:
        channels.create_channel(SYSTEM, where, description="Samples to measure", work=RULE, door="command")
    except BusError as problem:
        if problem.code != ErrorCode.CHANNEL_EXISTS:
            raise
        channels.update_channel(SYSTEM, where, {"work": RULE}, door="command")


def _name() -> str:
    """Return the login name of the demo's user: an email address if the user model wants one."""
    users = get_user_model()
    return f"{USER}@example.com" if isinstance(users._meta.get_field(users.USERNAME_FIELD), EmailField) else USER


def _demo_user() -> Any:
    users = get_user_model()
    return users._default_manager.filter(**{users.USERNAME_FIELD: _name()}).first()


def _enable(user: Any, on: bool) -> None:
    """Turn the admin flags of the user on or off, as far as the user model has them."""
    for field in user._meta.concrete_fields:
        if field.name in ("is_active", "is_staff", "is_superuser"):
            setattr(user, field.name, on)
