"""The answers to frames that could not be served."""

from __future__ import annotations

import logging

from django.db import Error as DatabaseError

from ..monitoring.failures import reported
from ..node.threads import store_error
from ..protocol.errors import SLOW, BusError, Closing
from ..protocol.state import Ended, State
from .connection import Connection

logger = logging.getLogger("arqonbus.connection")


def failed(connection: Connection, problem: Exception, request_id: str | None) -> None:
    """Answer a frame with the id ``request_id`` that met ``problem``. An unexpected one is logged."""
    if isinstance(problem, BusError):
        connection.error(problem, getattr(problem, "request_id", None) or request_id)
    elif isinstance(problem, Closing):
        connection.close(problem.close_code, problem.error)
    elif isinstance(problem, DatabaseError):
        connection.error(store_error(problem), request_id)
    elif isinstance(problem, Ended):
        logger.debug("%s ended while a frame of it was served", connection.label, extra=connection.fields("ended"))
    else:
        error = reported(logger, "a frame failed", problem=problem, **connection.fields("internal_error"))
        if connection.client.state is State.JOINING:
            # A client that is half registered cannot go on; it can come back.
            connection.close(SLOW, error)
        else:
            connection.error(error, request_id)
