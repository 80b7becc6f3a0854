"""What the pages show."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from bus.mirror import mirror


class Row(models.Model):
    """One row of the page."""

    objects: ClassVar[models.Manager[Row]] = models.Manager()

    text = models.CharField(max_length=200)

    class Meta:
        app_label = "site"
        db_table = "live_row"

    def __str__(self) -> str:
        return self.text


@mirror(Row, channel="live:rows", snapshot=Row.objects.order_by("pk"))
def row_on_the_bus(row: Row) -> dict[str, str]:
    """Return the public values of a row."""
    return {"text": row.text}
