"""Mirror of orders: each creation, update and deletion is published after its commit, for dashboards and caches."""

from __future__ import annotations

from typing import Any

from bus.mirror import mirror

from .models import Order


@mirror(Order, channel="shop:orders")
def order_on_the_bus(order: Order) -> dict[str, Any]:
    """Return the public values of an order."""
    return {"article": order.article.name, "pieces": order.pieces, "state": order.state}
