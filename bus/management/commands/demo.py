"""``manage.py demo``: the server with a few demo agents at work, so that the console is alive in its first second."""

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

from ...conf.settings import config
from ...db import faults as database
from ...servers import preflight
from ...servers.greeting import address, reachable
from .runbus import Command as RunBus

USER = "demo"


class Command(RunBus):
    """Serves as ``runbus`` does; the agents are ordinary clients in a process of their own, and end with it."""

    help = "Serve the bus with demo agents that walk through the science room, and a throw-away admin to look with."

    def add_arguments(self, parser: CommandParser) -> None:
        """Those of ``runbus``."""
        super().add_arguments(parser)
        parser.add_argument("--no-agents", action="store_true", help="Only the server and the log-in.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve. Raises ``CommandError`` outside of development mode."""
        if not settings.DEBUG:
            raise CommandError(
                "The demo makes an admin with a printed password; it runs in development mode only (DEBUG=1)."
            )
        if options["workers"] != 1:
            raise CommandError("The demo is one process; `runbus --workers` serves with several.")
        if find_spec("websockets") is None:
            raise CommandError("The demo agents need the package websockets: pip install websockets.")
        # Figures every second: a page that is looked at for a minute should move.
        settings.ARQONBUS.setdefault("telemetry_interval", 1.0)
        config.cache_clear()
        self._options = options
        self._agents: subprocess.Popen[bytes] | None = None
        try:
            preflight.check_database()
        except preflight.NotReady as problem:
            raise CommandError(str(problem)) from None
        self._password = self._make_user()
        try:
            super().handle(*args, **options)
        finally:
            self._end()

    def _say(self, said: list[str]) -> None:
        """The server is open: tell how to look at it, and let the agents in."""
        # The line with the log-in should stay in sight. (Making the application has set the logs up anew, so: here.)
        logging.getLogger("arqonbus").setLevel(logging.ERROR)
        host, port = reachable(self._options["host"]), self._options["port"]
        there = [line for line in said if "make admin" not in line]
        prefix = address("bus:console") or "/"
        super()._say([*there, f"Demo: open http://{host}:{port}{prefix} and log in as {_name()} with {self._password}"])
        if not self._options["no_agents"]:
            # They end when their standard input does, however this process ends.
            command = [sys.executable, "-m", "bus.demo.agents", f"ws://{host}:{port}{prefix}"]
            self._agents = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 - the project's own module

    @staticmethod
    def _make_user() -> str:
        """An admin that is good until the demo ends; its password."""
        password = secrets.token_urlsafe(9)
        users = get_user_model()
        user = _demo_user() or users(**{users.USERNAME_FIELD: _name()})
        _enable(user, True)
        user.set_password(password)
        try:
            user.save()
        except DatabaseError as problem:
            raise CommandError(
                f"The demo cannot make a user of {users._meta.label} by its {users.USERNAME_FIELD} alone "
                f"({database.one_line(problem)}). Make one called {_name()} yourself; the demo gives it a password."
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


def _name() -> str:
    """What the demo's user logs in with, in a form that the project's user model takes."""
    users = get_user_model()
    return f"{USER}@example.com" if isinstance(users._meta.get_field(users.USERNAME_FIELD), EmailField) else USER


def _demo_user() -> Any:
    users = get_user_model()
    return users._default_manager.filter(**{users.USERNAME_FIELD: _name()}).first()


def _enable(user: Any, on: bool) -> None:
    """Let the user in as an admin, or not any more, as far as its model knows such things."""
    for field in user._meta.concrete_fields:
        if field.name in ("is_active", "is_staff", "is_superuser"):
            setattr(user, field.name, on)
