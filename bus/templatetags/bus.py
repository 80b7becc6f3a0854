"""The tags of live pages (docs/live-pages.md)."""

from __future__ import annotations

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..live.looks import Look
from ..live.positions import Position, log_address, read_position

register = template.Library()

#: Where the fragments of new messages go: behind those that are there, before them, or in their place.
SWAPS = ("beforeend", "afterbegin", "innerHTML")


@register.simple_tag
def bus_live(
    address: str,
    at: Position | str,
    template_name: str,
    *,
    name: str = "",
    types: str = "",
    per: str = "",
    swap: str = "beforeend",
) -> SafeString:
    """The attributes of an element that shows the messages of a channel from ``at`` on.

    ``at`` is a position of the channel (``bus.live.position``). ``template_name`` renders a message; with ``#row`` at its end,
    a partial or block of it does. ``name`` is the template's variable for the payload. ``types`` are the types of messages
    that it shows, with spaces between them; all by default. ``per="user"`` renders for each viewer.

    Raises ``TemplateSyntaxError`` for wrong arguments, and ``TemplateDoesNotExist``.
    """
    where = str(log_address(address))
    if isinstance(at, Position) and at.address != where:
        raise template.TemplateSyntaxError(f"The position of bus_live is one of {at.address}, and not of {where}.")
    if read_position(str(at)) is None:
        raise template.TemplateSyntaxError(
            f"bus_live needs a position of {where}, from `with position(…) as at`, and not {str(at)[:40]!r}."
        )
    if swap not in SWAPS:
        raise template.TemplateSyntaxError(f"The swap of bus_live must be one of {', '.join(SWAPS)}.")
    if per not in ("", "user"):
        raise template.TemplateSyntaxError('bus_live takes only per="user".')
    look = Look.here(where, template_name, name, per_user=per == "user", types=str(types).split())
    look.check()
    url = f"{reverse('bus:live', args=[look.sign()])}?at={at}"
    # The names with `data-` are htmx 2's, and htmx 4 ignores them.
    return format_html(
        'data-bus-live="{url}" hx-sse:connect="{url}" hx-ext="sse" data-sse-connect="{url}" data-sse-swap="message" '
        'hx-swap="{swap}"',
        url=url,
        swap=swap,
    )
