"""A filter for pages that show texts of the code, such as docstrings and errors."""

from __future__ import annotations

import re

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()
_CODE = re.compile(r"(`+)(.+?)\1")


@register.filter
def marked(text: str) -> SafeString:
    """``text`` as HTML. Text between back ticks becomes ``<code>``, and everything is escaped."""
    pieces: list[tuple[str | SafeString]] = []
    end = 0
    for found in _CODE.finditer(text):
        pieces += [(text[end : found.start()],), (format_html("<code>{}</code>", found[2]),)]
        end = found.end()
    return format_html_join("", "{}", [*pieces, (text[end:],)])
