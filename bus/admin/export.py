"""Export of messages as CSV or JSON Lines.

The export streams pages by id, so that a million messages need no extra memory.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from ..log.pages import FrameBytes
from ..models import Message, wire_time

#: Messages in memory at a time, and their bytes.
PAGE, PAGE_BYTES = 500, 4 * 1024 * 1024
COLUMNS = ("timestamp", "room", "channel", "seq", "id", "type", "from", "message", "payload")

#: A spreadsheet runs a cell that begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(request: HttpRequest, rows: QuerySet[Message], form: str) -> StreamingHttpResponse:
    """Return an attachment with the messages of ``rows``, newest first. ``form`` is a key of :data:`FORMATS`."""
    write, content_type = FORMATS[form]
    response = StreamingHttpResponse(
        _later(rows, write) if isinstance(request, ASGIRequest) else _now(rows, write), content_type=content_type
    )
    name = f"messages-{timezone.now():%Y%m%d-%H%M%S}.{form}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "no-store"
    # GZipMiddleware would make each page a separate gzip stream, and browsers keep only the first.
    response.headers["Content-Encoding"] = "identity"
    return response


def _now(rows: QuerySet[Message], write: Callable[[Sequence[Message], bool], str]) -> Iterator[str]:
    last: int | None = None
    while last is None or last:
        page = _page(rows, last)
        yield write(page, last is None)
        last = page[-1].pk if page else 0


async def _later(rows: QuerySet[Message], write: Callable[[Sequence[Message], bool], str]) -> AsyncIterator[str]:
    last: int | None = None
    while last is None or last:
        text, last = await sync_to_async(_written, thread_sensitive=False)(rows, write, last)
        yield text


def _written(
    rows: QuerySet[Message], write: Callable[[Sequence[Message], bool], str], last: int | None
) -> tuple[str, int]:
    """Read and write one page in any thread. Close the thread's database connection afterwards."""
    try:
        page = _page(rows, last)
        return write(page, last is None), page[-1].pk if page else 0
    finally:
        connection.close()


def _page(rows: QuerySet[Message], last: int | None) -> list[Message]:
    """Return the next messages: as many as :data:`PAGE_BYTES` allows, but at least one."""
    rows = rows.order_by("-id") if last is None else rows.order_by("-id").filter(id__lt=last)
    keys: list[int] = []
    total = 0
    for key, size in rows.annotate(size=FrameBytes("frame")).values_list("id", "size")[:PAGE]:
        total += size
        if total > PAGE_BYTES and keys:
            break
        keys.append(key)
    return list(rows.filter(id__in=keys))


def _json_lines(page: Sequence[Message], first: bool) -> str:
    return "".join(f"{message.line()}\n" for message in page)


def _csv(page: Sequence[Message], first: bool) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    if first:
        writer.writerow(COLUMNS)
    for message in page:
        frame = message.as_dict()
        writer.writerow(
            [
                wire_time(message.created_at),
                frame.get("room"),
                frame.get("channel"),
                message.seq,
                _cell(message.uid),
                _cell(message.type),
                _cell(message.sender),
                _cell(frame.get("message", "")),
                _cell(frame.get("payload", {})),
            ]
        )
    return out.getvalue()


def _cell(value: Any) -> str:
    """Return a value as text that a spreadsheet shows and does not run."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA) else text


FORMATS: dict[str, tuple[Callable[[Sequence[Message], bool], str], str]] = {
    "csv": (_csv, "text/csv; charset=utf-8"),
    "jsonl": (_json_lines, "application/x-ndjson"),
}
