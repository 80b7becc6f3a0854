"""Orders, and what else is an order."""

# ruff: noqa: DJ008 - nobody prints these
from __future__ import annotations

from django.contrib.auth import get_user_model
from django.db import models


class Order(models.Model):
    """What everything else is."""

    article = models.CharField(max_length=20, default="lamp")

    class Meta:
        app_label = "orders"


class UrgentOrder(Order):
    """The same, seen otherwise."""

    class Meta:
        app_label = "orders"
        proxy = True

    def shout(self) -> str:
        return self.article.upper()


class PaidOrder(Order):
    """With a table of its own beside."""

    number = models.AutoField(primary_key=True)
    order = models.OneToOneField(Order, models.CASCADE, parent_link=True)
    price = models.IntegerField(default=1)

    class Meta:
        app_label = "orders"


class RefundedOrder(PaidOrder):
    """A proxy of a child."""

    class Meta:
        app_label = "orders"
        proxy = True


class GiftOrder(PaidOrder):
    """A child of a child."""

    wish = models.CharField(max_length=20, default="")

    class Meta:
        app_label = "orders"


class LostOrder(Order):
    """Another child."""

    class Meta:
        app_label = "orders"


User = get_user_model()


class Colleague(User):  # type: ignore[valid-type, misc]
    """As projects have their users in the admin."""

    class Meta:
        app_label = "orders"
        proxy = True
