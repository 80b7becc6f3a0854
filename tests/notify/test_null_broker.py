"""The broker of a process that is the only one, and the choice between the two brokers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from channels.layers import InMemoryChannelLayer, channel_layers
from pytest_django.fixtures import Settings

from bus.notify.broker import Broker, NullBroker, broker_for
from bus.notify.layer_broker import LayerBroker
from bus.notify.messages import ChannelChanged, Notification

pytestmark = pytest.mark.pure

IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
REDIS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": ["redis://127.0.0.1:1"]}}}


@pytest.fixture
def layers(settings: Settings) -> Iterator[Settings]:
    """CHANNEL_LAYERS may be changed; the layers of the other tests are made anew afterwards."""
    before = dict(channel_layers.backends)
    yield settings
    channel_layers.backends = before


def chosen(layers: Settings, configuration: object) -> Broker:
    layers.CHANNEL_LAYERS = configuration
    channel_layers.backends = {}
    return broker_for(lambda notification: None)


def test_a_process_alone_has_the_null_broker_and_one_of_several_the_layers(layers: Settings) -> None:
    assert isinstance(chosen(layers, IN_MEMORY), NullBroker)
    assert isinstance(chosen(layers, REDIS), LayerBroker)


def test_a_project_without_a_layer_is_told_what_to_do(layers: Settings) -> None:
    with pytest.raises(RuntimeError, match="CHANNEL_LAYERS has no default layer"):
        chosen(layers, {})


async def test_the_null_broker_sends_nothing_and_refuses_nothing() -> None:
    broker: Broker = NullBroker()
    received: list[Notification] = []
    layer = InMemoryChannelLayer()
    await broker.start()
    await broker.follow("channel.1")
    broker.follow_soon("client.1")
    broker.unfollow("channel.1")
    broker.send(ChannelChanged("lab", "bench"))
    await broker.stop()
    assert (broker.alone, broker.connected, broker.overloaded) == (True, True, False)
    assert (broker.waiting_bytes, broker.skipped) == (0, 0)
    assert not layer.channels
    assert received == []
