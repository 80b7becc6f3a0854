"""What ``bus/decisions.html`` needs. A project includes that template and loads nothing."""

from __future__ import annotations

from typing import Any

from django import template

from ..pages import decisions

register = template.Library()


@register.simple_tag(takes_context=True)
def decisions_of_visitor(context: template.Context, place: str = "") -> dict[str, Any]:
    """Return the decisions that the visitor of the page may make, in the channel or room ``place`` or everywhere."""
    request = context.get("request")
    if request is None:
        raise template.TemplateSyntaxError(
            "bus/decisions.html needs the request: render the page with `render(request, ...)`, and have the context processor "
            "django.template.context_processors.request."
        )
    place = place or ""
    return decisions.context(request, place, **decisions.note_for(request, place))
