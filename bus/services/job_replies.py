"""The reply to a question that was asked with a job."""

from __future__ import annotations

from ..log import Entry


def reply_of_job(channel_id: int, seq: int, *, worker: str, result: bytes | None, error: str | None) -> list[Entry]:
    """Return the entries that answer the question of a job's message, for the transaction of the job's end.

    ``worker`` is the client that ended the job, ``result`` its raw JSON, and ``error`` says why there is no result. Without an
    open question there are no entries.
    """
    return []
