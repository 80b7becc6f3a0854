"""The error of a run that said that it failed."""

from __future__ import annotations

from ..errors import ArqonBusError


class RunFailed(ArqonBusError):
    """The agent's run ended with an error event. The text of the error is the framework's."""
