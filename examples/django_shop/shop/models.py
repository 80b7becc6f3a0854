"""Models of the shop: articles and orders."""

from __future__ import annotations

from django.db import models


class Article(models.Model):
    """An article in stock."""

    name = models.CharField(max_length=60, unique=True)
    stock = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """An order of some pieces of one article."""

    article = models.ForeignKey(Article, on_delete=models.PROTECT)
    pieces = models.PositiveIntegerField(default=1)
    state = models.CharField(max_length=10, default="new")

    def __str__(self) -> str:
        return f"{self.pieces} × {self.article}"
