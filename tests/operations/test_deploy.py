"""The files of ``deploy/`` are true: they parse, name what exists, and their command lines serve, without Docker and systemd."""

from __future__ import annotations

import asyncio
import configparser
import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from redis import AuthenticationError, Redis

from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends, Storage, clean_environment, run_manage
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.redis import redis_binary
from tests.harness.server import BusServer, http_request
from tests.harness.waiting import free_port, wait_until

DEPLOY = PROJECT_ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
NGINX = (DEPLOY / "nginx" / "nginx.conf").read_text()
SECRETS = {
    "SECRET_KEY": "k" * 50,
    "POSTGRES_PASSWORD": "p",
    "REDIS_PASSWORD": "r",
    "ALLOWED_HOSTS": "bus.test,127.0.0.1",
    "INSECURE_HTTP": "1",
}


def _instructions(word: str) -> list[str]:
    return re.findall(rf"^{word} +(.+)$", DOCKERFILE, re.MULTILINE)


def _filled(text: str) -> str:
    """A value of the compose file with the variables of whoever starts it."""
    return re.sub(r"\$\{(\w+)(?::[-?][^}]*)?\}", lambda found: SECRETS[found[1]], text)


def _here(command: list[str], port: int) -> list[str]:
    """A command line of a container or unit, for this machine and a free port."""
    programs = {"daphne": [sys.executable, "-m", "daphne"], "python": [sys.executable]}
    program, *rest = command
    return [
        *programs[Path(program).name],
        *(word.replace("8765", str(port)).replace("0.0.0.0", "127.0.0.1") for word in rest),
    ]


def _serving(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _status(url: str) -> int:
    return http_request(url)[0]


@pytest.mark.pure
def test_the_image_is_made_of_what_is_there_and_runs_without_privileges() -> None:
    assert re.fullmatch(r"python:3\.1[123]-slim", _instructions("FROM")[-1].split()[0])
    for line in _instructions("COPY"):
        if not line.startswith("--from"):
            for source in line.split()[:-1]:
                assert (PROJECT_ROOT / source).exists(), source
    ignored = (PROJECT_ROOT / ".dockerignore").read_text().split()
    assert {".git", "**/var", "**/.env*"} <= set(ignored)
    assert _instructions("USER") == ["arqonbus"]
    assert DOCKERFILE.index("USER arqonbus") < DOCKERFILE.index('CMD ["daphne')
    assert "--require-hashes" in DOCKERFILE


@pytest.mark.pure
def test_what_the_image_takes_is_whole() -> None:
    taken: set[Path] = set()
    for line in _instructions("COPY"):
        if not line.startswith("--from"):
            taken |= {(PROJECT_ROOT / source).resolve() for source in line.split()[:-1]}
    links = [path for folder in taken if folder.is_dir() for path in folder.rglob("*") if path.is_symlink()]
    assert links, "the browser's client is a link to clients/"
    for link in links:
        assert any(link.resolve().is_relative_to(source) for source in taken), f"{link} leads out of the image"
        assert link.resolve().is_file(), link


@pytest.mark.pure
def test_every_process_of_the_compose_file_is_started_as_the_image_is() -> None:
    command = json.loads(_instructions("CMD")[-1])
    for name in ("bus1", "bus2"):
        service = COMPOSE["services"][name]
        assert service["command"] == command
        assert (
            DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]
        ).resolve() == DEPLOY / "Dockerfile"
        assert set(service["depends_on"]) <= set(COMPOSE["services"])
    for volume in COMPOSE["services"]["nginx"]["volumes"]:
        assert (DEPLOY / volume.split(":")[0]).is_file()
    for port in COMPOSE["services"]["nginx"]["ports"]:
        assert re.search(rf"listen {port.split(':')[1]}\b", NGINX)
    servers = re.findall(r"server (\w+):8765(.*);", NGINX)
    assert {name for name, _ in servers} <= set(COMPOSE["services"])
    # Else nginx answers 502 to those who come back after a restart.
    assert {options.strip() for _, options in servers} == {"max_fails=0"}


@pytest.mark.pure
def test_no_service_of_the_compose_file_may_do_more_than_it_needs() -> None:
    services = COMPOSE["services"]
    becoming_another_user = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
        assert set(service.get("cap_add", ())) <= becoming_another_user, name
        # Only what strangers are to reach has a port.
        assert ("ports" in service) is (name == "nginx"), name
    assert {name for name, service in services.items() if "back" in service["networks"]} == {
        "db", "redis", "migrate", "bus1", "bus2",
    }  # fmt: skip
    assert services["nginx"]["networks"] == ["front"]
    assert services["db"]["networks"] == services["redis"]["networks"] == ["back"]
    assert COMPOSE["networks"]["back"]["internal"] is True


@pytest.mark.cluster
def test_the_compose_file_s_redis_asks_for_its_password_and_shows_it_in_no_list_of_processes(tmp_path: Path) -> None:
    port = free_port()
    shell, option, script = COMPOSE["services"]["redis"]["command"]
    script = script.replace("$$", "$").replace("/tmp/", f"{tmp_path}/").replace("redis-server", str(redis_binary()))
    redis = ManagedProcess(
        [shell, option, f"{script.strip()} --port {port}"],
        log_path=tmp_path / "redis.log",
        env=clean_environment({"REDISCLI_AUTH": "hush"}),
        cwd=tmp_path,
    )
    redis.start()
    try:
        redis.wait_for_log("Ready to accept connections")
        assert "hush" not in " ".join(psutil.Process(redis.pid).cmdline())
        with Redis.from_url(f"redis://127.0.0.1:{port}/0") as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        with Redis.from_url(f"redis://:hush@127.0.0.1:{port}/0") as bus:
            assert bus.ping()
    finally:
        redis.kill()


@pytest.mark.pure
def test_every_variable_of_the_deployment_is_one_of_the_configuration() -> None:
    known = set(re.findall(r"^\| `(\w+)` \|", (PROJECT_ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE))
    example = (DEPLOY / "systemd" / "arqonbus.env.example").read_text()
    named = set(COMPOSE["x-bus"]["environment"]) | set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert named <= known


@pytest.mark.pure
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_systemd_unit_names_programs_and_files_of_the_project(unit: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    assert {"Unit", "Service", "Install"} == set(parser.sections())
    service = parser["Service"]
    assert service["WorkingDirectory"] == "/srv/arqonbus"
    for option in ("ExecStart", "ExecStartPre"):
        if option in service:
            program, *arguments = shlex.split(service[option])
            assert Path(program).name in ("python", "daphne")
            assert (PROJECT_ROOT / ".venv" / "bin" / Path(program).name).exists() or sys.prefix != sys.base_prefix
            if Path(program).name == "python":
                assert (PROJECT_ROOT / arguments[0]).is_file()
    # Longer than the drain may take.
    assert int(service["TimeoutStopSec"]) > 12


@pytest.mark.pure
@pytest.mark.needs("systemd-analyze")
def test_systemd_itself_takes_the_units(tmp_path: Path) -> None:
    # Its own check wants the programs to exist, so those are put where they do.
    for unit in UNITS:
        text = unit.read_text()
        text = text.replace("/srv/arqonbus/.venv/bin/daphne", sys.executable)
        text = text.replace("/srv/arqonbus/.venv/bin/python", sys.executable)
        (tmp_path / unit.name.replace("@", "@8765")).write_text(text)
    units = [str(path) for path in tmp_path.iterdir()]
    said = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    faults = [line for line in said.stderr.splitlines() if "arqonbus" in line and "Unknown" in line]
    assert not faults


@dataclass
class Deployed:
    """The compose file's two processes: their ports and their environment."""

    ports: list[int]
    env: dict[str, str]
    processes: list[ManagedProcess]


@pytest.fixture
def deployed(backends: Backends, tmp_path: Path) -> Iterator[Deployed]:
    """The compose file's processes, on a PostgreSQL and a Redis of their own, after its `migrate`."""
    storage = backends.new_storage()
    services = COMPOSE["services"]
    environment = {name: _filled(value) for name, value in services["bus1"]["environment"].items()}
    environment |= {"DEBUG": "0", "DATABASE_URL": storage.database_url, "REDIS_URL": str(storage.redis_url)}
    env = clean_environment(environment)
    migrate = _here(services["migrate"]["command"], 0)
    subprocess.run(migrate, cwd=PROJECT_ROOT, env=env, check=True, capture_output=True, timeout=120)
    made = Deployed([], env, [])
    for name in ("bus1", "bus2"):
        port = free_port()
        command = _here(services[name]["command"], port)
        process = ManagedProcess(command, log_path=tmp_path / f"{name}.log", env=env, cwd=PROJECT_ROOT)
        process.start()
        made.processes.append(process)
        made.ports.append(port)
    try:
        for port in made.ports:
            wait_until(partial(_serving, port), f"the process on port {port} is ready")
        yield made
    finally:
        for process in made.processes:
            process.kill()
        backends.drop_storage(storage)


@pytest.mark.cluster
async def test_the_compose_file_s_processes_serve_one_bus_and_stop_in_order(deployed: Deployed, wire: Connect) -> None:
    one, two = (f"ws://127.0.0.1:{port}/" for port in deployed.ports)
    stranger = await wire(one, register=False)
    await stranger.send({"client_id": "nobody"})
    assert await stranger.wait_closed() == 4401
    token = run_manage("create_token", "probe", env=deployed.env).splitlines()[-1]
    sender, member = await wire(one, room="lab:a", token=token), await wire(two, room="lab:a", token=token)
    await sender.publish("over both", ack=True)
    await member.expect(message="over both")
    assert await asyncio.to_thread(deployed.processes[0].terminate) == 0
    assert await sender.wait_closed() == 4012
    await member.publish("alone", ack=True)
    for process in deployed.processes:
        assert "Traceback" not in process.log()
        assert [line for line in process.log().splitlines() if not line.startswith("{")] == []


@pytest.mark.cluster
@pytest.mark.needs("nginx")
async def test_nginx_leads_sockets_and_pages_to_both_and_telemetry_to_its_port(
    deployed: Deployed, wire: Connect, tmp_path: Path
) -> None:
    front, telemetry = free_port(), free_port()
    text = NGINX.replace("listen 8765", f"listen 127.0.0.1:{front}").replace(
        "listen 8766", f"listen 127.0.0.1:{telemetry}"
    )
    for name, port in zip(("bus1", "bus2"), deployed.ports, strict=True):
        text = text.replace(f"{name}:8765", f"127.0.0.1:{port}")
    text = text.replace("/var/log/nginx", str(tmp_path))
    path = tmp_path / "nginx.conf"
    path.write_text(text)
    nginx = ManagedProcess(
        ["nginx", "-e", "stderr", "-p", str(tmp_path), "-c", str(path), "-g", f"daemon off; pid {tmp_path}/nginx.pid;"],
        log_path=tmp_path / "nginx.log",
        env=clean_environment(),
    )
    nginx.start()
    try:
        wait_until(partial(_serving, front), f"nginx serves\n{nginx.log_tail()}")
        token = run_manage("create_token", "boss", "--admin", env=deployed.env).splitlines()[-1]
        clients = [await wire(f"ws://127.0.0.1:{front}/", room="lab:a", token=token) for _ in range(6)]
        await clients[0].publish("through nginx", ack=True)
        for client in clients[1:]:
            await client.expect(message="through nginx")
        watcher = await wire(
            f"ws://127.0.0.1:{telemetry}/", register=False, headers={"Authorization": f"Bearer {token}"}
        )
        first = await watcher.expect(type="telemetry_connected")
        assert first["payload"]["receiving"] is True
        await watcher.expect(type="telemetry", timeout=10)
        # Guessing at a password ends after a few tries.
        logins = [await asyncio.to_thread(_status, f"http://127.0.0.1:{front}/login/") for _ in range(15)]
        assert (logins[0], logins[-1]) == (200, 429)
        # Each process sees the clients' own address, and one that goes costs its clients a reconnect and nobody else anything.
        assert await asyncio.to_thread(deployed.processes[0].terminate) == 0
        again = await wire(f"ws://127.0.0.1:{front}/", room="lab:a", token=token)
        await again.publish("still here", ack=True)
        assert token not in (tmp_path / "access.log").read_text()
        # Its whole upstream has been away: the first to come back are served, all of them, not one every now and then.
        assert await asyncio.to_thread(deployed.processes[1].terminate) == 0
        assert not any([await asyncio.to_thread(_serving, front) for _ in range(8)])
        deployed.processes[1].start()
        await asyncio.to_thread(wait_until, partial(_serving, deployed.ports[1]), "the second process is back")
        for _ in range(6):
            await wire(f"ws://127.0.0.1:{front}/", room="lab:a", token=token)
    finally:
        nginx.kill()


@pytest.mark.embedded
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
async def test_the_command_of_a_systemd_unit_serves(
    backends: Backends, storage: Storage, wire: Connect, tmp_path: Path, unit: Path
) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(unit)
    port, telemetry = free_port(), free_port()
    # SQLite here, so one process.
    command = parser["Service"]["ExecStart"].replace("%i", "8765").replace("--workers 2", "--workers 1")
    command = command.replace("8766", str(telemetry))
    env = clean_environment(
        {
            "DEBUG": "0",
            "ALLOWED_HOSTS": "bus.test,127.0.0.1",
            "SECRET_KEY": backends.secret_key,
            "ARQONBUS_ANONYMOUS": "1",
            **storage.env(),
        }
    )
    process = ManagedProcess(_here(shlex.split(command), port), log_path=tmp_path / "log", env=env, cwd=PROJECT_ROOT)
    process.start()
    try:
        wait_until(partial(_serving, port), f"the unit's command serves\n{process.log_tail()}")
        client = await wire(f"ws://127.0.0.1:{port}/")
        await client.publish("hello", ack=True)
        await client.close()
        assert process.terminate() == 0
    finally:
        process.kill()


@pytest.fixture(scope="session")
def metric_names(shared_server: BusServer) -> set[str]:
    """Every name that a query may use, from a real page."""
    names: set[str] = set()
    for family in text_string_to_metric_families(shared_server.get("/metrics")[1].decode()):
        names |= {
            "counter": {f"{family.name}_total"},
            "histogram": {f"{family.name}_{part}" for part in ("bucket", "count", "sum")},
        }.get(family.type, {family.name})
    return names


def _queries() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "arqonbus.json").read_text())
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]] + [
        rule["expr"] for group in rules["groups"] for rule in group["rules"]
    ]


def test_dashboard_and_alerts_ask_for_metrics_that_there_are(metric_names: set[str]) -> None:
    asked = {name for query in _queries() for name in re.findall(r"\barqonbus_\w+", query)}
    assert asked
    assert asked <= metric_names
    # And the dashboard leaves nothing out that a process tells.
    shown = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in asked}
    told = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in metric_names}
    assert {name for name in told - shown if name.startswith("arqonbus_")} <= {
        "arqonbus_cluster_connections_total",
        "arqonbus_cluster_messages_total",
    }


@pytest.mark.pure
def test_the_scrape_configuration_leads_to_the_compose_file_s_processes() -> None:
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = settings["scrape_configs"]
    assert {target.split(":")[0] for target in job["static_configs"][0]["targets"]} <= set(COMPOSE["services"])
    assert all((DEPLOY / "prometheus" / name).is_file() for name in settings["rule_files"])


@pytest.mark.embedded
def test_probes_that_come_by_address_are_answered_and_pages_are_not(start_server: StartServer) -> None:
    server = start_server("daphne", env={"DEBUG": "0", "ALLOWED_HOSTS": "bus.test"})
    address = {"Host": "10.1.2.3:8765"}
    for path in ("/health", "/ready", "/version", "/metrics", "/metrics/cluster"):
        assert server.get(path, address)[0] == 200, path
    assert server.get("/admin/", address)[0] == 400
