"""Which sockets a server may serve without ASGI: those of the bus's consumers, with nothing of the project around them."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from channels.routing import URLRouter
from django.urls import path

from bus.asgi import _Sockets
from bus.consumers import BusConsumer, Served

pytestmark = pytest.mark.pure


class Named(BusConsumer):
    """A consumer of the project that changes nothing about the handshake."""

    kind = "named"


class Checked(BusConsumer):
    """A consumer of the project with a check of its own."""

    async def arrive(self, scope: Any, send: Any) -> Served:
        """Check, and go on."""
        return await super().arrive(scope, send)


class Proxy:
    """A guard that shows the attributes of what it guards."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def __getattr__(self, name: str) -> Any:
        return getattr(self._application, name)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise PermissionError


def wrapped(application: Any) -> Any:
    """A guard with the attributes of what it guards."""

    @functools.wraps(application)
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        raise PermissionError

    return inner


def _served(consumer: type[BusConsumer]) -> Any:
    return consumer.as_asgi()


def consumer_at(application: Any, wanted: str = "/bus/") -> Any:
    return _Sockets(URLRouter([path("bus/", application)])).plain({"path": wanted})


@pytest.mark.parametrize("consumer", [BusConsumer, Named])
def test_a_consumer_of_the_bus_by_itself_is_plain(consumer: type[BusConsumer]) -> None:
    assert type(consumer_at(consumer.as_asgi())) is consumer
    assert type(consumer_at(consumer.as_asgi(), "/bus")) is consumer


@pytest.mark.parametrize(
    "application",
    [
        wrapped(BusConsumer.as_asgi()),
        Proxy(BusConsumer.as_asgi()),
        Checked.as_asgi(),
        Named.as_asgi(name="value"),
        URLRouter([path("", _served(BusConsumer))]),
    ],
    ids=["wraps", "proxy", "override", "arguments", "router"],
)
def test_what_a_project_puts_around_a_consumer_is_asked(application: Any) -> None:
    assert consumer_at(application) is None


def test_neither_is_another_path_nor_a_router_inside_something() -> None:
    assert consumer_at(BusConsumer.as_asgi(), "/other/") is None
    router = URLRouter([path("bus/", _served(BusConsumer))])
    assert _Sockets(wrapped(router)).plain({"path": "/bus/"}) is None
    assert _Sockets(Proxy(router)).plain({"path": "/bus/"}) is None
