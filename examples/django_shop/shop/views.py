"""Views that publish. Subscribers receive the messages only if the transaction commits."""

from __future__ import annotations

import json

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from bus.services import publish

from .models import Article, Order


@csrf_exempt  # The example has no log-in.
@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """Save an order and send a message to the warehouse."""
    wanted = json.loads(request.body)
    try:
        with transaction.atomic():
            article = Article.objects.select_for_update().get(name=wanted["article"])
            order = Order.objects.create(article=article, pieces=wanted["pieces"])
            publish("shop:warehouse", {"order": order.pk}, message=f"Please pack {order}")
            article.stock -= order.pieces
            if article.stock < 0:
                raise OutOfStock  # The rollback removes the order and both of its messages.
            article.save()
    except OutOfStock:
        return JsonResponse({"error": f"We do not have that many {wanted['article']}s in stock."}, status=409)
    return JsonResponse({"number": order.pk}, status=201)


@csrf_exempt
@require_POST
def ship_order(request: HttpRequest, number: int) -> JsonResponse:
    """Mark an order as shipped. The mirror of orders publishes the change."""
    order = get_object_or_404(Order, pk=number)
    order.state = "shipped"
    order.save(update_fields=["state"])
    return JsonResponse({"number": order.pk, "state": order.state})


class OutOfStock(Exception):
    """An order asks for more pieces than there are."""
