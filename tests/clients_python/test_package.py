"""The packages as somebody installs them: built wheels in a folder of their own, far from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bus import _speed
from bus._speed import build
from hatch_build import WheelHook
from tests.harness.backends import clean_environment
from tests.harness.processes import PROJECT_ROOT
from tests.harness.server import BusServer

# One back end is enough: what is installed is the same, and the plugin's server always uses SQLite.
# Wheels are built and installed in between, which takes a busy machine its time.
pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]


def run(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program with nothing of the checkout in its environment."""
    clean = {key: value for key, value in clean_environment(env).items() if key != "PYTHONPATH" or "PYTHONPATH" in env}
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of the client and of the server, built from a copy of their sources."""
    folder = tmp_path_factory.mktemp("wheels")
    options = [
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "--wheel-dir",
        str(folder),
    ]
    made = run(sys.executable, "-m", "pip", "wheel", *options, str(PROJECT_ROOT / "clients" / "python"),
               str(PROJECT_ROOT), cwd=folder)  # fmt: skip
    assert made.returncode == 0, made.stderr
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="session")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packages, installed by pip into a folder of their own."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--disable-pip-version-check", "--no-compile", "--target", str(target)]
    done = run(sys.executable, "-m", "pip", "install", *options, *map(str, wheels.values()), cwd=target)
    assert done.returncode == 0, done.stderr
    return target


def test_the_clients_wheel_is_complete_and_typed(wheels: dict[str, Path]) -> None:
    names = set(zipfile.ZipFile(wheels["arqonbus"]).namelist())
    sources = PROJECT_ROOT / "clients" / "python" / "src"
    assert {path.relative_to(sources).as_posix() for path in sources.rglob("*.py")} <= names
    assert "arqonbus/py.typed" in names


def test_the_servers_wheel_has_the_apps_with_their_pages_and_migrations(wheels: dict[str, Path]) -> None:
    names = set(zipfile.ZipFile(wheels["arqonbus_server"]).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "bus", "telemetry", "arqonbus_site"], cwd=PROJECT_ROOT, capture_output=True, text=True
    ).stdout.split()
    assert "bus/migrations/0001_initial.py" in tracked
    assert set(tracked) <= names
    templates = subprocess.run(
        ["git", "ls-files", "templates"], cwd=PROJECT_ROOT, capture_output=True, text=True
    ).stdout.split()
    assert {f"arqonbus_site/{path}" for path in templates} <= names


def test_the_servers_wheel_has_the_compiled_path_where_it_was_built(wheels: dict[str, Path], installed: Path) -> None:
    built = not build.missing() and _speed.wanted()
    names = [name for name in zipfile.ZipFile(wheels["arqonbus_server"]).namelist() if name.endswith((".so", ".pyd"))]
    assert names == ([f"bus/_speed/{build.target().name}"] if built else [])
    # Such a wheel is for one Python on one platform, the other one for all.
    assert wheels["arqonbus_server"].name.endswith("-none-any.whl") is not built
    command = "from bus import _speed; print(_speed.__file__, _speed.PATH)"
    said = run(sys.executable, "-c", command, cwd=installed, PYTHONPATH=str(installed)).stdout
    assert said == f"{installed / 'bus' / '_speed' / '__init__.py'} {'compiled' if built else 'python'}\n"


def test_a_wheel_without_the_compiled_path_is_for_all_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_speed.SWITCH, "0")
    hook = WheelHook(str(PROJECT_ROOT), {}, None, None, str(PROJECT_ROOT), "wheel")  # type: ignore[arg-type]
    data: dict[str, Any] = {"force_include": {}, "pure_python": True}
    hook.initialize("standard", data)
    assert data["pure_python"] is True
    assert sorted(data["force_include"].values()) == ["arqonbus_site/templates", "bus/docs"]


def test_the_plugin_starts_a_real_server_from_the_installed_package(installed: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "test_worker.py").write_text(
        "from arqonbus import sync\n"
        "\n"
        "def test_messages(arqonbus_bus, arqonbus_url):\n"
        "    with sync.connect(arqonbus_url) as other, other.subscribe('jobs:new') as jobs:\n"
        "        arqonbus_bus.publish('jobs:new', {'n': 1})\n"
        "        assert jobs.get(10).payload == {'n': 1}\n"
        "\n"
        "def test_the_server_can_be_hurt(arqonbus_server, arqonbus_bus):\n"
        "    arqonbus_server.kill()\n"
        "    arqonbus_server.start()\n"
        "    assert arqonbus_bus.history_page('jobs:new').messages[0].payload == {'n': 1}\n"
        "    assert arqonbus_server.stop() == 0\n"
        "    assert 'stopped' in arqonbus_server.log()\n"
    )
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project, PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_plugin_uses_a_running_server_or_says_what_is_missing(
    wheels: dict[str, Path], shared_server: BusServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "client")
    zipfile.ZipFile(wheels["arqonbus"]).extractall(path)  # the client without the server
    (tmp_path / "test_it.py").write_text("def test_it(arqonbus_bus):\n    assert arqonbus_bus.ping()['pong']\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_it.py")]
    with_server = run(*command, f"--arqonbus-url={shared_server.url}", cwd=tmp_path, PYTHONPATH=path)
    assert "1 passed" in with_server.stdout, with_server.stdout
    without = run(*command, cwd=tmp_path, PYTHONPATH=path)
    assert without.returncode == 1
    assert "--arqonbus-url" in without.stdout
    assert "--arqonbus-project" in without.stdout


def test_the_installed_command_works_where_it_is_run(installed: Path, tmp_path: Path) -> None:
    path = str(installed)
    place = tmp_path / "place"
    place.mkdir()
    command = (sys.executable, "-m", "arqonbus_site")
    migrated = run(*command, "migrate", "--verbosity", "0", cwd=place, PYTHONPATH=path)
    assert migrated.returncode == 0, migrated.stderr
    seeded = run(*command, "seed_science_rooms", cwd=place, PYTHONPATH=path)
    assert "science" in seeded.stdout
    assert sorted(os.listdir(place / "var"))[0] == "arqonbus.sqlite3"
    scripts = (installed / "bin" / "arqonbus-server").read_text()
    assert "arqonbus_site.__main__" in scripts
