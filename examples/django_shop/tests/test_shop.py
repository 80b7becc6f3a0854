"""Tests of the shop with the helpers of `bus.testing`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import AsyncClient, Client

from bus.testing import LiveBus, assert_published
from shop.models import Article, Order

pytestmark = pytest.mark.django_db


def order(client: Client, pieces: int) -> Any:
    """Place an order."""
    return client.post("/orders/", json.dumps({"article": "lamp", "pieces": pieces}), "application/json")


def test_an_order_is_published_to_the_warehouse_and_to_the_orders_channel(client: Client) -> None:
    Article.objects.create(name="lamp", stock=5)
    with (
        assert_published("shop:warehouse", message="Please pack 2 × lamp"),
        assert_published("shop:orders") as published,
    ):
        assert order(client, 2).status_code == 201
    assert published[0]["payload"]["event"] == "created"


def test_a_failed_order_publishes_nothing(client: Client) -> None:
    Article.objects.create(name="lamp", stock=1)
    with assert_published("shop:warehouse", count=0), assert_published("shop:orders", count=0):
        assert order(client, 2).status_code == 409
    assert not Order.objects.exists()


async def test_a_dashboard_receives_a_shipment(live_bus: LiveBus, async_client: AsyncClient) -> None:
    lamp = await Article.objects.acreate(name="lamp", stock=5)
    shipped = await Order.objects.acreate(article=lamp, pieces=1)
    dashboard = await live_bus.connect("dashboard", room="shop:orders")
    await async_client.post(f"/orders/{shipped.pk}/ship/")
    message = await dashboard.expect("model")
    assert message["payload"]["data"] == {"article": "lamp", "pieces": 1, "state": "shipped"}
