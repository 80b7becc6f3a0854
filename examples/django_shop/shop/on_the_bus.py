"""What the bus tells of the shop's rows, for dashboards and caches: created, updated, deleted, after the commit."""

from __future__ import annotations

from typing import Any

from bus.mirror import mirror

from .models import Order


@mirror(Order, channel="shop:orders")
def order_on_the_bus(order: Order) -> dict[str, Any]:
    """An order's public values."""
    return {"article": order.article.name, "pieces": order.pieces, "state": order.state}
