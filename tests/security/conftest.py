"""A server in production mode for the tests of this folder, and a way to change its grants, tokens and users."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import _servers
from tests.harness.backends import Backends
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

#: Production over plain HTTP, as behind a proxy that ends TLS.
PRODUCTION = {"DEBUG": "0", "INSECURE_HTTP": "1", "ARQONBUS_ANONYMOUS": "1", "ARQONBUS_TRUSTED_PROXIES": "1"}

_CONSOLE = """
import django, json, sys, traceback
django.setup()
from bus.models import *
from bus.auth.permissions import SYSTEM
from bus.services import tokens, rights
from bus import services
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from datetime import timedelta
from django.utils import timezone
User = get_user_model()
space = dict(globals())
for line in sys.stdin:
    code = json.loads(line)
    space["result"] = None
    try:
        exec(code, space)
        answer = {"result": space["result"]}
    except Exception:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
"""


class Console:
    """A Django shell beside a server, in a process of its own: what is changed there reaches the server by itself."""

    def __init__(self, server: BusServer) -> None:
        env = {**server.process.env, "DJANGO_SETTINGS_MODULE": "arqonbus_site.settings"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CONSOLE],
            cwd=PROJECT_ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, code: str) -> Any:
        """Run Django code; what it puts into ``result``. Raises AssertionError with the traceback of what it raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(textwrap.dedent(code)), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def token(self, name: str, **fields: Any) -> str:
        """An access token; ``fields`` as for ``services.tokens.create``, ``user`` a username."""
        user = fields.pop("user", None)
        return str(
            self.run(
                f"""
                user = User.objects.filter(username={user!r}).first()
                result = tokens.create(SYSTEM, {name!r}, user=user, door="test", **{fields!r})[1]
                """
            )
        )

    def user(self, name: str, *, groups: tuple[str, ...] = (), **fields: Any) -> None:
        """A Django user with password "pass-" and its name."""
        self.run(
            f"""
            user = User.objects.create_user({name!r}, password="pass-" + {name!r}, **{fields!r})
            user.groups.set([Group.objects.get_or_create(name=group)[0] for group in {groups!r}])
            """
        )

    def session(self, name: str) -> str:
        """The session key of a user that is logged in."""
        return str(
            self.run(
                f"""
                from importlib import import_module
                from django.conf import settings
                from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
                user = User.objects.get(username={name!r})
                store = import_module(settings.SESSION_ENGINE).SessionStore()
                store[SESSION_KEY] = str(user.pk)
                store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
                store[HASH_SESSION_KEY] = user.get_session_auth_hash()
                store.create()
                result = store.session_key
                """
            )
        )

    def grant(self, subject: str, name: str, action: str, pattern: str, *, allow: bool = True) -> int:
        """A grant; its id."""
        return int(
            self.run(
                f"""
                result = Grant.objects.create(
                    subject={subject!r}, subject_name={name!r}, action={action!r}, pattern={pattern!r}, allow={allow!r}
                ).pk
                """
            )
        )

    def revoke(self, grant: int) -> None:
        """Delete a grant."""
        self.run(f"Grant.objects.get(pk={grant}).delete()")

    def private_room(self, room: str, *channels: str) -> None:
        """A private room with channels."""
        self.run(
            f"""
            from bus.protocol.names import Address
            for channel in {channels!r}:
                services.channels.create_channel(SYSTEM, Address({room!r}, channel), door="test")
            room = Room.objects.get(name={room!r})
            room.private = True
            room.save()
            """
        )

    def close(self) -> None:
        """End it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@pytest.fixture(scope="session")
def public_server(backends: Backends) -> Iterator[BusServer]:
    """One server in production mode that lets anonymous clients in."""
    storage = backends.new_storage()
    with _servers(backends, storage) as start:
        yield start(env=PRODUCTION)
    backends.drop_storage(storage)


@pytest.fixture(scope="session")
def console(public_server: BusServer) -> Iterator[Console]:
    """A shell beside ``public_server``."""
    made = Console(public_server)
    yield made
    made.close()
