"""The configuration of the app ``telemetry``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from django.apps import AppConfig, apps

if TYPE_CHECKING:
    from bus.node import Node
    from bus.protocol.limits import TokenBucket


class TelemetryConfig(AppConfig):
    """``telemetry``: events of the bus and of clients, as a stream."""

    name = "telemetry"
    verbose_name = "ArqonBus telemetry"

    def ready(self) -> None:
        """Connect the bus's signals, and serve the telemetry frames of its socket."""
        from bus.protocol.inbound import KIND_TELEMETRY

        from . import contract, receivers, services

        #: The rate limit of activity events, for each node of this process.
        self.meters: WeakKeyDictionary[Node, TokenBucket] = WeakKeyDictionary()
        apps.get_app_config("bus").kinds[KIND_TELEMETRY] = services.accept  # type: ignore[attr-defined]
        receivers.connect()
        contract.describe()
