"""A project of somebody else that added the apps: examples/django_shop, started as its README says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_socket

import arqonbus
from tests.harness.backends import clean_environment
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import http_request
from tests.harness.waiting import free_port, wait_until

# It brings settings of its own: SQLite and the in-memory layer.
pytestmark = pytest.mark.embedded

SHOP = PROJECT_ROOT / "examples" / "django_shop"
WAIT = 20.0


class Shop:
    """The project in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.env = clean_environment({"SHOP_STATE": str(folder), "PYTHONDONTWRITEBYTECODE": "1"})
        self.port = free_port()
        self.process = ManagedProcess(
            [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(self.port), "shop_site.asgi:application"],
            log_path=folder / "daphne.log",
            env={**self.env, "PYTHONPATH": f"{self.env['PYTHONPATH']}:{SHOP}"},
        )

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project's folder."""
        return subprocess.run(
            [sys.executable, *command], cwd=SHOP, env=self.env, capture_output=True, text=True, timeout=60
        )

    def manage(self, *arguments: str) -> str:
        """A management command that has to work; its output."""
        done = self.run("manage.py", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """An HTTP request: status and body."""
        return http_request(f"http://127.0.0.1:{self.port}{path}", method, body)

    def up(self) -> bool:
        """Whether it answers."""
        try:
            return self.request("GET", "/bus/ready")[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop with ten lamps."""
    made = Shop(tmp_path_factory.mktemp("shop"))
    made.manage("migrate", "--verbosity", "0")
    made.manage("shell", "-c", "from shop.models import Article; Article.objects.create(name='lamp', stock=10)")
    made.process.start()
    try:
        wait_until(made.up, "the shop answers")
        yield made
    finally:
        made.process.kill()


def test_django_finds_nothing_wrong_with_it(shop: Shop) -> None:
    shop.manage("check", "--fail-level", "WARNING")
    shop.manage("makemigrations", "--check", "--dry-run")


async def test_a_view_publishes_on_commit_and_not_at_all_on_a_rollback(shop: Shop) -> None:
    url = f"ws://127.0.0.1:{shop.port}/bus/"
    async with (
        arqonbus.connect(url, client_id="packer") as bus,
        bus.subscribe("shop:warehouse") as warehouse,
        bus.subscribe("shop:orders") as orders,
    ):
        status, body = shop.request("POST", "/orders/", {"article": "lamp", "pieces": 99})
        assert (status, b"not have that many" in body) == (409, True)
        status, body = shop.request("POST", "/orders/", {"article": "lamp", "pieces": 2})
        number = json.loads(body)["number"]
        assert (await warehouse.get(WAIT)).text == "Please pack 2 × lamp"
        created = await orders.get(WAIT)
        assert (created.type, created.payload["event"], created.payload["pk"]) == ("model", "created", number)
        assert shop.request("POST", f"/orders/{number}/ship/")[0] == 200
        updated = await orders.get(WAIT)
        assert updated.payload["data"] == {"article": "lamp", "pieces": 2, "state": "shipped"}
        assert updated.payload["changed"] == ["state"]
        # The project has no formatter of ours: the sentences tell who and where.
        assert "packer at 127.0.0.1 registered in " in shop.process.log()
        # What was rolled back is in no history either.
        assert [message.seq async for message in bus.history("shop:warehouse")] == [1]


async def test_the_buss_pages_rest_and_telemetry_are_there(shop: Shop) -> None:
    for path in (
        "/bus/",
        "/static/arqonbus/console/main.js",
        "/bus/health",
        "/bus/version",
        "/bus/api/asyncapi.json",
        "/bus/api/asyncapi/",
        "/admin/login/",
    ):
        assert shop.request("GET", path)[0] == 200, path
    page = shop.request("GET", "/bus/")[1].decode()
    assert '"bus_path": "/bus/", "telemetry_path": "/bus/telemetry/", "api_path": "/bus/api/v1/"' in page
    contract = json.loads(shop.request("GET", "/bus/api/asyncapi.json")[1])
    assert contract["servers"]["this"]["pathname"] == "/bus"
    assert f"ws://127.0.0.1:{shop.port}/bus/telemetry/" in shop.request("GET", "/bus/llms.txt")[1].decode()
    rest = json.loads(shop.request("GET", "/bus/api/openapi.json")[1])
    assert "/bus/api/v1/rooms" in rest["paths"]
    assert "cdn" not in shop.request("GET", "/bus/api/docs/")[1].decode()
    status, body = shop.request("GET", "/bus/api/v1/rooms")
    assert status == 200
    assert "integriguard" in [room["room"] for room in json.loads(body)["results"]]
    status, body = shop.request("GET", "/bus/api/v1/nothing")
    assert (status, json.loads(body)["error"]["code"]) == (404, "NOT_FOUND")
    async with connect_socket(f"ws://127.0.0.1:{shop.port}/bus/telemetry/") as telemetry:
        assert json.loads(await telemetry.recv())["type"] == "telemetry_connected"
        await telemetry.send(json.dumps({"eventType": "probe", "payload": {"n": 1}}))
        assert json.loads(await telemetry.recv())["type"] in ("telemetry_ack", "telemetry")


def test_the_projects_own_tests_pass(shop: Shop) -> None:
    done = shop.run("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
