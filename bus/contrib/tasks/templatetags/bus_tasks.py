"""The progress bar of a task (docs/django.md)."""

from __future__ import annotations

from typing import Any

import msgspec
from django import template
from django.template.loader import get_template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ....auth.permissions import SYSTEM
from ....models import Channel
from ....protocol.errors import BusError
from ....protocol.names import Address
from ....services import history
from ....templatetags.bus import bus_live
from ..runs import Run, address_of
from ..telling import TYPE

register = template.Library()


@register.simple_tag
def bus_progress(task: Any, template_name: str = "bus/tasks/progress.html") -> SafeString:
    """An element that shows the state of a task, and follows it.

    ``task`` is the result of Django's ``enqueue``, that of Celery's ``delay``, or a task's id. ``template_name`` renders the
    inside of the element from ``task``, the payload of the newest message. Nothing is shown of a silent task.

    The page shows the state to whom the view shows the page. To go on, its viewer needs the right to the channel's history.
    """
    address = address_of(_asked(task))
    if address is None:
        return SafeString("")
    place = Channel.objects.filter(room__name=address.room, name=address.channel).values_list("epoch", "head").first()
    epoch, seq = place or ("", 0)
    # A message that came after the position is shown twice, which changes nothing.
    told = _newest(address) if place else None
    inside = get_template(template_name).render(
        {"task": told or {"state": "queued", "task": str(getattr(task, "id", task))}}
    )
    live = bus_live(str(address), f"{epoch}-{seq}", template_name, name="task", swap="innerHTML")
    return format_html('<div class="bus-task" {}>{}</div>', live, SafeString(inside))


def _asked(task: Any) -> Run | str:
    if isinstance(task, str):
        return task
    described: Any = getattr(task, "task", None)
    if hasattr(described, "module_path"):
        return Run(str(task.id), described.module_path, tuple(task.args), dict(task.kwargs))
    return str(task.id)


def _newest(address: Address) -> dict[str, Any] | None:
    """The payload of the newest message about the task."""
    try:
        found = history.page(SYSTEM, history.Question(address, limit=1, type=TYPE)).messages
    except BusError:
        return None  # The channel went in this moment.
    payload: dict[str, Any] | None = msgspec.json.decode(found[0].frame)["payload"] if found else None
    return payload
