"""A project of `django-admin startproject`, and what Django says at each step of docs/django.md that is still missing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import InvalidStatus

import arqonbus
from tests.harness.backends import clean_environment
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import http_request
from tests.harness.waiting import free_port

# It brings settings of its own: SQLite and the in-memory layer.
pytestmark = pytest.mark.embedded

SHOP = PROJECT_ROOT / "examples" / "django_shop" / "shop_site"
PAGE = PROJECT_ROOT / "docs" / "django.md"


class Project:
    """A new project in a folder of its own, to which the page's blocks are added one by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = clean_environment({"PYTHONDONTWRITEBYTECODE": "1"})
        self.package = folder / "mysite"
        if not self.package.exists():
            self._run("-m", "django", "startproject", "mysite", ".")

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60
        )

    def manage(self, *arguments: str) -> tuple[int, str]:
        """A management command: its status, and all that it said."""
        done = self._run("manage.py", *arguments)
        return done.returncode, done.stdout + done.stderr

    def found(self) -> set[str]:
        """What the system checks of the bus find."""
        return set(re.findall(r"bus\.[EW]\d+", self.manage("check")[1]))

    def add_settings(self, text: str) -> None:
        """Write at the end of the settings."""
        with (self.package / "settings.py").open("a") as settings:
            settings.write(text)

    def take(self, name: str) -> None:
        """A file of the shop, as the page shows it."""
        (self.package / name).write_text((SHOP / name).read_text().replace("shop_site", "mysite"))

    def take_settings(self) -> None:
        """The block of settings, as the page shows it."""
        block = re.search(r"shop_site/settings\.py -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        assert block
        self.add_settings(block[1].replace("shop_site", "mysite"))


# Each step has a project of its own, since the tests may run in different processes.


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A new project."""
    return Project(tmp_path)


@pytest.fixture(scope="module")
def unmigrated(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that lacks its tables only."""
    project = Project(tmp_path_factory.mktemp("unmigrated"))
    project.take_settings()
    project.take("asgi.py")
    return project


def test_an_app_that_was_merely_added_is_told_everything_that_is_missing(project: Project) -> None:
    project.add_settings('\nINSTALLED_APPS = [*INSTALLED_APPS, "bus"]\n')
    assert project.found() >= {"bus.E003", "bus.E007", "bus.W003", "bus.W009", "bus.W010", "bus.W011"}
    status, said = project.manage("runbus", "--port", "0")
    assert (status, "Traceback" in said) == (1, False)
    assert "CHANNEL_LAYERS" in said


def test_after_the_settings_the_applications_of_startproject_are_named(project: Project) -> None:
    project.take_settings()
    assert project.found() == {"bus.W009", "bus.W010"}


@pytest.mark.parametrize("command", ["create_token probe", "seed_science_rooms", "prune_history", "runbus --port 0"])
def test_before_the_migrations_each_command_says_what_is_missing(unmigrated: Project, command: str) -> None:
    status, said = unmigrated.manage(*command.split())
    assert (status, "Traceback" in said) == (1, False)
    assert "manage.py migrate" in said


@pytest.mark.parametrize(
    ("entry", "told", "commands"),
    [
        (
            '{"ring": "many"}',
            """ARQONBUS["ring"] is 'many'; it must be a whole number, at least 1.""",
            ("check", "prune_history"),
        ),
        ('{"rings": 5}', """ARQONBUS["rings"] is not a setting of ArqonBus. Did you mean ARQONBUS["ring"]?""", ()),
        (
            '{"system_room": "a b"}',
            """ARQONBUS["system_room"] is 'a b'; it must be the name of a room, and not pm or science""",
            (),
        ),
    ],
)
def test_a_wrong_entry_of_the_settings_file_is_told_by_its_name_there(
    unmigrated: Project, tmp_path: Path, entry: str, told: str, commands: tuple[str, ...]
) -> None:
    folder = tmp_path / "wrong"
    shutil.copytree(unmigrated.folder, folder)
    project = Project(folder)
    project.add_settings(f"\nARQONBUS = {entry}\n")
    status, said = project.manage("runbus", "--port", "0")
    assert (status, said.count("\n")) == (1, 1)
    assert told in said
    for command in commands:
        status, said = project.manage(command)
        assert (status, "Traceback" in said) == (1, False), said
        assert told in said


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ManagedProcess, int, int]]:
    """The finished project under `runbus`, with its two ports."""
    project = Project(tmp_path_factory.mktemp("served"))
    project.take_settings()
    project.take("asgi.py")
    (project.package / "urls.py").write_text(
        "from django.contrib import admin\nfrom django.urls import include, path\n"
        'urlpatterns = [path("admin/", admin.site.urls), path("bus/", include("bus.urls"))]\n'
    )
    assert project.found() == set()
    assert project.manage("migrate", "--verbosity", "0") == (0, "")
    # A team's CI fails at warnings: Django's own and the one about DEBUG are to be expected of a new project.
    warned = set(re.findall(r"^\?: \(([a-z_]+\.[EW]\d+)\)", project.manage("check", "--deploy")[1], re.MULTILINE))
    # Since Django 6.1 it warns of its mail settings, too.
    assert {name for name in warned if not name.startswith(("security.", "mail."))} == {"bus.E006"}
    port, telemetry_port = free_port(), free_port()
    process = ManagedProcess(
        [
            sys.executable,
            "manage.py",
            "runbus",
            "--host",
            "127.0.0.1",
            f"--port={port}",
            f"--telemetry-port={telemetry_port}",
        ],
        log_path=project.folder / "runbus.log",
        env=project.env,
        cwd=project.folder,
    )
    process.start()
    try:
        process.wait_for_log("Admin  ")
        yield process, port, telemetry_port
    finally:
        process.kill()


async def test_the_finished_project_serves_the_bus_where_it_says(served: tuple[ManagedProcess, int, int]) -> None:
    process, port, telemetry_port = served
    for path in ("/bus/", "/bus"):
        async with arqonbus.connect(f"ws://127.0.0.1:{port}{path}") as bus:
            assert (await bus.publish("shop:orders", "hello")).seq
    async with connect_socket(f"ws://127.0.0.1:{telemetry_port}/") as telemetry:
        assert "telemetry_connected" in str(await telemetry.recv())
    for line in (f"ws://127.0.0.1:{port}/bus/", f"ws://127.0.0.1:{telemetry_port}/", "manage.py createsuperuser"):
        assert line in process.log()
    assert "make admin" not in process.log()


def test_only_the_room_of_the_bus_itself_is_built_into_a_project_of_somebody_else(
    served: tuple[ManagedProcess, int, int],
) -> None:
    status, body = http_request(f"http://127.0.0.1:{served[1]}/bus/api/v1/rooms", "GET")
    assert status == 200
    # Clients that name no room are in science:general, which goes with them like any channel that came by itself.
    assert {room["room"] for room in json.loads(body)["results"] if room["hardcoded"]} == {"integriguard"}


async def test_a_wrong_address_of_the_socket_is_one_line_that_names_the_right_ones(
    served: tuple[ManagedProcess, int, int],
) -> None:
    process, port, _ = served
    for path in ("/", "/ws", "/bus/nothing/"):
        with pytest.raises(InvalidStatus) as refused:
            await connect_socket(f"ws://127.0.0.1:{port}{path}")
        assert refused.value.response.status_code == 403
    assert "No socket at /bus/nothing/. The sockets are at /bus/, /bus/telemetry/" in process.log()
    assert "Traceback" not in process.log()
