"""A row is a row of its model, whichever class of the family wrote it: proxies, children, and parents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection, models
from django.test import override_settings

from bus.db import inheritance as family
from bus.mirror import mirror
from bus.models import AccessChange, Message
from bus.testing import assert_published
from tests.django_integration.orders.models import (
    Colleague,
    GiftOrder,
    LostOrder,
    Order,
    PaidOrder,
    RefundedOrder,
    UrgentOrder,
)

TABLES: tuple[type[models.Model], ...] = (Order, PaidOrder, GiftOrder, LostOrder)
FAMILY: tuple[type[models.Model], ...] = (*TABLES, UrgentOrder, RefundedOrder)
ADDRESS = "shop:family"
APP = "tests.django_integration.orders"

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]


@pytest.fixture(scope="module")
def tables(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The family's tables."""
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, APP]), django_db_blocker.unblock():
        with connection.schema_editor() as editor:
            for model in TABLES:
                editor.create_model(model)
        yield
        with connection.schema_editor() as editor:
            for model in reversed(TABLES):
                editor.delete_model(model)


def keys(model: type[models.Model]) -> set[Any]:
    return set(model._base_manager.values_list("pk", flat=True))


class Steps:
    """What is done to rows, and what has to be told of it: what the tables say."""

    def __init__(self, mirrored: type[models.Model]) -> None:
        self.mirrored = mirrored

    def expect(self, action: Any, *, touched: type[models.Model]) -> None:
        """Carry out `action`, which writes a row as `touched`, and compare what is told with what was there before and after."""
        before = keys(self.mirrored)
        last = Message.objects.count()
        action()
        told = [message.as_dict() for message in Message.objects.order_by("id")[last:]]
        after = keys(self.mirrored)
        expected = [("created", key) for key in after - before] + [("deleted", key) for key in before - after]
        related = family.is_below(touched, self.mirrored) or family.is_below(self.mirrored, touched)
        if not expected and related:
            expected = [("updated", key) for key in after & before]
        found = [(message["payload"]["event"], message["payload"]["pk"]) for message in told]
        assert found == expected, (touched, action)
        assert {message["payload"]["model"] for message in told} <= {self.mirrored._meta.label_lower}


@pytest.mark.parametrize(
    ("mirrored", "writer"), list(itertools.product(FAMILY, FAMILY)), ids=lambda model: model._meta.model_name
)
def test_each_of_the_family_tells_of_what_any_of_them_writes(
    mirrored: type[models.Model], writer: type[models.Model]
) -> None:
    @mirror(mirrored, channel=ADDRESS)
    def describe(row: Any) -> dict[str, Any]:
        assert isinstance(row, mirrored)
        return {"article": row.shout() if isinstance(row, UrgentOrder) else row.pk}

    try:
        # The keys of parent and child differ.
        Order._default_manager.create().delete()
        steps = Steps(mirrored)
        steps.expect(lambda: writer._base_manager.create(), touched=writer)
        row = writer._base_manager.get()
        steps.expect(row.save, touched=writer)
        for above in (Order, PaidOrder, UrgentOrder, RefundedOrder):
            if family.is_below(writer, above):
                as_other = above._base_manager.get()
                steps.expect(as_other.save, touched=above)
        steps.expect(lambda: writer._base_manager.all().delete(), touched=writer)
        assert not Order._default_manager.exists()
        # The whole row goes with its parent's.
        writer._base_manager.create()
        steps.expect(Order._default_manager.get().delete, touched=Order)
    finally:
        describe.disconnect()
    with assert_published(ADDRESS, count=0):
        writer._base_manager.create()


def test_classes_that_are_made_later_belong_to_it() -> None:
    @mirror(Order, channel=ADDRESS)
    def describe(row: Order) -> dict[str, Any]:
        return {}

    class LateOrder(Order):
        """Made after the mirror."""

        class Meta:
            app_label = "orders"
            proxy = True

    try:
        with assert_published(ADDRESS, count=3):
            row = LateOrder._default_manager.create()
            row.save()
            row.delete()
    finally:
        describe.disconnect()
    with assert_published(ADDRESS, count=0):
        LateOrder._default_manager.create()


def test_what_has_no_rows_is_refused() -> None:
    class Base(models.Model):
        """Abstract."""

        class Meta:
            app_label = "orders"
            abstract = True

    with pytest.raises(ValueError, match="abstract"):
        mirror(Base, channel=ADDRESS)  # type: ignore[type-abstract]


def test_a_user_who_is_switched_off_through_a_proxy_is_out_at_once() -> None:
    user = get_user_model().objects.create_user("ada")
    AccessChange.objects.all().delete()
    colleague = Colleague.objects.get(pk=user.pk)
    colleague.is_active = False
    colleague.save()
    assert list(AccessChange.objects.values_list("subject", flat=True)) == [f"user:{user.pk}"]
