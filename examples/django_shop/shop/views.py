"""Views that publish: what they tell is seen if, and only if, their transaction commits."""

from __future__ import annotations

import json

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from bus.services import publish

from .models import Article, Order


@csrf_exempt  # an example without a login
@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """Take an order, and tell the warehouse."""
    wanted = json.loads(request.body)
    try:
        with transaction.atomic():
            article = Article.objects.select_for_update().get(name=wanted["article"])
            order = Order.objects.create(article=article, pieces=wanted["pieces"])
            publish("shop:warehouse", {"order": order.pk}, message=f"Please pack {order}")
            article.stock -= order.pieces
            if article.stock < 0:
                raise OutOfStock  # the order and both messages of it never were
            article.save()
    except OutOfStock:
        return JsonResponse({"error": f"We do not have that many {wanted['article']}s in stock."}, status=409)
    return JsonResponse({"number": order.pk}, status=201)


@csrf_exempt
@require_POST
def ship_order(request: HttpRequest, number: int) -> JsonResponse:
    """The parcel is on its way; the mirror of orders tells of it."""
    order = get_object_or_404(Order, pk=number)
    order.state = "shipped"
    order.save(update_fields=["state"])
    return JsonResponse({"number": order.pk, "state": order.state})


class OutOfStock(Exception):
    """Raised when there are fewer pieces than ordered."""
