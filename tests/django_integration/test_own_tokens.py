"""Tokens that other packages issue (``ARQONBUS_IDENTIFY``): examples/own_tokens, with allauth, knox and simplejwt."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import arqonbus
from tests.harness.backends import clean_environment
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import http_request
from tests.harness.waiting import free_port, wait_until

# It brings settings of its own: SQLite and the in-memory layer.
pytestmark = pytest.mark.embedded

EXAMPLES = PROJECT_ROOT / "examples"
MAKE = """
import json
from datetime import timedelta
from django.contrib.auth.models import User
from knox.models import AuthToken
from rest_framework_simplejwt.tokens import AccessToken
from bus.models import AccessToken as BusToken
ada, bob, cleo = (User.objects.create_user(name, password="pass-1-word") for name in ("ada", "bob", "cleo"))
late = AccessToken.for_user(bob)
late.set_exp(lifetime=-timedelta(hours=1))
print(json.dumps({
    "ada": AuthToken.objects.create(ada)[1], "bob": str(AccessToken.for_user(bob)), "late": str(late),
    "bus": BusToken.issue("agent")[1],
}))
"""


class Project:
    """The example in a process of its own. ``tokens`` are those of its users."""

    def __init__(self, folder: Path) -> None:
        path = f"{EXAMPLES / 'django_shop'}:{EXAMPLES / 'own_tokens'}"
        own = {"SHOP_STATE": str(folder), "DJANGO_SETTINGS_MODULE": "settings", "REVALIDATE": "0.2"}
        self.env = clean_environment(own)
        self.env["PYTHONPATH"] = f"{self.env['PYTHONPATH']}:{path}"
        self.port = free_port()
        self.process = ManagedProcess(
            [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(self.port), "shop_site.asgi:application"],
            log_path=folder / "daphne.log",
            env=self.env,
        )
        self.tokens: dict[str, str] = {}

    def manage(self, *arguments: str) -> str:
        """A management command that has to work; its output."""
        command = [sys.executable, "-m", "django", *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def me(self, bearer: str) -> tuple[int, Any]:
        """Whom REST sees: the status, and the answer."""
        headers = {"Authorization": f"Bearer {bearer}"}
        status, body = http_request(f"http://127.0.0.1:{self.port}/bus/api/v1/me", "GET", headers=headers)
        return status, json.loads(body)

    def up(self) -> bool:
        """Whether it answers."""
        try:
            return http_request(f"http://127.0.0.1:{self.port}/bus/ready", "GET")[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The example with its users: ada has a token of knox, bob of simplejwt, cleo logs in by allauth."""
    made = Project(tmp_path_factory.mktemp("tokens"))
    made.manage("migrate", "--verbosity", "0")
    made.tokens = json.loads(made.manage("shell", "--verbosity", "0", "--command", MAKE).splitlines()[-1])
    made.process.start()
    try:
        wait_until(made.up, "the project answers")
        login = f"http://127.0.0.1:{made.port}/_allauth/app/v1/auth/login"
        status, body = http_request(login, "POST", {"username": "cleo", "password": "pass-1-word"})
        assert status == 200, body
        made.tokens["cleo"] = json.loads(body)["meta"]["session_token"]
        yield made
    finally:
        made.process.kill()


def test_django_finds_nothing_wrong_with_it(project: Project) -> None:
    project.manage("check", "--fail-level", "WARNING")


@pytest.mark.parametrize("name", ["ada", "bob", "cleo"])
async def test_each_token_is_known_to_rest_and_on_the_socket(project: Project, name: str) -> None:
    status, me = project.me(project.tokens[name])
    assert (status, me["name"], me["role"]) == (200, name, "user"), me
    async with arqonbus.connect(f"ws://127.0.0.1:{project.port}/bus/", token=project.tokens[name]) as bus:
        assert bus.role == "user"
        assert (await bus.publish("shop:tokens", {"from": name})).seq


async def test_other_texts_are_refused_alike_and_tokens_of_the_bus_stay_valid(project: Project) -> None:
    for wrong in ("x" * 64, "x" * 32, "a.b.c", project.tokens["late"], f"arq_tok_{'x' * 43}"):
        status, answer = project.me(wrong)
        assert (status, answer["error"]["code"]) == (401, "UNAUTHENTICATED"), (wrong, answer)
    assert project.me(project.tokens["bus"])[0] == 200
    assert "Traceback" not in project.process.log()


async def test_a_withdrawn_token_ends_its_sockets(project: Project) -> None:
    made = project.manage("shell", "--verbosity", "0", "--command", MAKE_ONE).splitlines()[-1]
    url = f"ws://127.0.0.1:{project.port}/bus/"
    async with arqonbus.connect(url, token=made, reconnect=False) as bus, bus.subscribe("shop:tokens") as messages:
        project.manage("shell", "--verbosity", "0", "--command", WITHDRAW)
        with pytest.raises(arqonbus.errors.ClosedByServer, match="REVOKED"):
            await messages.get(20)


MAKE_ONE = """
from django.contrib.auth.models import User
from knox.models import AuthToken
print(AuthToken.objects.create(User.objects.create_user("dan"))[1])
"""
WITHDRAW = """
from knox.models import AuthToken
AuthToken.objects.filter(user__username="dan").delete()
"""
