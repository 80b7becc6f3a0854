"""A project with its choices in a process of its own, and its pages as a browser has them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.harness.backends import clean_environment
from tests.harness.processes import ManagedProcess
from tests.harness.server import http_request
from tests.harness.waiting import free_port, wait_until
from tests.hosts.choices import Choice
from tests.hosts.site import PASSWORD


class Host:
    """A running project. What it found out about itself is in `facts`."""

    def __init__(self, folder: Path, choice: Choice, settings: Mapping[str, Any] | None = None) -> None:
        self.choice = choice
        self.port = free_port()
        env = {"HOST": json.dumps(choice), "HOST_STATE": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        if settings:
            env["HOST_SETTINGS"] = json.dumps(settings)
        self.folder = folder
        self.process = ManagedProcess(
            [sys.executable, "-m", "tests.hosts.site.drive", str(self.port)],
            log_path=folder / "server.log",
            env=clean_environment(env),
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What the project said of itself before it served."""
        value: dict[str, Any] = json.loads((self.folder / "facts.json").read_text())
        return value

    @property
    def pages(self) -> str:
        """Where the bus is for the server itself, without what a proxy would take away."""
        return {"root": "/", "languages": f"/{self._language}/bus/"}.get(self.choice["prefix"], "/bus/")

    @property
    def _language(self) -> str:
        return "de" if self.choice["country"] == "german" else "en"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process.start()
        wait_until(self._ready, f"the project is ready\n{self.process.log_tail()}", deadline=60)

    def _ready(self) -> bool:
        assert self.process.alive, self.process.log()
        try:
            return http_request(self.url(f"{self.pages}ready"))[0] == 200
        except OSError:
            return False

    def url(self, path: str, scheme: str = "http") -> str:
        """The address of a path; one that a page gave has the prefix of the whole project in front."""
        behind_proxy = self.choice["prefix"] == "script" and self.choice["server"] == "uvicorn"
        # Uvicorn expects of a proxy that it takes the prefix away, the others take both.
        return f"{scheme}://127.0.0.1:{self.port}{path.removeprefix('/app') if behind_proxy else path}"


class Visitor:
    """A browser with a session."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.client = httpx.AsyncClient(timeout=20, trust_env=False, headers={"Accept-Language": "en"})

    @property
    def cookies(self) -> str:
        """All of them, as a handshake brings them."""
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.client.cookies.jar)

    async def page(self, path: str) -> str:
        """A page that has to be there."""
        answer = await self.client.get(self.host.url(path))
        assert answer.status_code == 200, (path, answer.status_code, answer.text[-2000:])
        return answer.text

    async def submit(self, path: str, **fields: str) -> httpx.Response:
        """A page's form, sent as the page does."""
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', await self.page(path))
        assert token, path
        return await self.client.post(self.host.url(path), data={"csrfmiddlewaretoken": token[1], **fields})

    async def log_in(self, path: str, name: str) -> None:
        """By the form of the console."""
        answer = await self.submit(path, username=name, password=PASSWORD)
        assert answer.status_code == 302, answer.text[-2000:]

    async def console(self) -> dict[str, Any]:
        """What the console's page tells its script."""
        text = await self.page(self.host.pages)
        block = re.search(r'<script id="console-config" type="application/json">(.*?)</script>', text, re.DOTALL)
        assert block
        config: dict[str, Any] = json.loads(block[1])
        files = re.findall(r'(?:src|href)="(/[^"]*/arqonbus/[^"]+)"', text)
        assert len(files) >= 5
        for file in files:
            assert (await self.client.get(self.host.url(urlsplit(file).path))).status_code == 200, file
        assert "<code>4008</code>" in text
        return config

    async def submit_logout(self, config: dict[str, Any]) -> httpx.Response:
        """The console's button."""
        return await self.client.post(
            self.host.url(config["logout_path"]), data={"csrfmiddlewaretoken": config["csrf"]["token"]}
        )
